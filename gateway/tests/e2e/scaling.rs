//! Services that are scaled by the gateway: from nothing, with the load, and to nothing again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use testkit::engine::{Engine, Service, Task};
use testkit::{eventually, http, variable};

use crate::lab::{Gateway, PATIENCE, SHELL, cat, remove, shell, shell_image};

/// Cold starts that are measured; `FAAS_COLD_STARTS` says otherwise.
const COLD_STARTS: usize = 3;

/// Until a new gateway has taken away what a load had needed: a minute, a step each ten seconds, and time to spare.
const FLOOR_TIME: Duration = Duration::from_secs(150);

/// Connections on which a POST of `body` was sent.
fn send(gateway: &Gateway<'_>, function: &str, count: usize) -> Vec<http::Connection> {
    let request =
        format!("POST /function/{function} HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello");
    let open = || http::Connection::open(gateway.address).expect("the gateway takes connections");
    let mut connections: Vec<_> = (0..count).map(|_| open()).collect();
    connections.iter_mut().for_each(|connection| connection.send(&request).expect("the request is sent"));
    connections
}

/// Waits until a gauge of a function is as `is` wants it.
#[track_caller]
fn wait_gauge(gateway: &Gateway<'_>, function: &str, name: &str, is: impl Fn(f64) -> bool) {
    eventually(PATIENCE, || match gateway.metrics().value(name, &[("function_name", function)]) {
        Some(value) if is(value) => Ok(()),
        other => Err(format!("{name} of {function} is {other:?}")),
    });
}

/// Waits until the gateway knows a function, and that it has so many replicas that can be called.
#[track_caller]
pub(crate) fn wait_ready(gateway: &Gateway<'_>, function: &str, count: f64) {
    wait_gauge(gateway, function, "gateway_service_ready", |ready| ready == count);
}

/// Waits until the service's spec has so many replicas, and tells how long that took.
#[track_caller]
pub(crate) fn wait_wanted(engine: &Engine, service: &Service<'_>, count: usize) -> Duration {
    let began = Instant::now();
    let format = "{{.Spec.Mode.Replicated.Replicas}}";
    eventually(PATIENCE, || {
        match engine.docker(&["service", "inspect", "--format", format, service.name()]) {
            wanted if wanted == count.to_string() => Ok(()),
            wanted => Err(format!("{} has {wanted} replicas, not {count}", service.name())),
        }
    });
    began.elapsed()
}

/// Runs `during` while so many clients call a function without a pause; all of their calls succeed.
pub(crate) fn under_load(gateway: &Gateway<'_>, function: &str, clients: usize, during: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    let client = || {
        let mut client = gateway.client();
        while !is_over.load(Relaxed) {
            let request = client.request().method("POST").path(format!("/function/{function}"));
            let reply = request.body("hello").timeout(2 * PATIENCE).send().expect("an answer");
            assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(during));
        is_over.store(true, Relaxed); // also when a check in there failed
        clients.into_iter().for_each(|client| client.join().expect("a client whose calls succeed"));
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_service_follows_its_load_and_a_deployment_in_between_is_corrected() {
    let engine = Engine::connect();
    let gateway = Gateway::start(&engine, "e2e-load-gateway");
    let service = shell(&engine, "e2e-load", "sleep 0.2; cat").label("com.openfaas.scale.target", "1");
    let service = service.label("com.openfaas.scale.max", "3").create();
    let global = shell(&engine, "e2e-global", "sleep 0.2; cat").label("com.openfaas.scale.target", "1");
    let global = global.arg("--mode=global").create();
    gateway.wait_callable(service.name());
    gateway.wait_callable(global.name());
    under_load(&gateway, service.name(), 6, || {
        println!("wanted 3 replicas after {:?}", wait_wanted(&engine, &service, 3));
        service.wait_running(3);
        service.scale(1); // as `docker stack deploy` does where the file says nothing of replicas
        println!("wanted 3 replicas again after {:?}", wait_wanted(&engine, &service, 3));
        service.wait_running(3);
    });
    under_load(&gateway, global.name(), 6, || {
        wait_gauge(&gateway, global.name(), "gateway_function_inflight", |calls| calls >= 6.0);
    });
    // More than it needs, by hand: that is where it goes on from.
    service.scale(2);
    wait_ready(&gateway, service.name(), 2.0);
    let log = gateway.service.logs();
    assert!(!log.contains("`e2e-global`: from"), "a global service is left alone\n{log}");
    assert!(!log.contains("from 3 to 2 replicas"), "the change was not the gateway's\n{log}");
    remove(&[&service, &global, &gateway.service]);
}

/// What the gateway noted of the floor of a service.
fn note(engine: &Engine, service: &Service<'_>) -> String {
    let format = "{{index .Spec.Labels \"faas.scale.floor\"}}";
    engine.docker(&["service", "inspect", "--format", format, service.name()])
}

/// Ids of running tasks.
fn ids(tasks: Vec<Task>) -> BTreeSet<String> {
    tasks.into_iter().map(|task| task.id).collect()
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_service_without_labels_keeps_what_somebody_asked_for() {
    let engine = Engine::connect();
    let gateway = Gateway::start(&engine, "e2e-floor-gateway");
    // A database, say: nobody calls it over the gateway.
    let aside = shell(&engine, "e2e-floor-aside", "cat").replicas(3).create();
    let service = shell(&engine, "e2e-floor", "sleep 0.2; cat").replicas(2);
    let service = service.label("com.openfaas.scale.target", "1").create();
    aside.wait_running(3);
    let version = ["service", "inspect", "--format", "{{.Version.Index}}", aside.name()];
    let (before, first) = (engine.docker(&version), ids(service.wait_running(2)));
    wait_ready(&gateway, service.name(), 2.0);
    under_load(&gateway, service.name(), 4, || {
        wait_wanted(&engine, &service, 4);
        let four = ids(service.wait_running(4));
        assert!(four.is_superset(&first), "the note starts no task: {first:?} {four:?}");
        assert_eq!(note(&engine, &service), "2/4");
    });
    engine.kill_container(&gateway.task.container); // the next gateway finds the note
    gateway.wait_health("ok");
    let began = Instant::now();
    eventually(FLOOR_TIME, || match note(&engine, &service) {
        note if note == "2/2" => Ok(()),
        note => Err(format!("the note is {note}")),
    });
    println!("back at 2 replicas after {:?}", began.elapsed());
    service.wait_running(2);
    assert_eq!(engine.docker(&version), before, "nobody has written the other one");
    aside.wait_running(3);
    remove(&[&service, &aside, &gateway.service]);
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_service_without_calls_goes_to_zero_where_it_may() {
    let engine = Engine::connect();
    let gateway = Gateway::start(&engine, "e2e-idle-gateway");
    let service = cat(&engine, "e2e-idle").label("com.openfaas.scale.zero", "true");
    let service = service.label("com.openfaas.scale.zero-duration", "3s").create();
    let stays = cat(&engine, "e2e-stays").label("com.openfaas.scale.zero-duration", "3s").create();
    for _ in 0..2 {
        gateway.wait_callable(service.name());
        println!("no replica is wanted {:?} after the last call", wait_wanted(&engine, &service, 0));
        wait_ready(&gateway, service.name(), 0.0);
    }
    let reply = gateway.call(service.name(), "back again");
    assert_eq!((reply.status, reply.text().as_str()), (200, "back again"));
    assert!(reply.header("x-cold-start-ms").is_some());
    wait_ready(&gateway, stays.name(), 1.0);
    remove(&[&service, &stays, &gateway.service]);
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_thousand_calls_to_a_service_without_tasks_are_answered_after_one_start() {
    kit::sys::limits::raise_open_files(4096).expect("room for a thousand connections");
    let engine = Engine::connect();
    let gateway = Gateway::start(&engine, "e2e-zero-gateway");
    let name = "e2e-zero";
    let service = cat(&engine, name).replicas(0).label("com.openfaas.scale.target", "1000").create();
    wait_ready(&gateway, name, 0.0);
    let began = Instant::now();
    let mut connections = send(&gateway, name, 1000);
    let mut codes = std::collections::BTreeMap::new();
    for connection in &mut connections {
        let reply = connection.within(2 * PATIENCE).reply("POST").expect("an answer");
        *codes.entry(reply.status).or_insert(0) += 1;
    }
    println!("1,000 calls to no replica: {codes:?} in {:?}", began.elapsed());
    assert_eq!(codes.get(&200), Some(&1000), "{codes:?}\n{}", gateway.service.logs());
    assert_eq!(service.tasks().len(), 1, "one start");
    assert_eq!(gateway.service.logs().matches("from 0 to 1 replicas").count(), 1);
    remove(&[&service, &gateway.service]);
}

/// A program without a health check, whose task says that it runs five seconds before the program listens.
#[test]
#[ignore = "needs an engine: make test-e2e"]
fn calls_to_no_task_wait_until_the_program_in_it_listens() {
    const CALLS: usize = 20;
    let engine = Engine::connect();
    let gateway = Gateway::start(&engine, "e2e-late-gateway");
    let program = "echo ok >/dev/shm/index.html; sleep 5; exec busybox httpd -f -p 8080 -h /dev/shm";
    shell_image(&engine);
    let service = engine.service("e2e-late", SHELL).arg(format!("--entrypoint=sh -c '{program}'"));
    let service = service.without_health_check().replicas(0).create();
    wait_ready(&gateway, service.name(), 0.0);
    std::thread::scope(|scope| {
        let call = || gateway.client().request().path("/function/e2e-late/").timeout(2 * PATIENCE).send();
        let calls: Vec<_> = (0..CALLS).map(|_| scope.spawn(call)).collect();
        for reply in calls {
            let reply = reply.join().expect("a call that ends").expect("an answer");
            assert_eq!((reply.status, reply.text().as_str()), (200, "ok\n"), "{}", gateway.service.logs());
        }
    });
    remove(&[&service, &gateway.service]);
}

/// The engine's own time is from the service's update to its task running, by the engine's clock.
#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_cold_start_takes_little_more_than_the_engine_does() {
    let rounds = variable("FAAS_COLD_STARTS").and_then(|text| text.parse().ok());
    let engine = Engine::connect();
    let gateway = Gateway::start(&engine, "e2e-cold-gateway");
    for (name, health) in [("e2e-cold", "--no-healthcheck"), ("e2e-cold-checked", "--health-interval=500ms")]
    {
        let service = engine.service(name, crate::lab::CAT);
        let service = match health {
            "--no-healthcheck" => service.without_health_check(),
            interval => service.arg(interval),
        };
        let service = service.replicas(0).create();
        wait_ready(&gateway, name, 0.0);
        let (mut ours, mut engines) = (Vec::new(), Vec::new());
        for _ in 0..rounds.unwrap_or(COLD_STARTS) {
            let began = Instant::now();
            let reply = gateway.call(name, "hello");
            ours.push(began.elapsed());
            assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
            assert!(reply.header("x-cold-start-ms").is_some());
            let task = service.wait_running(1).remove(0);
            let updated = engine.docker(&["service", "inspect", "--format", "{{.UpdatedAt.UnixNano}}", name]);
            let running = ["inspect", "--type=task", "--format", "{{.Status.Timestamp.UnixNano}}", &task.id];
            let [updated, running]: [u64; 2] =
                [updated, engine.docker(&running)].map(|text| text.parse().expect("nanoseconds"));
            engines.push(Duration::from_nanos(running.saturating_sub(updated)));
            service.scale(0);
            wait_ready(&gateway, name, 0.0);
            let filter = format!("label=com.docker.swarm.service.name={name}");
            eventually(PATIENCE, || match engine.docker(&["ps", "--quiet", "--filter", &filter]) {
                left if left.is_empty() => Ok(()),
                left => Err(left),
            });
        }
        ours.sort_unstable();
        engines.sort_unstable();
        let of = |times: &[Duration]| (times[0], times[times.len() / 2], times[times.len() - 1]);
        println!("{} cold starts, {health}: least, median, most", ours.len());
        println!("  from the call to its answer          {:?}", of(&ours));
        println!("  engine, from update to running task  {:?}", of(&engines));
        remove(&[&service]);
    }
    remove(&[&gateway.service]);
}
