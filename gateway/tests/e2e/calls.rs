//! Services come and go, are functions or are not, and share the calls.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use testkit::engine::{Engine, Service};
use testkit::eventually;

use crate::lab::{CAT, Gateway, PATIENCE, cat, remove, shell};

/// From a task's state, or a service's removal, to what callers see of it.
const SOON: Duration = Duration::from_secs(1);

/// The same where the engine or this machine has other things to do.
const LATE: Duration = Duration::from_secs(10);

const ROUNDS: usize = 3;

/// How many calls two replicas share.
const CALLS: usize = 200;

fn curl(args: &[&str]) -> String {
    let output =
        Command::new("curl").args(["--silent", "--show-error", "--max-time", "20"]).args(args).output();
    let output = output.expect("curl is installed");
    assert!(output.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_service_without_any_label_is_called_with_curl_and_its_replicas_share_the_calls() {
    let engine = Engine::connect();
    let gateway = Gateway::start(&engine, "e2e-curl");
    let plain = cat(&engine, "e2e-catservice").create();
    let names = shell(&engine, "e2e-names", "echo $HOSTNAME").fixed(2).create();
    plain.wait_running(1);
    let url = format!("http://{}/", gateway.address);
    let by_path = curl(&["-d", "hello", &format!("{url}function/e2e-catservice")]);
    let by_header = curl(&["-d", "hello", "-H", "X-Function: e2e-catservice", &url]);
    assert_eq!((&*by_path, &*by_header), ("hello", "hello"));
    let labels = [("function_name", "e2e-catservice"), ("code", "200")];
    // A call is counted when its answer is out.
    eventually(PATIENCE, || match gateway.metrics().value("gateway_function_invocation_total", &labels) {
        Some(2.0) => Ok(()),
        other => Err(format!("{other:?} calls are counted")),
    });

    names.wait_running(2);
    wait_ready(&gateway, "e2e-names", 2.0);
    let mut counts = BTreeMap::new();
    let mut client = gateway.client();
    for _ in 0..CALLS {
        let reply = client.request().path("/function/e2e-names").send().expect("an answer");
        assert_eq!(reply.status, 200);
        *counts.entry(reply.text().trim().to_owned()).or_insert(0) += 1;
    }
    println!("calls per replica: {counts:?}");
    // A fair coin is further off once in a million runs.
    assert!(counts.len() == 2 && counts.values().all(|count| *count > CALLS * 3 / 10), "{counts:?}");
    names.scale(1);
    wait_ready(&gateway, "e2e-names", 1.0);
    remove(&[&plain, &names, &gateway.service]);
}

#[track_caller]
fn wait_ready(gateway: &Gateway<'_>, name: &str, count: f64) {
    eventually(PATIENCE, || {
        match gateway.metrics().value("gateway_service_ready", &[("function_name", name)]) {
            Some(ready) if ready == count => Ok(()),
            other => Err(format!("{other:?} of {count} are ready")),
        }
    });
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_new_service_is_callable_and_a_removed_one_is_unknown_within_a_second() {
    let engine = Engine::connect();
    let gateway = Gateway::start(&engine, "e2e-soon");
    let mut services = Vec::new(); // each is removed below; that its containers are gone is awaited at the end
    let mut delays = Vec::new();
    for round in 0..ROUNDS {
        let name = format!("e2e-soon-{round}");
        assert_eq!(gateway.call(&name, "").status, 404);
        let service = cat(&engine, &name).create();
        // A call from before the task runs waits for it, and is answered when it can be.
        gateway.wait_callable(&name);
        let callable = SystemTime::now();
        let task = service.wait_running(1).remove(0);
        let running = engine.docker(&[
            "inspect",
            "--type=task",
            "--format={{.Status.Timestamp.Format \"2006-01-02T15:04:05.000000000Z07:00\"}}",
            &task.id,
        ]);
        let running = since_epoch(&running);
        let callable = callable.duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
        let delay = callable.as_secs_f64() - running;
        println!("callable {delay:+.3} s after the task's `running`");

        service.remove();
        let removed = Instant::now();
        eventually(PATIENCE, || match gateway.call(&name, "") {
            reply if reply.status == 404 => Ok(()),
            reply => Err(format!("{} {}", reply.status, reply.text())),
        });
        let removal = removed.elapsed().as_secs_f64();
        println!("unknown {removal:.3} s after `docker service rm`");
        delays.push((delay, removal));
        let left = gateway.metrics().sum("gateway_function_invocation_total", &[("function_name", &name)]);
        assert_eq!(left, 0.0, "the series of a removed function go");
        services.push(service);
    }
    let is_within =
        |time: Duration| move |&&(delay, removal): &&(f64, f64)| delay.max(removal) < time.as_secs_f64();
    assert_eq!(delays.iter().filter(is_within(LATE)).count(), ROUNDS, "{delays:?}");
    assert!(delays.iter().filter(is_within(SOON)).count() > 0, "{delays:?}");
    remove(&[&gateway.service]);
}

/// The engine's time stamp in seconds after 1970.
fn since_epoch(stamp: &str) -> f64 {
    let output = Command::new("date").args(["--date", stamp, "+%s.%N"]).output().expect("date runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|error| panic!("`{stamp}` is `{text}`: {error}"))
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn labels_and_networks_say_what_is_a_function() {
    let engine = Engine::connect();
    let gateway = Gateway::start(&engine, "e2e-labels");
    let other = Network::create(&engine, "e2e-elsewhere");
    let excluded = cat(&engine, "e2e-excluded").label("function", "false").create();
    let ported = cat(&engine, "e2e-ported").label("faas.port", "9090").env("port", "9090").create();
    let alone = other.service(&engine, "e2e-alone");
    for service in [&excluded, &ported] {
        service.wait_running(1);
    }
    gateway.wait_callable("e2e-ported");
    let reply = gateway.call("e2e-ported", "by another port");
    assert_eq!((reply.status, &*reply.text()), (200, "by another port"));
    for name in ["e2e-excluded", "e2e-alone", "e2e-labels"] {
        let reply = gateway.call(name, "");
        let kind = reply.header("X-Gateway-Error").map(str::to_owned);
        assert_eq!((reply.status, kind.as_deref()), (404, Some("unknown_function")), "{name}");
    }
    // The label is a setting that may change while it runs.
    engine.docker(&["service", "update", "--detach", "--label-add=function=true", "e2e-excluded"]);
    let changed = Instant::now();
    gateway.wait_callable("e2e-excluded");
    println!("a changed label takes {:.3} s", changed.elapsed().as_secs_f64());
    remove(&[&excluded, &ported, &alone, &gateway.service]);
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn with_require_label_only_labelled_services_are_functions() {
    let engine = Engine::connect();
    let socket = engine.socket();
    let gateway =
        Gateway::start_with(&engine, "e2e-require", socket.as_ref(), |new| new.env("require_label", "true"));
    let labelled = cat(&engine, "e2e-labelled").label("function", "true").create();
    let plain = cat(&engine, "e2e-plain").create();
    for service in [&labelled, &plain] {
        service.wait_running(1);
    }
    gateway.wait_callable("e2e-labelled");
    assert_eq!(gateway.call("e2e-plain", "x").status, 404);
    remove(&[&labelled, &plain, &gateway.service]);
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_service_that_cannot_run_is_told_in_the_engines_words() {
    let engine = Engine::connect();
    let gateway = Gateway::start(&engine, "e2e-cannot");
    let nowhere = cat(&engine, "e2e-nowhere").arg("--constraint=node.labels.none==such").create();
    let reply = eventually(PATIENCE, || match gateway.call("e2e-nowhere", "") {
        reply if reply.status == 503 => Ok(reply),
        reply => Err(format!("{} {}", reply.status, reply.text())),
    });
    println!("{}", reply.text().trim());
    assert!(reply.text().contains("no suitable node"), "{}", reply.text());
    assert!(reply.header("Retry-After").is_some());
    let quote = cat(&engine, "e2e-quote").env("fprocess", "sh -c 'no end").create();
    let reply = eventually(PATIENCE, || match gateway.call("e2e-quote", "") {
        reply if reply.status == 503 => Ok(reply),
        reply => Err(format!("{} {}", reply.status, reply.text())),
    });
    println!("{}", reply.text().trim());
    assert_eq!(reply.header("X-Gateway-Error"), Some("cannot_start"));
    assert!(reply.text().contains("non-zero exit (2)"), "{}", reply.text());
    remove(&[&nowhere, &quote, &gateway.service]);
}

/// An overlay network that the gateway is not on; removed when dropped.
struct Network(&'static str);

impl Network {
    fn create(engine: &Engine, name: &'static str) -> Network {
        engine.docker(&["network", "create", "--driver=overlay", name]);
        Network(name)
    }

    /// A service on this network only.
    fn service<'a>(&self, engine: &'a Engine, name: &str) -> Service<'a> {
        let network = format!("--network={}", self.0);
        let interval = "--health-interval=200ms";
        engine.docker(&["service", "create", "--detach", &network, interval, "--name", name, CAT]);
        let service = engine.adopt(name);
        service.wait_running(1);
        service
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Refused while the engine still takes the last container from it.
        let remove = || Command::new("docker").args(["network", "rm", self.0]).output();
        let deadline = Instant::now() + PATIENCE;
        while remove().is_ok_and(|output| !output.status.success()) && Instant::now() < deadline {}
    }
}
