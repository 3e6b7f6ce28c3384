//! Services whose update fails, while the gateway would like to change the number of their replicas.

use std::time::{Duration, Instant};

use testkit::engine::{Engine, NewService, Service};
use testkit::{eventually, variable};

use crate::lab::{Gateway, SHELL, remove, shell_image};
use crate::scaling::{under_load, wait_ready, wait_wanted};

/// An image whose container ends a moment after its start.
const DIES: &str = "faas-test/dies";

/// How long a paused service is watched: longer than the minute after which an idle function used to be scaled down.
const PAUSED: Duration = Duration::from_secs(75);

/// The same, in seconds; a full run takes 600.
const ENV_PAUSED: &str = "FAAS_PAUSED_SECONDS";

/// How long an update and its rollback may take: each of its tasks is watched for `--update-monitor`.
const UPDATE_TIME: Duration = Duration::from_secs(90);

/// Four tasks of a function; an update of it counts as failed as soon as a task of it has ended.
fn four<'a>(engine: &'a Engine, name: &str, script: &str) -> NewService<'a> {
    shell_image(engine);
    let service = engine.service(name, SHELL).env("fprocess", &format!("sh -c '{script}'"));
    service.without_health_check().replicas(4)
}

fn build_dying_image(engine: &Engine) {
    let dir = tempfile::tempdir().expect("a directory for the image");
    let entry = "ENTRYPOINT [\"/bin/sh\", \"-c\", \"sleep 1; exit 1\"]";
    let text = format!("FROM {SHELL}\n{entry}\nHEALTHCHECK NONE\n");
    std::fs::write(dir.path().join("Dockerfile"), text).expect("a Dockerfile");
    engine.docker(&["build", "--quiet", "--tag", DIES, &dir.path().to_string_lossy()]);
}

/// A field of `docker service inspect`.
fn field(engine: &Engine, service: &Service<'_>, format: &str) -> String {
    engine.docker(&["service", "inspect", "--format", format, service.name()])
}

fn state(engine: &Engine, service: &Service<'_>) -> String {
    field(engine, service, "{{with .UpdateStatus}}{{.State}}{{end}}")
}

fn image(engine: &Engine, service: &Service<'_>) -> String {
    field(engine, service, "{{.Spec.TaskTemplate.ContainerSpec.Image}}")
}

fn wait_state(engine: &Engine, service: &Service<'_>, want: &str) {
    eventually(UPDATE_TIME, || match state(engine, service) {
        state if state == want => Ok(()),
        state => Err(format!("{} is `{state}`, not `{want}`", service.name())),
    });
}

fn update(engine: &Engine, service: &Service<'_>) {
    let image = format!("--image={DIES}");
    engine.docker(&["service", "update", "--detach", "--no-resolve-image", &image, service.name()]);
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_failed_update_is_rolled_back_though_the_load_doubles_meanwhile() {
    let engine = Engine::connect();
    let gateway = Gateway::start(&engine, "e2e-rollback-gateway");
    let service = four(&engine, "e2e-rollback", "sleep 0.2; cat");
    let service = service.label("com.openfaas.scale.target", "1").label("com.openfaas.scale.max", "8");
    let service = service.label("com.openfaas.scale.min", "4").arg("--update-failure-action=rollback");
    let service = service.arg("--restart-delay=1s").create();
    build_dying_image(&engine);
    service.wait_running(4);
    wait_ready(&gateway, service.name(), 4.0);
    let states = service.update_states();
    under_load(&gateway, service.name(), 4, || {
        update(&engine, &service);
        states.wait("updating", UPDATE_TIME);
        under_load(&gateway, service.name(), 4, || {
            // The gateway may write the service a moment later, which clears its state.
            states.wait("rollback_completed", UPDATE_TIME);
            assert_eq!(image(&engine, &service), format!("{SHELL}:latest"));
            println!("rolled back; 8 replicas after {:?}", wait_wanted(&engine, &service, 8));
            let tasks = service.wait_running(8);
            assert_eq!(tasks.len(), 8);
        });
    });
    assert_eq!(states.seen()[..3], ["updating", "rollback_started", "rollback_completed"]);
    assert_eq!(image(&engine, &service), format!("{SHELL}:latest"));
    remove(&[&service, &gateway.service]);
}

/// The tasks that the manager wants to run with the image from before the update.
fn good(engine: &Engine, service: &Service<'_>) -> Vec<String> {
    let format = "{{.ID}} {{.Image}}";
    let running = "desired-state=running";
    let list = engine.docker(&["service", "ps", "--filter", running, "--format", format, service.name()]);
    let is_old = |line: &&str| line.ends_with(&format!(" {SHELL}:latest"));
    let mut tasks: Vec<_> = list.lines().filter(is_old).map(str::to_owned).collect();
    tasks.sort_unstable();
    tasks
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_paused_update_stays_paused_with_its_good_tasks() {
    let engine = Engine::connect();
    let gateway = Gateway::start(&engine, "e2e-paused-gateway");
    let idle = four(&engine, "e2e-paused-idle", "cat").create();
    let busy = four(&engine, "e2e-paused-busy", "sleep 0.2; cat");
    let busy = busy.label("com.openfaas.scale.target", "1").create();
    build_dying_image(&engine);
    for service in [&idle, &busy] {
        service.wait_running(4);
        wait_ready(&gateway, service.name(), 4.0);
    }
    for service in [&idle, &busy] {
        update(&engine, service);
        wait_state(&engine, service, "paused");
    }
    let seen = [&idle, &busy].map(|service| {
        let good = good(&engine, service);
        assert!(!good.is_empty(), "{} has no good task left", service.name());
        let spec = field(&engine, service, "{{json .Spec}}");
        println!("{} is paused with {} good tasks of 4", service.name(), good.len());
        (service, good, spec)
    });
    let span = variable(ENV_PAUSED).and_then(|text| text.parse().ok()).map_or(PAUSED, Duration::from_secs);
    let began = Instant::now();
    under_load(&gateway, busy.name(), 8, || {
        while began.elapsed() < span {
            for (service, good_before, spec) in &seen {
                assert_eq!(
                    state(&engine, service),
                    "paused",
                    "{} after {:?}",
                    service.name(),
                    began.elapsed()
                );
                assert_eq!(&good(&engine, service), good_before, "{}", service.name());
                assert_eq!(&field(&engine, service, "{{json .Spec}}"), spec);
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    println!("both are so after {:?}", began.elapsed());
    let log = gateway.service.logs();
    let told = log.matches("`e2e-paused-busy`: 4 replicas stay, not").count();
    assert_eq!(told, 1, "it is said once\n{log}");
    // The user ends it: then the load is followed.
    under_load(&gateway, busy.name(), 8, || {
        busy.roll("rollback", &[], "rollback_completed");
        wait_wanted(&engine, &busy, 8);
    });
    wait_ready(&gateway, idle.name(), good(&engine, &idle).len() as f64);
    remove(&[&idle, &busy, &gateway.service]);
}
