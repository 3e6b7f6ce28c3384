//! Documents of real engines of three generations, read whole: Engine 1.12 (API 1.24), 20.10 (1.41), 29 (1.47).

use std::collections::HashMap;

use docker_sock::{Address, Container, Info, Mode, Network, Service, Task};
use testkit::Peer;

use crate::daemon::{Api, answers, engine, json, serve};

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn address(network_id: &str, network: &str, ip: &str) -> Address {
    Address { network_id: network_id.into(), network: network.into(), ip: ip.parse().unwrap() }
}

fn services(document: &str) -> Vec<Service> {
    engine(&Peer::unix(answers(json(document)))).services().unwrap()
}

fn tasks(document: &str) -> Vec<Task> {
    engine(&Peer::unix(answers(json(document)))).tasks(None).unwrap()
}

fn networks(document: &str) -> Vec<Network> {
    engine(&Peer::unix(answers(json(document)))).networks().unwrap()
}

#[test]
fn services_of_engine_1() {
    let want = Service {
        id: "9mnpnzenvg8p8tdbtq4wvbkcz".into(),
        version: 19,
        name: "catservice".into(),
        labels: map(&[("function", "true")]),
        container_labels: map(&[]),
        mode: Mode::Replicated(1),
        networks: texts(&["4qvuz4ko70xaltuqbt8956gd1", "1u8pgcmb4ysyd2yr2fmkvkxg9"]),
        image: "alpine:3.4".into(),
        command: Vec::new(),
        environment: texts(&["fprocess=cat"]),
        update_state: String::new(),
    };
    assert_eq!(services(include_str!("../data/services_1_24.json")), [want]);
}

#[test]
fn services_of_engine_20() {
    let want = Service {
        id: "lt0txvwstu1itfi8bndgfoutr".into(),
        version: 21,
        name: "echo".into(),
        labels: map(&[("a", "b"), ("com.openfaas.scale.min", "1"), ("function", "true")]),
        container_labels: map(&[]),
        mode: Mode::Replicated(2),
        networks: texts(&["t7id96pd1rpf12ksg1wrq66zo"]),
        image: "cap:1".into(),
        command: texts(&["/bin/sh", "-c", "sleep 600"]),
        environment: texts(&["fprocess=cat", "write_debug=true"]),
        update_state: "completed".into(),
    };
    assert_eq!(services(include_str!("../data/services_1_41.json")), [want]);
}

#[test]
fn services_of_engine_29() {
    let services = services(include_str!("../data/services_1_47.json"));
    let image = format!("resize:3@sha256:{}", "0123456789abcdef".repeat(4));
    let want = Service {
        id: "m2k8y3p0w7qv1x4z6c9b5n0t2".into(),
        version: 90_071_992_547_409,
        name: "resize".into(),
        labels: map(&[("com.openfaas.scale.max", "4"), ("com.openfaas.scale.zero", "true")]),
        container_labels: map(&[("of", "the container")]),
        mode: Mode::Replicated(0),
        networks: texts(&["w5q9n1functions0000000000", "backend"]),
        image,
        command: Vec::new(),
        environment: texts(&["fprocess=convert - -resize 50% -", "LANG=C.UTF-8"]),
        update_state: "updating".into(),
    };
    assert_eq!(services[0], want);
    let modes: Vec<_> = services.iter().map(|service| (service.name.as_str(), service.mode)).collect();
    let replicated = ("resize", Mode::Replicated(0));
    assert_eq!(modes, [replicated, ("agent", Mode::Global), ("backup", Mode::Other)]);
    assert!(services[1].networks.is_empty() && services[1].environment.is_empty());
}

#[test]
fn tasks_of_engine_1() {
    let tasks = tasks(include_str!("../data/tasks_1_24.json"));
    let want = Task {
        id: "0kzzo1i0y4jz6027t0k7aezc7".into(),
        version: 71,
        service_id: "9mnpnzenvg8p8tdbtq4wvbkcz".into(),
        node_id: "60gvrl6tm78dmak4yl7srz94v".into(),
        slot: 1,
        desired_state: "running".into(),
        state: "running".into(),
        error: String::new(),
        message: "started".into(),
        addresses: vec![
            address("1u8pgcmb4ysyd2yr2fmkvkxg9", "ingress", "10.255.0.10"),
            address("4qvuz4ko70xaltuqbt8956gd1", "functions", "10.0.0.3"),
        ],
        container_id: "e5d62702a1b48d01c3e02ca1e0212a250801fa8d67caca0b6f35919ebc12f035".into(),
        environment: texts(&["fprocess=cat"]),
    };
    assert_eq!(tasks, [want]);
    assert!(tasks[0].is_running());
}

#[test]
fn a_task_that_no_node_takes() {
    let tasks = tasks(include_str!("../data/tasks_1_41.json"));
    let want = Task {
        id: "jer2cqy5owtmnh4dhgc9qg9tr".into(),
        version: 17,
        service_id: "lt0txvwstu1itfi8bndgfoutr".into(),
        node_id: String::new(),
        slot: 1,
        desired_state: "running".into(),
        state: "pending".into(),
        error: "no suitable node (host-mode port already in use on 1 node)".into(),
        message: "pending task scheduling".into(),
        addresses: vec![address("t7id96pd1rpf12ksg1wrq66zo", "functions", "10.0.1.3")],
        container_id: String::new(),
        environment: texts(&["fprocess=cat", "write_debug=true"]),
    };
    assert_eq!(tasks[0], want);
    assert!(!tasks[0].is_running());
    assert_eq!(tasks[1].node_id, "ecfpumq3awyy2n6ymoub5casx");
    assert_eq!(tasks[1].container_id.len(), 64);
}

#[test]
fn tasks_of_engine_29() {
    let tasks = tasks(include_str!("../data/tasks_1_47.json"));
    let addresses = [
        address("w5q9n1functions0000000000", "functions", "10.0.1.9"),
        address("w5q9n1functions0000000000", "functions", "fd00:1::9"),
    ];
    assert_eq!(tasks[0].addresses, addresses);
    assert_eq!(tasks[0].slot, 0, "a global service numbers no replicas");
    assert!(tasks[0].is_running());
    assert!(tasks[1].addresses.is_empty() && !tasks[1].is_running());
}

#[test]
fn networks_and_which_of_them_are_for_services() {
    for document in [include_str!("../data/networks_1_24.json"), include_str!("../data/networks_1_41.json")] {
        let networks = networks(document);
        assert!(networks.iter().any(|network| network.name == "ingress" && network.scope == "swarm"));
        assert!(networks.iter().any(|network| network.name == "bridge" && network.scope == "local"));
        let usable: Vec<_> = networks.iter().filter(|network| network.is_for_services()).collect();
        assert_eq!(usable.len(), 1, "{networks:?}");
        assert_eq!((usable[0].name.as_str(), usable[0].driver.as_str()), ("functions", "overlay"));
    }
    let networks = networks(include_str!("../data/networks_1_41.json"));
    assert!(networks.iter().any(|network| network.is_ingress && network.id == "sjylmsfiek1z2h4giuwy3ccik"));
}

#[test]
fn the_container_of_a_task() {
    let peer = Peer::unix(answers(json(include_str!("../data/container_1_41.json"))));
    let id = "b40734477303700764f1d987fd3d39f4aa21c0e88174906375c7238486733f10";
    let container = engine(&peer).container(id).unwrap();
    assert_eq!(container.service_id(), Some("lt0txvwstu1itfi8bndgfoutr"));
    assert_eq!(container.labels["com.docker.swarm.task"], "");
    let Container { id: got, name, networks, .. } = container;
    assert_eq!((got.as_str(), name.as_str()), (id, "echo.2.praamps2b8a468ebz5zqhzxw1"));
    assert_eq!(networks, ["t7id96pd1rpf12ksg1wrq66zo"]);
}

#[test]
fn a_container_of_its_own_that_has_stopped() {
    let document = r#"{"Id":"c1","Name":"/gateway","Config":{"Labels":null},
        "NetworkSettings":{"Networks":{"functions":{"NetworkID":""},"bridge":null}}}"#;
    let container = engine(&Peer::unix(answers(json(document)))).container("gateway").unwrap();
    assert_eq!(container.service_id(), None);
    assert!(container.networks.is_empty());
}

#[test]
fn a_manager_a_worker_and_an_engine_alone() {
    let worker = r#"{"ServerVersion":"27.0.3","Swarm":{"NodeID":"n2","NodeAddr":"10.0.0.2",
        "LocalNodeState":"active","ControlAvailable":false,"Error":"","RemoteManagers":[]}}"#;
    let alone = r#"{"ServerVersion":"29.0.0","Swarm":{"NodeID":"","NodeAddr":"","LocalNodeState":"inactive",
        "ControlAvailable":false,"Error":"","RemoteManagers":null}}"#;
    let cases = [
        (
            include_str!("../data/info_1_41.json"),
            "20.10.24+dfsg1",
            "ecfpumq3awyy2n6ymoub5casx",
            "active",
            true,
        ),
        (worker, "27.0.3", "n2", "active", false),
        (alone, "29.0.0", "", "inactive", false),
        (r#"{"ServerVersion":"1.11.2"}"#, "1.11.2", "", "", false),
    ];
    for (document, version, node, state, is_manager) in cases {
        let want = Info {
            server_version: version.into(),
            node_id: node.into(),
            node_state: state.into(),
            is_manager,
        };
        assert_eq!(engine(&Peer::unix(answers(json(document)))).info().unwrap(), want);
    }
}

#[test]
fn a_task_list_is_asked_for_what_is_meant_to_run() {
    let peer = Peer::unix(serve(|request| Api::engine_20().respond(request, |_| json("[]"))));
    let engine = engine(&peer);
    engine.tasks(None).unwrap();
    engine.tasks(Some("s1")).unwrap();
    let targets: Vec<String> = peer.requests().into_iter().skip(1).map(|request| request.target).collect();
    let quoted = |text: &str| text.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
    let quoted = |text: &str| quoted(text).replace('[', "%5B").replace(']', "%5D").replace([':', ','], "?");
    let plain = |target: &String| target.replace("%3A", "?").replace("%2C", "?");
    let path = "/v1.41/tasks?filters=";
    assert_eq!(plain(&targets[0]), format!("{path}{}", quoted(r#"{"desired-state":["running"]}"#)));
    let both = quoted(r#"{"desired-state":["running"],"service":["s1"]}"#);
    assert_eq!(plain(&targets[1]), format!("{path}{both}"));
}
