//! With `admin_listen` on a network of its own, functions do not reach the control plane.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use testkit::engine::Engine;
use testkit::eventually;

use crate::lab::{Gateway, PATIENCE, SHELL, remove, shell, shell_image};

/// A network that has the gateway and who asks it, and its addresses.
const NETWORK: &str = "e2e-admin";
const SUBNET: &str = "10.219.0.0/24";

/// The gateway's service.
const NAME: &str = "e2e-apart";

/// Asks for what the body says, `ADDRESS PORT PATH`, and shows the answer.
const FETCH: &str = r#"read address port path
    printf "GET $path HTTP/1.0\r\n\r\n" | busybox nc -w 3 $address $port 2>&1 || echo failed"#;

/// Removes the network once nothing uses it.
struct Scene;

impl Drop for Scene {
    fn drop(&mut self) {
        let gone = || Command::new("docker").args(["network", "rm", NETWORK]).output();
        eventually(PATIENCE, || match gone() {
            Ok(output) if output.status.success() => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn functions_do_not_reach_the_control_plane() {
    let engine = Engine::connect();
    shell_image(&engine);
    engine.docker(&["network", "create", "--driver=overlay", "--attachable", "--subnet", SUBNET, NETWORK]);
    let scene = Scene;
    let gateway = Gateway::start_with(&engine, NAME, Path::new(&engine.socket()), |service| {
        let service = service.arg(format!("--network={NETWORK}")).env("functions_network", "functions");
        service.env("admin_listen", &format!("{SUBNET}:8081"))
    });
    let function = shell(&engine, "e2e-curious", FETCH).create();
    gateway.wait_callable("e2e-curious");
    // Addresses rather than names, which a static busybox cannot look up.
    let addresses = gateway.task.addresses.clone();
    let is_admin = |address: &&String| address.starts_with("10.219.0.");
    let (admin, main): (Vec<&String>, Vec<&String>) = addresses.iter().partition(is_admin);
    assert_eq!((admin.len(), main.len()), (1, 1), "{addresses:?}");

    // Functions reach the gateway where they are called, and nowhere else.
    let fetched = |address: &str, port: u16, path: &str| {
        gateway.call("e2e-curious", &format!("{address} {port} {path}\n")).text()
    };
    for address in &main {
        let text = fetched(address, 8080, "/healthz");
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("ok\n"), "{address}: {text}");
    }
    for address in &addresses {
        for path in ["/system/functions", "/metrics"] {
            let text = fetched(address, 8080, path);
            let is_refused = text.contains(" 404 ") || text.ends_with("failed\n");
            assert!(is_refused && !text.contains("e2e-curious"), "{address} {path}: {text}");
            let text = fetched(address, 8081, path);
            assert!(text.starts_with("nc: ") && text.ends_with("failed\n"), "{address} {path}: {text}");
        }
    }

    // Who is on the other network asks there.
    let network = format!("--network={NETWORK}");
    for address in admin {
        let url = format!("http://{address}:8081/system/functions");
        let run = ["run", "--rm", &network, "--entrypoint=busybox", SHELL, "wget", "-O", "-", &url];
        let functions: Value = serde_json::from_str(&engine.docker(&run)).expect("the functions as JSON");
        assert_eq!(functions[0]["name"], "e2e-curious");
    }
    remove(&[&function, &gateway.service]);
    drop((function, gateway));
    drop(scene);
}
