//! A real Alertmanager between a real Prometheus and a gateway: a firing alert keeps its replicas.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{Bin, Process, Running, eventually, http};

use crate::prometheus::{Prometheus, checked_replace};
use crate::text;

/// How long an alert, or its end, may take to reach the gateway.
const ALERT_TIME: Duration = Duration::from_secs(60);

/// The gateway keeps a need for a minute; replicas that are there after it are there for the alert.
const BEYOND_A_MINUTE: Duration = Duration::from_secs(75);

/// How long the replicas may stay after the end of the alert: the minute, and steps of ten seconds.
const GONE_TIME: Duration = Duration::from_secs(180);

/// The old rule of the platform from which the labels come.
const RULES: &str = "groups:
  - name: openfaas
    rules:
      - alert: APIHighInvocationRate
        expr: sum(rate(gateway_function_invocation_total{code=\"200\"}[10s])) BY (function_name) > 5
        for: 1s
        labels:
          service: gateway
          severity: major
";

/// The function; its maximum of 15 makes a step of 3.
const NAME: &str = "one";

struct Alertmanager {
    process: Process,
    addr: SocketAddr,
}

impl Alertmanager {
    /// Starts Alertmanager with the configuration of the document; it sends to this gateway, and repeats each
    /// second.
    fn start(gateway: SocketAddr, password: &Path) -> Alertmanager {
        let bin = Bin::at("prometheus-alertmanager");
        let blocks = testkit::document::blocks(&text("docs/scaling.md")).expect("a document");
        let block = blocks.iter().find(|block| block.language == "yaml").expect("a configuration");
        let mut config = block.text.replace("func_gateway:8080", &gateway.to_string());
        config =
            checked_replace(&config, "/run/secrets/basic-auth-password", &password.display().to_string());
        for (name, time) in [("group_wait", "5s"), ("group_interval", "10s"), ("repeat_interval", "1m")] {
            config = checked_replace(&config, &format!("{name}: {time}\n"), &format!("{name}: 1s\n"));
        }
        let config = bin.file("alertmanager.yml", config);
        let data = bin.dir().join("data");
        let process = bin
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", data.display()))
            .arg("--cluster.listen-address=")
            .arg("--web.listen-address=127.0.0.1:0")
            .spawn();
        let addr = eventually(ALERT_TIME, || {
            let log = process.log();
            let line = log.lines().find(|line| line.contains(r#"msg="Listening on""#));
            let address = line.and_then(|line| line.split("address=").nth(1)?.split_whitespace().next());
            address.and_then(|text| text.parse().ok()).ok_or_else(|| process.report())
        });
        Alertmanager { process, addr }
    }

    /// The number of requests that the gateway answered with success.
    fn sent(&self) -> f64 {
        let reply = http::request(self.addr).path("/metrics").send();
        let reply = reply.unwrap_or_else(|error| panic!("{error}\n{}", self.process.report()));
        let text = reply.text();
        let of = |name: &str| -> f64 {
            let is_it = |line: &&str| line.starts_with(name) && line.contains("integration=\"webhook\"");
            let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
            text.lines().filter(is_it).filter_map(value).sum()
        };
        of("alertmanager_notifications_total") - of("alertmanager_notifications_failed_total")
    }
}

fn wanted(gateway: &Running) -> f64 {
    let metrics = gateway.metrics("/metrics");
    metrics.value("gateway_service_count", &[("function_name", NAME)]).unwrap_or_default()
}

#[track_caller]
fn wait_wanted(gateway: &Running, want: f64, time: Duration) {
    eventually(time, || match wanted(gateway) {
        count if count == want => Ok(()),
        count => Err(format!("{count} replicas, not {want}\n{}", gateway.log())),
    });
}

#[test]
fn replicas_for_an_alert_are_kept_while_it_fires() {
    if !testkit::is_installed("prometheus") || !testkit::is_installed("prometheus-alertmanager") {
        return;
    }
    let labels = json!({ "com.openfaas.scale.max": "15" });
    let functions = json!({ "functions": [{ "name": NAME, "fprocess": "cat", "labels": labels }] });
    let bin = Bin::gateway().env("provider", "local");
    let file = bin.file("functions.json", functions.to_string());
    bin.file("basic-auth-user", "admin");
    let password = bin.file("basic-auth-password", "a password");
    let secrets = bin.dir().to_owned();
    let bin = bin.env("basic_auth", "true").env("secret_mount_path", secrets);
    let gateway = bin.env("functions_file", file).start();
    let alertmanager = Alertmanager::start(gateway.addr(), &password);
    let _prometheus = Prometheus::with_rules(gateway.addr(), RULES, alertmanager.addr);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = OnDrop(&is_over);
        scope.spawn(|| {
            let mut client = gateway.client();
            while !is_over.load(Relaxed) {
                let path = format!("/function/{NAME}");
                assert_eq!(client.request().path(path).send().expect("an answer").status, 200);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        wait_wanted(&gateway, 4.0, ALERT_TIME);
        let (began, sent) = (Instant::now(), alertmanager.sent());
        while began.elapsed() < BEYOND_A_MINUTE || alertmanager.sent() < sent + 10.0 {
            assert_eq!(wanted(&gateway), 4.0, "{}", gateway.log());
            assert!(began.elapsed() < BEYOND_A_MINUTE + ALERT_TIME, "it is not repeated");
            std::thread::sleep(Duration::from_millis(500));
        }
        println!("4 replicas are kept over {} requests", alertmanager.sent() - sent);
    });
    wait_wanted(&gateway, 1.0, GONE_TIME);
}

/// Ends the load, also after a failed check.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
