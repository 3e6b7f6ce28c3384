//! The engine stands still and comes back; what the gateway asks of it.

use std::time::{Duration, Instant};

use testkit::engine::Engine;
use testkit::{eventually, variable};

use crate::lab::{Between, Gateway, PATIENCE, cat, remove};

/// The gateway gives the engine 3 s for an answer, and looks at it every second.
const NOTICED: Duration = Duration::from_secs(5);
const ENGINE_TIME: Duration = Duration::from_secs(3);

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_known_function_goes_on_answering_while_the_engine_stands_still() {
    let engine = Engine::connect();
    if !engine.is_private() {
        return eprintln!("skipped: this engine is not the tests' own, it must not be stopped");
    }
    let gateway = Gateway::start(&engine, "e2e-degraded");
    let service = cat(&engine, "e2e-known").create();
    service.wait_running(1);
    gateway.wait_callable("e2e-known");
    assert_eq!(gateway.metrics().value("gateway_provider_up", &[]), Some(1.0));

    let span = variable("FAAS_FROZEN_SECONDS").and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let paused = engine.pause();
    let started = Instant::now();
    let mut slowest = Duration::ZERO;
    let (mut calls, mut client) = (0, gateway.client());
    while started.elapsed() < span.unwrap_or(NOTICED) {
        let began = Instant::now();
        let reply = client.request().method("POST").path("/function/e2e-known").body("still here?").send();
        let reply = reply.expect("an answer");
        assert_eq!((reply.status, &*reply.text()), (200, "still here?"));
        (calls, slowest) = (calls + 1, slowest.max(began.elapsed()));
    }
    gateway.wait_health("degraded: ");
    let health = gateway.health();
    assert_eq!(gateway.metrics().value("gateway_provider_up", &[]), Some(0.0));
    let began = Instant::now();
    assert_eq!(gateway.call("e2e-unknown", "").status, 503);
    assert!(began.elapsed() < ENGINE_TIME, "an unknown name took {:?}", began.elapsed());
    println!("{calls} calls with the engine stopped, the slowest {slowest:?}; {}", health.trim());
    drop(paused);

    println!("recovered {:?} later", gateway.wait_health("ok"));
    assert_eq!(gateway.metrics().value("gateway_provider_up", &[]), Some(1.0));
    let after = cat(&engine, "e2e-after").create();
    after.wait_running(1);
    gateway.wait_callable("e2e-after");
    assert_eq!(gateway.call("e2e-after", "new").text(), "new");
    remove(&[&service, &after, &gateway.service]);
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn unknown_names_cost_at_most_one_look_a_second() {
    const SPAN: Duration = Duration::from_secs(5);
    let engine = Engine::connect();
    let between = Between::start(&engine);
    let gateway = Gateway::start_with(&engine, "e2e-looks", between.path(), |service| service);
    let count = |during: &mut dyn FnMut()| {
        let (before, started) = (between.looks(), Instant::now());
        while started.elapsed() < SPAN {
            during();
        }
        let after = between.looks();
        (after.0 - before.0, after.1 - before.1)
    };
    // Until the gateway has settled on its slowest pace.
    eventually(PATIENCE, || {
        let (before, _) = between.looks();
        std::thread::sleep(Duration::from_secs(1));
        let looks = between.looks().0 - before;
        if looks <= 2 { Ok(()) } else { Err(format!("{looks} looks in a second")) }
    });
    let quiet = count(&mut || std::thread::sleep(SPAN / 50));
    let mut calls = 0;
    let mut client = gateway.client();
    let busy = count(&mut || {
        let path = format!("/function/e2e-unknown-{calls}");
        let reply = client.request().path(path).send().expect("an answer");
        assert_eq!(reply.status, 404);
        calls += 1;
    });
    println!("looks (services, tasks) in {SPAN:?}: {quiet:?} by itself, {busy:?} with {calls} unknown names");
    let allowed = quiet.0 + SPAN.as_secs() as usize + 1;
    assert!(calls > 100 && busy.0 <= allowed && busy.1 <= allowed, "{calls} calls: {quiet:?} {busy:?}");
}
