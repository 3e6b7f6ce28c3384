//! The files of `monitor/`: Prometheus's own checks, cases for each alert, and the table in the document.

use std::collections::BTreeSet;
use std::process::Command;

use yaml_rust2::Yaml;

use crate::{alerts, items, repository, rules, text, yaml};

#[test]
fn promtool_passes_configuration_rules_and_cases() {
    if !testkit::is_installed("promtool") {
        return;
    }
    for (what, file) in
        [("check config", "prometheus"), ("check rules", "alerts"), ("test rules", "alerts_test")]
    {
        let file = repository(&format!("monitor/{file}.yml"));
        let output = Command::new("promtool").args(what.split(' ')).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "promtool {what} {}: {said}", file.display());
    }
}

/// The document adds a password for the job `gateway`, and an Alertmanager.
#[test]
fn the_configuration_of_the_document_can_be_added() {
    if !testkit::is_installed("promtool") {
        return;
    }
    let blocks = testkit::document::blocks(&text("docs/monitoring.md")).expect("a document");
    let added: Vec<_> = blocks.iter().filter(|block| block.language == "yaml").collect();
    assert_eq!(added.len(), 2);
    let (of_job, of_file) = (&added[0].text, &added[1].text);
    let job = "  - job_name: gateway\n";
    let configuration = text("monitor/prometheus.yml").replace(job, &format!("{job}{of_job}")) + of_file;
    assert!(
        configuration.contains("basic_auth:") && configuration.contains("alertmanagers:"),
        "{configuration}"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, configuration).unwrap();
    std::fs::copy(repository("monitor/alerts.yml"), dir.path().join("alerts.yml")).unwrap();
    let output = Command::new("promtool").args(["check", "config"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
}

#[test]
fn each_alert_has_a_case_where_it_fires_and_one_where_it_does_not() {
    let (mut fires, mut is_quiet) = (BTreeSet::new(), BTreeSet::new());
    for group in items(&yaml("monitor/alerts_test.yml")["tests"]) {
        assert!(!items(&group["input_series"]).is_empty(), "no series: {:?}", group["name"]);
        for case in items(&group["alert_rule_test"]) {
            let name = case["alertname"].as_str().expect("a name").to_owned();
            let expected = case["exp_alerts"].as_vec().unwrap_or_else(|| panic!("{name}: no exp_alerts"));
            if expected.is_empty() {
                is_quiet.insert(name)
            } else {
                fires.insert(name)
            };
        }
    }
    let alerts: BTreeSet<String> = alerts().into_iter().collect();
    assert_eq!(fires, alerts, "cases where it fires, and alerts");
    assert_eq!(is_quiet, alerts, "cases where it does not, and alerts");
}

#[test]
fn each_alert_has_a_duration_a_severity_and_a_summary() {
    for rule in rules() {
        let name = rule["alert"].as_str().expect("a name").to_owned();
        assert!(rule["for"].as_str().is_some(), "{name} has no `for`");
        let severity = rule["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("warning" | "critical")), "{name}: {severity:?}");
        for annotation in ["summary", "description"] {
            let text = rule["annotations"][annotation].as_str().unwrap_or_default();
            assert!(text.len() > 15, "{name} has no {annotation}");
        }
        // Metrics of Prometheus itself.
        let expr = rule["expr"].as_str().expect("an expression");
        assert!(expr.contains(r#"job="gateway""#), "{name} looks at others too: {expr}");
    }
}

#[test]
fn the_document_lists_the_alerts_in_their_order() {
    let document = text("docs/monitoring.md");
    let (_, table) = document.split_once("| alert |").expect("a table of alerts");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("| "));
    let cells = rows.map(|row| row.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`']).to_owned()));
    let told: Vec<(String, String)> =
        cells.map(|mut row| (row.next().unwrap(), row.next().unwrap())).collect();
    let string = |value: &Yaml| value.as_str().unwrap_or_default().to_owned();
    let there: Vec<_> =
        rules().iter().map(|rule| (string(&rule["alert"]), string(&rule["labels"]["severity"]))).collect();
    assert_eq!(told, there);
}
