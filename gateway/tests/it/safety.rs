//! Who may use the control plane: pages of other sites, untrusted names, guessed passwords.

use testkit::{Reply, Running};

use crate::{SOON, before, gateway, is_own, is_well, path, process, rejected, well};

const CROSS_SITE: (u16, &str) = (403, "cross_site");
const UNTRUSTED_HOST: (u16, &str) = (403, "untrusted_host");

/// Sends a request with these extra fields.
fn send(gateway: &Running, request: &str, fields: &[(&str, &str)]) -> Reply {
    let (method, path) = request.split_once(' ').unwrap();
    let request = gateway.request().method(method).path(path);
    let request = fields.iter().fold(request, |request, (name, value)| request.header(name, value));
    request.send().unwrap()
}

#[test]
fn a_page_of_another_site_cannot_use_the_control_plane() {
    let peer = well();
    let gateway = before(&peer).start();
    let alert = "POST /system/alert";
    for fields in [
        [("Sec-Fetch-Site", "cross-site")],
        [("Sec-Fetch-Site", "same-site")],
        [("Origin", "http://page.test")],
        [("Origin", "null")],
    ] {
        for request in [
            alert,
            "POST /system/scale-function/one",
            "POST /system/functions",
            "PUT /system/functions",
            "DELETE /system/functions",
            "PATCH /system/x",
            "POST /ui/",
        ] {
            is_own(&send(&gateway, request, &fields), CROSS_SITE, &["another site", "Origin", "Host"]);
        }
        for request in ["GET /system/functions", "HEAD /system/info"] {
            assert_eq!(send(&gateway, request, &fields).status, 200, "{request} {fields:?}");
        }
        // Functions decide for themselves.
        assert_eq!(send(&gateway, &format!("POST {}", path("")), &fields).status, 200);
    }
    assert_eq!(rejected(&gateway, "cross_site"), 28.0);
    let own = format!("http://{}", gateway.addr());
    for fields in [
        vec![],
        vec![("Origin", &*own), ("Sec-Fetch-Site", "same-origin")],
        vec![("Host", "[::1]:8080"), ("Origin", "http://[::1]:8080")],
        vec![("Host", "10.0.0.1"), ("Origin", "https://10.0.0.1")],
    ] {
        is_own(&send(&gateway, alert, &fields), (400, "bad_request"), &[]); // it lacks a body
    }
    is_well(&gateway);
}

#[test]
fn without_a_password_browsers_need_a_trusted_name() {
    let gateway = gateway(&[]).env("trusted_hosts", "faas.lan, GATEWAY").start();
    let of_browsers = [("Sec-Fetch-Site", "same-origin"), ("Origin", "http://page.test:8080")];
    for (name, value) in of_browsers {
        for request in ["GET /system/functions", "HEAD /system/info", "GET /ui/"] {
            let refused = send(&gateway, request, &[("Host", "page.test:8080"), (name, value)]);
            assert_eq!(refused.header("x-gateway-error"), Some("untrusted_host"), "{request}");
            assert_eq!(refused.status, 403);
        }
        let refused = send(&gateway, "POST /system/alert", &[("Host", "page.test:8080"), (name, value)]);
        is_own(&refused, UNTRUSTED_HOST, &["basic_auth=true", "trusted_hosts"]);
    }
    for host in ["faas.lan", "gateway:8080", "localhost:1", "127.0.0.1", "[::1]:8080"] {
        let reply = send(&gateway, "GET /system/info", &[("Host", host), ("Sec-Fetch-Site", "none")]);
        assert_eq!(reply.status, 200, "{host}");
    }
    assert_eq!(send(&gateway, "GET /system/info", &[("Host", "page.test")]).status, 200, "no browser");
    assert_eq!(rejected(&gateway, "untrusted_host"), 8.0);
}

#[test]
fn with_a_password_any_name_serves_and_other_sites_are_refused() {
    let right = ("Authorization", "Basic YWRtaW46cGE6c3M=");
    let gateway = crate::control::secrets(gateway(&[])).start();
    let host = ("Host", "any.test");
    let fields = [host, ("Sec-Fetch-Site", "same-origin"), right];
    assert_eq!(send(&gateway, "GET /system/info", &fields).status, 200);
    let fields = [host, ("Sec-Fetch-Site", "same-origin")];
    is_own(&send(&gateway, "GET /system/info", &fields), (401, "unauthorized"), &[]);
    // A browser adds a known password by itself.
    let fields = [host, ("Origin", "http://page.test"), right];
    is_own(&send(&gateway, "POST /system/alert", &fields), CROSS_SITE, &[]);
    is_own(&send(&gateway, "POST /system/alert", &fields[..2]), CROSS_SITE, &[]);
}

/// The user `admin` with the password of [`crate::control::secrets`], and with a wrong one.
const RIGHT: (&str, &str) = ("Authorization", "Basic YWRtaW46cGE6c3M=");
const WRONG: (&str, &str) = ("Authorization", "Basic YWRtaW46bm8=");

#[test]
fn a_client_that_guesses_passwords_is_refused_and_other_clients_are_served() {
    let bin = crate::control::secrets(gateway(&[process("one", "cat")])).env("trusted_proxies", "127.0.0.1");
    let gateway = bin.start();
    let from =
        |client: &str, password| send(&gateway, "GET /system/info", &[password, ("X-Forwarded-For", client)]);
    for _ in 0..20 {
        is_own(&from("10.0.0.1", WRONG), (401, "unauthorized"), &[]);
        is_own(&send(&gateway, "GET /system/info", &[]), (401, "unauthorized"), &[]);
    }
    for password in [WRONG, RIGHT, ("Authorization", "Bearer x")] {
        let refused = from("10.0.0.1", password);
        is_own(&refused, (429, "too_many_guesses"), &["wrong passwords", "basic_auth"]);
        let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    // A browser without a password is told that one is needed.
    is_own(&send(&gateway, "GET /ui/", &[("X-Forwarded-For", "10.0.0.1")]), (401, "unauthorized"), &[]);
    for client in ["10.0.0.2", "127.0.0.1", "2001:db8::1"] {
        assert_eq!(from(client, RIGHT).status, 200, "{client}");
    }
    // An IPv6 network (/64) is one client.
    for number in 1..=20 {
        is_own(&from(&format!("2001:db8::{number:x}"), WRONG), (401, "unauthorized"), &[]);
    }
    is_own(&from("2001:db8::ffff", RIGHT), (429, "too_many_guesses"), &[]);
    assert_eq!(from("2001:db8:0:1::1", RIGHT).status, 200);
    let log = gateway.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("wrong user or password from")).collect();
    assert!((1..=4).contains(&lines.len()) && lines[0].contains(" warn "), "{log}");
    assert!(lines[0].contains("from 10.0.0.1, number 1 of 20 within 1m"), "{log}");
    assert_eq!(rejected(&gateway, "too_many_guesses"), 4.0);
}

#[test]
fn the_log_names_the_client_of_each_change() {
    let gateway = crate::control::secrets(gateway(&[process("one", "cat")])).start();
    let request =
        gateway.request().method("POST").path("/system/scale-function/one").header(RIGHT.0, RIGHT.1);
    // A client's own `X-Forwarded-For` does not count.
    let request =
        request.header("X-Caller", "user root, client 9.9.9.9").header("X-Forwarded-For", "9.9.9.9");
    assert_eq!(request.body("{\"replicas\": 2}").send().unwrap().status, 202);
    gateway.wait_log("scaled from 1 to 2 by scale-function (user admin, client 127.0.0.1)", SOON);
}
