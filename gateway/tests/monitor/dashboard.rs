//! The Grafana dashboard: its queries as Grafana sends them, and those parts of its layout that need no
//! Grafana.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::text;

/// A query of a panel.
#[derive(Clone)]
pub(crate) struct Query {
    /// The title of the panel.
    pub(crate) panel: String,
    /// The expression, with Grafana's variables.
    pub(crate) expr: String,
}

impl Query {
    /// The expression with its variables replaced as Grafana does; `instances` are the chosen ones.
    pub(crate) fn filled_in(&self, instances: &[String]) -> String {
        let instances: Vec<String> = instances.iter().map(|instance| instance.replace('.', r"\\.")).collect();
        let filled = self
            .expr
            .replace("$__rate_interval", "10s")
            .replace("$function", ".*")
            .replace("$instance", &format!("({})", instances.join("|")));
        assert!(!filled.contains('$'), "{}: an unknown variable in {filled}", self.panel);
        filled
    }
}

/// The queries of all panels.
pub(crate) fn queries() -> Vec<Query> {
    let mut queries = vec![];
    for panel in panels() {
        for target in list(&panel["targets"]) {
            queries.push(Query { panel: string(&panel["title"]), expr: string(&target["expr"]) });
        }
    }
    queries
}

fn dashboard() -> Value {
    serde_json::from_str(&text("monitor/grafana-dashboard.json")).expect("JSON")
}

/// All panels, including rows.
fn panels() -> Vec<Value> {
    list(&dashboard()["panels"]).to_vec()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The metric names in an expression or a document: words with their prefixes.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_word(c));
    let is_metric = |word: &&str| word.starts_with("gateway_") || word.starts_with("process_");
    let family = |word: &str| {
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
        histogram.filter(|name| name.ends_with("_seconds")).unwrap_or(word).to_owned()
    };
    words.filter(is_metric).map(family).collect()
}

#[test]
fn grafana_can_import_the_dashboard() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64() >= Some(38));
    assert!(dashboard["id"].is_null(), "Grafana gives it one");
    let inputs: Vec<String> =
        list(&dashboard["__inputs"]).iter().map(|input| string(&input["name"])).collect();
    assert_eq!(inputs, ["DS_PROMETHEUS"]);
    let variables = list(&dashboard["templating"]["list"]);
    let names: Vec<String> = variables.iter().map(|variable| string(&variable["name"])).collect();
    assert_eq!(names, ["function", "instance"]);
    assert!(variables.iter().all(|variable| variable["multi"] == true && variable["includeAll"] == true));
    let panels = panels();
    let of_panels = panels.iter().flat_map(|panel| list(&panel["targets"]).iter().chain([panel]));
    let sources = of_panels.chain(variables).filter(|value| value["type"] != "row");
    assert!(sources.clone().count() > 50);
    for value in sources {
        assert_eq!(value["datasource"]["uid"], "${DS_PROMETHEUS}", "{value}");
    }
}

#[test]
fn panels_have_units_and_legends_and_do_not_overlap() {
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels() {
        let title = string(&panel["title"]);
        assert!(!title.is_empty() && ids.insert(panel["id"].as_u64()), "{title}: no title, or an id twice");
        let side =
            |name: &str| panel["gridPos"][name].as_u64().unwrap_or_else(|| panic!("{title}: no {name}"));
        let (x, y, w, h) = (side("x"), side("y"), side("w"), side("h"));
        assert!(x + w <= 24 && w > 0 && h > 0, "{title} is beside the grid");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{title} is over another at {cell:?}");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        assert!(!list(&panel["targets"]).is_empty(), "{title} has no query");
        for target in list(&panel["targets"]) {
            assert!(!string(&target["legendFormat"]).is_empty(), "{title} has no legend");
        }
    }
}

#[test]
fn the_dashboard_shows_every_metric_of_the_gateway_and_no_other() {
    let document = text("docs/metrics.md");
    let (gateway, _) = document.split_once("## fwatchdog").expect("two parts");
    let known: BTreeSet<String> = metrics(gateway).into_iter().filter(|name| name != "process_").collect();
    let shown: BTreeSet<String> = queries().iter().flat_map(|query| metrics(&query.expr)).collect();
    let own: BTreeSet<String> = shown.iter().filter(|name| name.starts_with("gateway_")).cloned().collect();
    assert_eq!(own, known);
    assert!(shown.contains("process_resident_memory_bytes"));
}

#[test]
fn the_test_replaces_variables_as_grafana_does() {
    let query = Query {
        panel: "one".to_owned(),
        expr: r#"rate(x{function_name=~"$function",instance=~"$instance"}[$__rate_interval])"#.to_owned(),
    };
    let filled = query.filled_in(&["10.0.0.1:80".to_owned(), "b:80".to_owned()]);
    assert_eq!(filled, r#"rate(x{function_name=~".*",instance=~"(10\\.0\\.0\\.1:80|b:80)"}[10s])"#);
}
