//! Services whose tasks do not come up: each call is told why, in the engine's words.

use testkit::engine::Engine;

use crate::lab::{Gateway, PATIENCE, SHELL, remove, shell_image};
use crate::scaling::wait_ready;

/// More than the engine is asked about one by one.
const WITHOUT_IMAGE: usize = 9;

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn every_service_that_cannot_start_says_why() {
    let engine = Engine::connect();
    shell_image(&engine);
    let gateway = Gateway::start(&engine, "e2e-broken-gateway");
    let names: Vec<String> = (0..WITHOUT_IMAGE).map(|number| format!("e2e-no-image{number}")).collect();
    let mut services: Vec<_> = names
        .iter()
        .map(|name| engine.service(name, "localhost/faas-test/none").replicas(0).create())
        .collect();
    let broken = |name: &str, entrypoint: &str| {
        let service = engine.service(name, SHELL).without_health_check().replicas(0);
        service
            .arg("--restart-delay=1s")
            .arg("--limit-memory=16m")
            .arg(format!("--entrypoint={entrypoint}"))
            .create()
    };
    services.push(broken("e2e-crashes", "sh -c 'exit 3'"));
    services.push(broken("e2e-ends", "sh -c 'exit 0'"));
    services.push(broken("e2e-no-command", "/does/not/exist"));
    services.push(broken("e2e-memory", "sh -c 'busybox tail /dev/zero'"));
    services.iter().for_each(|service| wait_ready(&gateway, service.name(), 0.0));
    std::thread::scope(|scope| {
        let call = |name: &str| {
            gateway.client().request().path(format!("/function/{name}")).timeout(2 * PATIENCE).send()
        };
        let calls: Vec<_> = services
            .iter()
            .map(|service| (service.name(), scope.spawn(move || call(service.name()))))
            .collect();
        for (name, reply) in calls {
            let reply = reply.join().expect("a call that ends").expect("an answer");
            let text = reply.text();
            println!("{} {}", reply.status, text.trim());
            assert_eq!(
                (reply.status, reply.header("x-gateway-error")),
                (503, Some("cannot_start")),
                "{text}"
            );
            let words: &[&str] = match name {
                "e2e-crashes" => &["non-zero exit (3)"],
                "e2e-ends" => &["ended by itself with code 0"],
                "e2e-no-command" => &["/does/not/exist"],
                "e2e-memory" => &["non-zero exit (137)"],
                _ => &["No such image", "failed to resolve reference"],
            };
            assert!(words.iter().any(|words| text.contains(words)), "{name}: {text}");
        }
    });
    let all: Vec<_> = services.iter().chain([&gateway.service]).collect();
    remove(&all);
}
