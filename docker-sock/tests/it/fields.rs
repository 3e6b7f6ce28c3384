//! Fields that are absent, null, or of another type than they should be.

use docker_sock::{Engine, Error, Mode};
use testkit::Peer;

use crate::daemon::{answers, engine, json};

fn of<T>(document: &str, call: impl FnOnce(&Engine) -> T) -> T {
    call(&engine(&Peer::unix(answers(json(document)))))
}

#[track_caller]
fn is_wrong(result: Result<impl Sized, Error>, want_field: &str, want: &str) {
    match result.map(drop) {
        Err(Error::Field { field, expected, .. }) => {
            assert_eq!((field.as_str(), expected), (want_field, want))
        }
        other => panic!("{want_field}: {other:?}"),
    }
}

#[test]
fn a_wrong_type_in_a_service_names_the_field() {
    let spec = "/0/Spec/TaskTemplate";
    let cases = [
        (r#"{"services":[]}"#, "", "a list"),
        (r#""""#, "", "a list"),
        ("[1]", "/0/ID", "a string"),
        ("[{}]", "/0/ID", "a string"),
        (r#"[{"ID":""}]"#, "/0/ID", "a string"),
        (r#"[{"ID":7}]"#, "/0/ID", "a string"),
        (r#"[{"ID":"a","Spec":{"Name":"b"}},{"ID":"c"}]"#, "/1/Spec/Name", "a string"),
        (r#"[{"ID":"a","Version":{"Index":"7"}}]"#, "/0/Version/Index", "a number"),
        (r#"[{"ID":"a","Version":{"Index":-7}}]"#, "/0/Version/Index", "a number"),
        (r#"[{"ID":"a","Version":{"Index":7.5}}]"#, "/0/Version/Index", "a number"),
        (r#"[{"ID":"a","Spec":{"Name":"b","Labels":[]}}]"#, "/0/Spec/Labels", "a map"),
        (r#"[{"ID":"a","Spec":{"Name":"b","Labels":{"c":1}}}]"#, "/0/Spec/Labels", "a map of strings"),
        (
            r#"[{"Spec":{"Mode":{"Replicated":{"Replicas":"2"}}}}]"#,
            "/0/Spec/Mode/Replicated/Replicas",
            "a number",
        ),
        (
            r#"[{"Spec":{"Mode":{"Replicated":{"Replicas":-1}}}}]"#,
            "/0/Spec/Mode/Replicated/Replicas",
            "a number",
        ),
        (r#"[{"Spec":{"TaskTemplate":{"Networks":{}}}}]"#, &format!("{spec}/Networks"), "a list"),
        (
            r#"[{"Spec":{"TaskTemplate":{"Networks":[{"Target":"a"},{"Target":1}]}}}]"#,
            &format!("{spec}/Networks/1/Target"),
            "a string",
        ),
        (r#"[{"Spec":{"Networks":[{}]}}]"#, "/0/Spec/Networks/0/Target", "a string"),
        (
            r#"[{"Endpoint":{"VirtualIPs":[{"NetworkID":[]}]}}]"#,
            "/0/Endpoint/VirtualIPs/0/NetworkID",
            "a string",
        ),
        (
            r#"[{"ID":"a","Spec":{"Name":"b","TaskTemplate":{"ContainerSpec":{"Image":{}}}}}]"#,
            &format!("{spec}/ContainerSpec/Image"),
            "a string",
        ),
        (
            r#"[{"ID":"a","Spec":{"Name":"b","TaskTemplate":{"ContainerSpec":{"Env":["A=1",2]}}}}]"#,
            &format!("{spec}/ContainerSpec/Env/1"),
            "a string",
        ),
        (
            r#"[{"ID":"a","Spec":{"Name":"b","TaskTemplate":{"ContainerSpec":{"Env":"A=1"}}}}]"#,
            &format!("{spec}/ContainerSpec/Env"),
            "a list",
        ),
        (
            r#"[{"ID":"a","Spec":{"Name":"b"},"UpdateStatus":{"State":1}}]"#,
            "/0/UpdateStatus/State",
            "a string",
        ),
    ];
    for (document, field, expected) in cases {
        is_wrong(of(document, Engine::services), field, expected);
    }
    is_wrong(of("[]", |engine| engine.service("a")), "/ID", "a string");
    let error = of(r#"{"ID":"a"}"#, |engine| engine.service("a")).unwrap_err();
    assert_eq!(error.to_string(), "failed to inspect service `a`: field /Spec/Name: expected a string");
}

#[test]
fn a_wrong_type_in_a_task_names_the_field() {
    let address = "/0/NetworksAttachments/0/Addresses";
    let attached = |attachment: &str| format!(r#"[{{"ID":"t","NetworksAttachments":[{attachment}]}}]"#);
    let ip = "an address such as 10.0.1.5/24";
    let cases = [
        (r#"[{"ID":"t","NetworksAttachments":{}}]"#.to_owned(), "/0/NetworksAttachments", "a list"),
        (attached(r#"{"Network":{"ID":"n"},"Addresses":"10.0.1.5/24"}"#), address, "a list"),
        (
            attached(r#"{"Network":{"ID":"n"},"Addresses":["10.0.1.5/24",5]}"#),
            &format!("{address}/1"),
            "a string",
        ),
        (attached(r#"{"Network":{"ID":"n"},"Addresses":["10.0.1"]}"#), &format!("{address}/0"), ip),
        (attached(r#"{"Network":{"ID":"n"},"Addresses":["functions/24"]}"#), &format!("{address}/0"), ip),
        (
            attached(r#"{"Network":{},"Addresses":["10.0.1.5/24"]}"#),
            "/0/NetworksAttachments/0/Network/ID",
            "a string",
        ),
        (r#"[{"ID":"t","Slot":"1"}]"#.to_owned(), "/0/Slot", "a number"),
        (r#"[{"ID":"t","Status":{"State":7}}]"#.to_owned(), "/0/Status/State", "a string"),
    ];
    for (document, field, expected) in cases {
        is_wrong(of(&document, |engine| engine.tasks(None)), field, expected);
    }
}

#[test]
fn a_wrong_type_elsewhere_names_the_field() {
    is_wrong(
        of(r#"[{"Id":"n","Name":"a","Ingress":"no"}]"#, Engine::networks),
        "/0/Ingress",
        "true or false",
    );
    is_wrong(of(r#"[{"Name":"a"}]"#, Engine::networks), "/0/ID", "a string");
    is_wrong(of(r#"{"Id":"n"}"#, |engine| engine.network("n")), "/Name", "a string");
    let networks = "/NetworkSettings/Networks";
    let container = |document: &str| of(document, |engine| engine.container("c"));
    is_wrong(container(r#"{"NetworkSettings":{"Networks":[]}}"#), networks, "a map");
    let wrong = r#"{"NetworkSettings":{"Networks":{"functions":{"NetworkID":1}}}}"#;
    is_wrong(container(wrong), &format!("{networks}/functions/NetworkID"), "a string");
    let wrong = r#"{"NetworkSettings":{"Networks":{"a/b~c":{"NetworkID":1}}}}"#;
    is_wrong(container(wrong), &format!("{networks}/a~1b~0c/NetworkID"), "a string");
    is_wrong(container(r#"{"Id":"c","Config":{"Labels":"x"}}"#), "/Config/Labels", "a map");
    let wrong = r#"{"Swarm":{"ControlAvailable":"true"}}"#;
    is_wrong(of(wrong, Engine::info), "/Swarm/ControlAvailable", "true or false");
}

#[test]
fn null_and_absent_are_the_same() {
    let null = r#"[{"ID":"a","Version":null,"Spec":{"Name":"b","Labels":null,"Networks":null,"Mode":null,
        "TaskTemplate":{"ContainerSpec":{"Image":null,"Env":null},"Networks":null}},
        "Endpoint":{"VirtualIPs":null},"UpdateStatus":null}]"#;
    let absent = r#"[{"ID":"a","Spec":{"Name":"b"}}]"#;
    let service = of(null, Engine::services).unwrap();
    assert_eq!(service, of(absent, Engine::services).unwrap());
    assert_eq!((service[0].mode, service[0].version, service[0].image.as_str()), (Mode::Other, 0, ""));
    let null = r#"[{"ID":"t","NodeID":null,"Slot":null,"Status":null,"NetworksAttachments":null},
        {"ID":"u","NetworksAttachments":[{"Network":null,"Addresses":null}]}]"#;
    let tasks = of(null, |engine| engine.tasks(None)).unwrap();
    assert_eq!((tasks[0].state.as_str(), tasks[0].addresses.len(), tasks[1].addresses.len()), ("", 0, 0));
    let absent = of(r#"[{"ID":"t"},{"ID":"u"}]"#, |engine| engine.tasks(None)).unwrap();
    assert_eq!(tasks, absent);
    assert_eq!(of("null", Engine::services).unwrap(), []);
    assert_eq!(of("null", Engine::networks).unwrap(), []);
}

#[test]
fn replicas_that_are_not_told_are_one() {
    for mode in [r#"{"Replicated":{}}"#, r#"{"Replicated":{"Replicas":null}}"#] {
        let document = format!(r#"{{"ID":"a","Spec":{{"Name":"b","Mode":{mode}}}}}"#);
        assert_eq!(of(&document, |engine| engine.service("a")).unwrap().mode, Mode::Replicated(1));
    }
}

#[test]
fn a_network_is_named_once() {
    let document = r#"{"ID":"a","Spec":{"Name":"b","Networks":[{"Target":"n1"}],
        "TaskTemplate":{"Networks":[{"Target":"n1"},{"Target":"n2"}]}},
        "Endpoint":{"VirtualIPs":[{"NetworkID":"n2","Addr":""},{"NetworkID":"n3","Addr":"10.0.3.2/24"}]}}"#;
    let service = of(document, |engine| engine.service("a")).unwrap();
    assert_eq!(service.networks, ["n1", "n2", "n3"]);
}
