//! The control plane on a Swarm: services are scaled, behind a password that is a secret, from an image without rights
//! and with nothing that can be written to.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use serde_json::Value;
use testkit::engine::Engine;
use testkit::{Reply, eventually};

use crate::lab::{CAT, Gateway, PATIENCE, cat, remove};

/// `admin:pass`, and as a header has it.
const SECRETS: [(&str, &str); 2] = [("basic-auth-user", "admin"), ("basic-auth-password", "pass\n")];
const AUTHORIZATION: &str = "Basic YWRtaW46cGFzcw==";

/// The user that the gateway becomes.
const USER: u32 = 60_808;

fn json(reply: &Reply) -> Value {
    let text = reply.text();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}: {text}", reply.status))
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_service_is_scaled_by_who_has_the_password() {
    let engine = Engine::connect();
    let folder = tempfile::tempdir().expect("a directory for secrets");
    for (name, content) in SECRETS {
        let file = folder.path().join(name);
        fs::write(&file, content).expect("a file");
        engine.docker(&["secret", "create", &format!("e2e-{name}"), &file.to_string_lossy()]);
    }
    let gateway = Gateway::start_with(&engine, "e2e-control", Path::new(&engine.socket()), |service| {
        let service = SECRETS.iter().fold(service, |service, (name, _)| {
            service.arg(format!("--secret=source=e2e-{name},target={name},mode=0400"))
        });
        let service = service.arg("--mount=type=volume,target=/state");
        service.arg("--read-only").env("basic_auth", "true").env("state_dir", "/state")
    });
    let function = cat(&engine, "e2e-scaled").label("com.openfaas.scale.max", "3").create();
    gateway.wait_callable("e2e-scaled");
    let send = |method: &str, path: &str, body: &str| {
        let request = gateway.request().method(method).path(path).body(body);
        request.header("Authorization", AUTHORIZATION).send().expect("an answer")
    };
    let scale = |replicas: u32| {
        send("POST", "/system/scale-function/e2e-scaled", &format!("{{\"replicas\": {replicas}}}"))
    };
    let denied = gateway.request().path("/system/functions").send().expect("an answer");
    assert_eq!((denied.status, denied.header("x-gateway-error")), (401, Some("unauthorized")));
    assert_eq!(json(&send("GET", "/system/info", ""))["provider"]["name"], "swarm");
    let function_of = || json(&send("GET", "/system/function/e2e-scaled", ""));
    assert!(function_of()["image"].as_str().is_some_and(|image| image.starts_with(CAT)), "{}", function_of());
    assert_eq!(scale(4).status, 400);
    assert_eq!(scale(3).status, 202);
    assert_eq!(function.wait_running(3).len(), 3);
    eventually(PATIENCE, || match function_of() {
        now if now["replicas"] == 3 && now["availableReplicas"] == 3 => Ok(()),
        now => Err(now.to_string()),
    });
    let alert = r#"{"alerts": [{"status": "firing", "labels": {"function_name": "e2e-scaled"}}]}"#;
    let done = send("POST", "/system/alert", alert);
    assert_eq!((done.status, &json(&done)["scaled"]), (200, &serde_json::json!([])), "it is at its maximum");

    let pid = engine.docker(&["inspect", "--format={{.State.Pid}}", &gateway.task.container]);
    let socket = format!("/proc/{pid}/root/state/control.sock");
    let found = fs::metadata(&socket).unwrap_or_else(|error| panic!("{socket}: {error}"));
    assert_eq!((found.uid(), found.permissions().mode() & 0o777), (USER, 0o600));
    remove(&[&function, &gateway.service]);
    drop((function, gateway));
    SECRETS.iter().for_each(|(name, _)| drop(engine.docker(&["secret", "rm", &format!("e2e-{name}")])));
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn nothing_need_be_mounted_for_it() {
    let engine = Engine::connect();
    let gateway = Gateway::start_with(&engine, "e2e-control-bare", Path::new(&engine.socket()), |service| {
        service.arg("--read-only")
    });
    let info = gateway.request().path("/system/info").send().expect("an answer");
    assert_eq!(info.status, 200, "{}", info.text());
    assert!(gateway.service.logs().contains("/system and /ui are open"), "{}", gateway.service.logs());
    remove(&[&gateway.service]);
}
