//! Against a real engine that is a Swarm manager; services are made, and looked at, with the `docker` command.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use docker_sock::{Engine, Error, EventStream, Host, Mode, Service, Version, container_id};
use kit::Deadline;
use serde_json::Value;
use testkit::engine::{self as lab, NETWORK};
use testkit::eventually;

/// How long the engine may take over anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// An image with nothing but Debian's static busybox.
const IMAGE: &str = "docker-sock-e2e:1";

/// The engine through `docker`, and through this crate.
fn engines() -> (lab::Engine, Engine) {
    let lab = lab::Engine::connect();
    let address = lab.socket();
    let url = if address.starts_with('/') { format!("unix://{address}") } else { address };
    let engine = Engine::new(Host::parse(&url).unwrap(), PATIENCE);
    (lab, engine)
}

/// A service of tasks that do nothing until they are killed.
fn idle<'a>(lab: &'a lab::Engine, name: &str) -> lab::NewService<'a> {
    if lab.docker(&["images", "--quiet", IMAGE]).is_empty() {
        let import = format!("tar -C /bin -c busybox | docker import - {IMAGE}");
        let output = Command::new("sh").args(["-c", &import]).output().unwrap();
        assert!(output.status.success(), "{import}: {output:?}; the package busybox-static is needed");
    }
    let service = lab.service(name, IMAGE).arg("--entrypoint=/busybox sleep 3600");
    service.arg("--stop-signal=KILL").arg("--restart-delay=100ms")
}

fn spec(lab: &lab::Engine, name: &str) -> Value {
    let text = lab.docker(&["service", "inspect", "--format", "{{json .Spec}}", name]);
    serde_json::from_str(&text).unwrap()
}

fn functions_id(lab: &lab::Engine) -> String {
    lab.docker(&["network", "inspect", "--format", "{{.Id}}", NETWORK])
}

/// Waits for what happens to the service `id`.
#[track_caller]
fn wait_event(events: &mut EventStream, action: &str, id: &str) {
    let deadline = Deadline::after(PATIENCE);
    while let Some(event) = events.next(deadline).unwrap() {
        if event.kind == "service" && event.action == action && event.id == id {
            return;
        }
    }
    panic!("no event {action} of {id}");
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn the_engine_says_what_it_is() {
    let (lab, engine) = engines();
    let info = engine.info().unwrap();
    assert!(info.is_manager && info.node_state == "active", "{info:?}");
    assert_eq!(info.node_id, lab.docker(&["info", "--format", "{{.Swarm.NodeID}}"]));
    assert_eq!(info.server_version, lab.docker(&["version", "--format", "{{.Server.Version}}"]));
    let of_server = |field: &str| {
        let text = lab.docker(&["version", "--format", &format!("{{{{.Server.{field}}}}}")]);
        Version::parse(&text).unwrap_or_else(|| panic!("{field}: {text}"))
    };
    let want = Version::choose(Some(of_server("MinAPIVersion")), of_server("APIVersion"));
    assert_eq!(engine.version().unwrap(), want);
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn networks_are_found_by_name_and_id() {
    let (lab, engine) = engines();
    let id = functions_id(&lab);
    let functions = engine.network(NETWORK).unwrap();
    assert_eq!((functions.id.as_str(), functions.driver.as_str()), (id.as_str(), "overlay"));
    assert_eq!(engine.network(&id).unwrap(), functions);
    let networks = engine.networks().unwrap();
    assert!(networks.contains(&functions) && functions.is_for_services());
    for name in ["ingress", "bridge", "host"] {
        let network = networks.iter().find(|network| network.name == name).unwrap();
        assert!(!network.is_for_services(), "{network:?}");
    }
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn what_is_not_there_is_not_found() {
    let (_, engine) = engines();
    for error in [
        engine.service("no-such-service").unwrap_err(),
        engine.network("no-such-network").unwrap_err(),
        engine.container("no-such-container").unwrap_err(),
        engine.update_service("no-such-service", &mut |_| true).unwrap_err(),
    ] {
        assert!(error.is_not_found(), "{error:?}");
        assert!(matches!(&error, Error::Engine { message, .. } if message.contains("no-such-")), "{error}");
    }
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_service_from_its_creation_to_its_end() {
    let (lab, engine) = engines();
    let mut events = engine.events(&["service"], &[]).unwrap();
    let made = idle(&lab, "e2e-life").replicas(2).label("com.openfaas.scale.min", "2");
    let made = made.env("fprocess", "cat -").env("EMPTY", "").create();

    let service = engine.service("e2e-life").unwrap();
    wait_event(&mut events, "create", &service.id);
    let network = functions_id(&lab);
    let want = Service {
        id: lab.docker(&["service", "inspect", "--format", "{{.ID}}", "e2e-life"]),
        version: service.version,
        name: "e2e-life".into(),
        labels: HashMap::from([("com.openfaas.scale.min".into(), "2".into())]),
        container_labels: HashMap::new(),
        mode: Mode::Replicated(2),
        networks: vec![network.clone()],
        image: IMAGE.into(),
        command: ["/busybox", "sleep", "3600"].map(str::to_owned).to_vec(),
        environment: vec!["fprocess=cat -".into(), "EMPTY=".into()],
        update_state: String::new(),
    };
    assert_eq!(service, want);
    let by_id = engine.service(&service.id).unwrap();
    assert!(by_id.version >= service.version, "{by_id:?}"); // the engine goes on writing to a new service
    assert_eq!(Service { version: service.version, ..by_id }, service);
    assert!(engine.services().unwrap().iter().any(|other| other.id == service.id));

    let known = made.wait_running(2);
    let tasks = engine.tasks(Some("e2e-life")).unwrap();
    assert_eq!(tasks.len(), 2);
    for task in &tasks {
        assert!(task.is_running() && task.service_id == service.id, "{task:?}");
        assert_eq!(task.node_id, engine.info().unwrap().node_id);
        let known = known.iter().find(|known| known.id == task.id).unwrap();
        assert_eq!(task.container_id, known.container);
        let address = &task.addresses[0];
        assert_eq!((&address.network_id, address.network.as_str()), (&network, NETWORK));
        assert_eq!([address.ip.to_string()], *known.addresses);
    }
    let mut slots: Vec<u64> = tasks.iter().map(|task| task.slot).collect();
    slots.sort_unstable();
    assert_eq!(slots, [1, 2]);
    let all = engine.tasks(None).unwrap();
    assert!(tasks.iter().all(|task| all.iter().any(|other| other.id == task.id)));

    made.scale(1);
    wait_event(&mut events, "update", &service.id);
    drop(made);
    wait_event(&mut events, "remove", &service.id);
    assert!(engine.service(&service.id).unwrap_err().is_not_found());
    assert!(engine.tasks(Some(&service.id)).unwrap_err().is_not_found());
    let left = engine.tasks(None).unwrap();
    assert!(left.iter().all(|task| task.service_id != service.id), "{left:?}");
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn scaling_takes_effect_and_changes_nothing_else() {
    let (lab, engine) = engines();
    let mut service = idle(&lab, "e2e-scale").replicas(1).label("function", "true").env("fprocess", "cat");
    for arg in [
        "--container-label=of=the container",
        "--limit-memory=64M",
        "--limit-cpu=0.25",
        "--limit-pids=50",
        "--sysctl=net.core.somaxconn=1024",
        "--cap-add=NET_ADMIN",
        "--ulimit=nofile=512:1024",
        "--host=db:10.0.0.1",
        "--constraint=node.role==manager",
        "--mount=type=tmpfs,destination=/tmp,tmpfs-size=1048576",
        "--update-delay=1s",
        "--update-max-failure-ratio=0.15",
        "--rollback-monitor=20s",
        "--endpoint-mode=dnsrr",
        "--log-opt=max-size=1m",
    ] {
        service = service.arg(arg);
    }
    let service = service.create();
    service.wait_running(1);
    for replicas in [3, 0, 1] {
        let before = spec(&lab, "e2e-scale");
        let edit = &mut |service: &mut Value| {
            service["Spec"]["Mode"]["Replicated"]["Replicas"] = replicas.into();
            true
        };
        assert!(engine.update_service("e2e-scale", edit).unwrap());
        let mut want = before;
        want["Mode"]["Replicated"]["Replicas"] = replicas.into();
        assert_eq!(spec(&lab, "e2e-scale"), want);
        assert_eq!(engine.service("e2e-scale").unwrap().mode, Mode::Replicated(replicas as u64));
        service.wait_running(replicas);
    }
    let unsent = &mut |service: &mut Value| {
        service["Spec"]["Mode"]["Replicated"]["Replicas"] = 9.into();
        false
    };
    assert!(!engine.update_service("e2e-scale", unsent).unwrap());
    assert_eq!(engine.service("e2e-scale").unwrap().mode, Mode::Replicated(1));
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn an_update_of_somebody_else_in_between_is_kept() {
    let (lab, engine) = engines();
    let _service = idle(&lab, "e2e-race").replicas(0).create();
    let mut calls = 0;
    let edit = &mut |service: &mut Value| {
        calls += 1;
        if calls == 1 {
            lab.docker(&["service", "update", "--detach", "--label-add=theirs=1", "e2e-race"]);
        }
        service["Spec"]["Labels"]["ours"] = "1".into();
        true
    };
    assert!(engine.update_service("e2e-race", edit).unwrap());
    assert_eq!(calls, 2, "the engine refused the first");
    let labels = engine.service("e2e-race").unwrap().labels;
    assert_eq!(labels, HashMap::from([("ours".into(), "1".into()), ("theirs".into(), "1".into())]));
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_task_that_no_node_takes_says_why() {
    let (lab, engine) = engines();
    let made = idle(&lab, "e2e-nowhere").arg("--constraint=node.labels.none==here").create();
    let task = eventually(PATIENCE, || match engine.tasks(Some(made.name())).unwrap().pop() {
        Some(task) if !task.error.is_empty() => Ok(task),
        other => Err(format!("{other:?}")),
    });
    assert!(task.error.contains("no suitable node"), "{task:?}");
    assert!(!task.is_running() && task.node_id.is_empty() && task.container_id.is_empty(), "{task:?}");
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_container_knows_its_id_and_the_engine_its_service() {
    let (lab, engine) = engines();
    let made = idle(&lab, "e2e-own").create();
    let id = made.wait_running(1).remove(0).container;
    let process = lab.docker(&["inspect", "--format", "{{.State.Pid}}", &id]);
    let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).unwrap();
    assert_eq!(container_id(&read("mountinfo"), "").as_deref(), Some(id.as_str()));
    assert_eq!(container_id("", &read("cgroup")).as_deref(), Some(id.as_str()));
    let container = engine.container(&id).unwrap();
    assert_eq!(container.id, id);
    assert!(container.name.starts_with("e2e-own.1."), "{container:?}");
    assert_eq!(container.service_id(), Some(engine.service("e2e-own").unwrap().id.as_str()));
    assert!(container.networks.contains(&functions_id(&lab)), "{container:?}");
    let alone = lab.docker(&["create", "--network", NETWORK, IMAGE, "/busybox", "true"]);
    let container = engine.container(&alone);
    lab.docker(&["rm", &alone]);
    assert_eq!(container.unwrap().service_id(), None);
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn an_engine_that_stands_still_is_given_up_and_found_again() {
    let (lab, _) = engines();
    let engine = Engine::new(Host::Unix(lab.socket().into()), Duration::from_millis(500));
    let mut events =
        eventually(PATIENCE, || engine.events(&["service"], &[]).map_err(|error| error.to_string()));
    let paused = lab.pause();
    // Its threads stop one after the other: a call may still be answered.
    eventually(PATIENCE, || match engine.services() {
        Err(error) if error.is_timeout() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let error = engine.services().unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(events.next(Deadline::after(Duration::from_millis(100))).unwrap(), None);
    drop(paused);
    eventually(PATIENCE, || engine.services().map_err(|error| error.to_string()));
    let made = idle(&lab, "e2e-again").replicas(0).create();
    let id = eventually(PATIENCE, || engine.service(made.name()).map_err(|error| error.to_string())).id;
    wait_event(&mut events, "create", &id);
}
