//! A real Prometheus on a free loopback port, with the files of `monitor/` little changed, and queries to it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use testkit::{Bin, Process, eventually, http, proc};

use crate::{alerts, text};

/// How long Prometheus may take to start, or to read its configuration again.
const START_TIME: Duration = Duration::from_secs(60);

/// A running Prometheus.
pub(crate) struct Prometheus {
    process: Process,
    addr: SocketAddr,
}

impl Prometheus {
    /// Starts Prometheus, which reads these gateways every second.
    pub(crate) fn start(gateways: &[SocketAddr]) -> Prometheus {
        let bin = Bin::at("prometheus");
        bin.file("alerts.yml", rules());
        let config = bin.file("prometheus.yml", configuration(gateways));
        let prometheus = Prometheus::run(bin, &config);
        // Now the port is known, so Prometheus can read itself too.
        let own = checked_replace(&configuration(gateways), "localhost:9090", &prometheus.addr.to_string());
        fs::write(config, own).unwrap();
        prometheus.await_ready();
        prometheus.process.signal(proc::SIGHUP);
        eventually(START_TIME, || match prometheus.is_up("prometheus") {
            true => Ok(()),
            false => Err(format!("does not read itself\n{}", prometheus.process.report())),
        });
        prometheus
    }

    /// Starts Prometheus with these rules; it reads a gateway every second and sends alerts to an
    /// Alertmanager.
    pub(crate) fn with_rules(gateway: SocketAddr, rules: &str, alertmanager: SocketAddr) -> Prometheus {
        let bin = Bin::at("prometheus");
        bin.file("rules.yml", rules);
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [rules.yml]\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: [\"{alertmanager}\"]}}]}}]}}\n\
             scrape_configs: [{{job_name: gateway, static_configs: [{{targets: [\"{gateway}\"]}}]}}]\n"
        );
        let config = bin.file("prometheus.yml", config);
        let prometheus = Prometheus::run(bin, &config);
        prometheus.await_ready();
        prometheus
    }

    /// Starts Prometheus with this configuration, and waits until its port is known.
    fn run(bin: Bin, config: &Path) -> Prometheus {
        let data = bin.dir().join("data");
        let bin = bin
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg("--web.listen-address=127.0.0.1:0");
        let process = bin.spawn();
        let addr = eventually(START_TIME, || {
            let log = process.log();
            // The kernel chooses the port; only the log tells it.
            let line = log.lines().find(|line| line.contains(r#"msg="Listening on""#));
            let address = line.and_then(|line| line.split("address=").nth(1)?.split_whitespace().next());
            address.and_then(|text| text.parse().ok()).ok_or_else(|| process.report())
        });
        Prometheus { process, addr }
    }

    fn await_ready(&self) {
        eventually(START_TIME, || match http::request(self.addr).path("/-/ready").send() {
            Ok(reply) if reply.status == 200 => Ok(()),
            other => Err(format!("{other:?}\n{}", self.process.report())),
        });
    }

    /// Whether a target of this job was read.
    pub(crate) fn is_up(&self, job: &str) -> bool {
        let values = self.ask(&format!("up{{job=\"{job}\"}} == 1"));
        values.is_ok_and(|values| !values.is_empty())
    }

    /// The answer of the API, or its error.
    pub(crate) fn api(&self, path: &str) -> Result<Value, String> {
        let reply = http::request(self.addr).path(path).send().map_err(|e| format!("{path}: {e}"))?;
        let answer: Value = serde_json::from_slice(&reply.body).map_err(|e| format!("{path}: {e}"))?;
        if answer["status"] == "success" {
            Ok(answer["data"].clone())
        } else {
            Err(format!("{path}: {answer}"))
        }
    }

    /// The current values of an expression.
    pub(crate) fn ask(&self, expr: &str) -> Result<Vec<f64>, String> {
        let data = self.api(&format!("/api/v1/query?query={}", encode(expr)))?;
        let results = data["result"].as_array().ok_or_else(|| format!("no vector: {data}"))?;
        let value = |result: &Value| result["value"][1].as_str().and_then(|text| text.parse().ok());
        results.iter().map(|result| value(result).ok_or_else(|| format!("no value: {result}"))).collect()
    }

    /// The firing alerts, each with its function or instance.
    pub(crate) fn firing(&self) -> Result<Vec<(String, String)>, String> {
        let data = self.api("/api/v1/alerts")?;
        let all = data["alerts"].as_array().ok_or_else(|| format!("no alerts: {data}"))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let about = |labels: &Value| text(&labels["function_name"]) + &text(&labels["instance"]);
        let firing = all.iter().filter(|alert| alert["state"] == "firing");
        Ok(firing.map(|alert| (text(&alert["labels"]["alertname"]), about(&alert["labels"]))).collect())
    }
}

/// `monitor/prometheus.yml` with the gateways' addresses in the place of the Swarm's names, read every
/// second.
fn configuration(gateways: &[SocketAddr]) -> String {
    let found = "    dns_sd_configs:
      - names: [tasks.gateway]
        type: A
        port: 8080
        refresh_interval: 5s
";
    let targets: Vec<String> = gateways.iter().map(|addr| format!("\"{addr}\"")).collect();
    let given = format!("    static_configs:\n      - targets: [{}]\n", targets.join(", "));
    let mut config = checked_replace(&text("monitor/prometheus.yml"), found, &given);
    for (name, seconds) in [("scrape_interval", 5), ("scrape_timeout", 4), ("evaluation_interval", 5)] {
        config = checked_replace(&config, &format!("  {name}: {seconds}s\n"), &format!("  {name}: 1s\n"));
    }
    config
}

/// `monitor/alerts.yml` with a second for each duration before an alert fires.
fn rules() -> String {
    let rules = text("monitor/alerts.yml");
    let is_wait = |line: &&str| line.trim_start().starts_with("for: ");
    assert_eq!(rules.lines().filter(is_wait).count(), alerts().len(), "one `for` for each alert");
    let shorten = |line| if is_wait(&line) { "        for: 1s" } else { line };
    rules.lines().map(|line| shorten(line).to_owned() + "\n").collect()
}

/// Replaces text that must occur exactly once.
#[track_caller]
pub(crate) fn checked_replace(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "`{from}` in\n{text}");
    text.replace(from, to)
}

fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}
