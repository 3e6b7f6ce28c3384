//! Where the gateway listens, and what it serves there.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use testkit::unreachable::Refusing;
use testkit::{Bin, Gate, Peer, Reply, Script, http, proc};

use crate::{OK, SOON, before, gateway, is_own, is_well, path, process, well};

fn get(to: SocketAddr, path: &str) -> Reply {
    http::request(to).path(path).send().unwrap_or_else(|error| panic!("{to}{path}: {error}"))
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[test]
fn the_gateway_listens_at_several_addresses() {
    let peer = well();
    let six = if has_ipv6() { "[::1]:0" } else { "127.0.0.4:0" };
    let gateway = before(&peer).env("listen", format!("127.0.0.2:0, 127.0.0.3:0,{six}")).start();
    let addresses = gateway.addrs(3);
    let ips: Vec<String> = addresses.iter().rev().map(|address| address.ip().to_string()).collect();
    assert_eq!(ips[..2], ["127.0.0.2", "127.0.0.3"]);
    for address in &addresses {
        assert_eq!(get(*address, &path("")).text(), "ok", "{address}");
    }
    let log = gateway.log();
    assert!(log.lines().last().unwrap().ends_with(&format!("listening on {}", addresses[2])), "{log}");
}

#[test]
fn the_ipv4_and_ipv6_wildcards_share_a_port() {
    if !has_ipv6() {
        return eprintln!("skipped: there is no IPv6 here");
    }
    let peer = well();
    // Another process may take a free port before the gateway does; then try another.
    let start = || {
        let port = Refusing::new().addr().port();
        let list = format!("[::]:{port},0.0.0.0:{port}");
        let process = before(&peer).env("listen", &list).spawn();
        testkit::eventually(SOON, || match process.try_status().is_some() {
            true => Ok(None),
            false if process.log().matches("listening on ").count() == 2 => Ok(Some(port)),
            false => Err(process.log()),
        })
        .map(|port| (process, port))
    };
    let (_process, port) = (0..10).find_map(|_| start()).expect("a free port");
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        assert_eq!(get(SocketAddr::new(ip, port), &path("")).text(), "ok", "{ip}");
    }
}

#[test]
fn an_unusable_address_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (setting, address, parts) in [
        ("listen", &*taken, [&*taken, "setting listen"]),
        ("admin_listen", &*taken, [&*taken, "setting admin_listen"]),
        ("listen", "203.0.113.1:0", ["203.0.113.1:0", "setting listen"]),
        ("admin_listen", "203.0.113.0/24:0", ["port 0 in 203.0.113.0/24", "this machine has no address"]),
    ] {
        let output = gateway(&[]).env(setting, address).run();
        let line = output.stderr.lines().last().unwrap_or_default();
        assert_eq!(output.code(), 1, "{output:?}");
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?} in {output:?}");
    }
}

#[test]
fn admin_listen_serves_only_the_control_plane_and_metrics() {
    let peer = well();
    let gateway = before(&peer).env("admin_listen", "127.0.0.0/8:0").start();
    let (main, admin) = (gateway.addr(), gateway.admin_addr());
    for path in ["/system/functions", "/system/x", "/ui/", "/metrics", "/"] {
        is_own(&get(main, path), (404, "no_route"), &["admin_listen"]);
    }
    for path in [&*path(""), "/load", "/function/unknown"] {
        is_own(&get(admin, path), (404, "no_route"), &["served at listen, or at port"]);
    }
    is_own(&http::request(admin).method("POST").send().unwrap(), (404, "no_route"), &["listen"]);
    let by_header = http::request(admin).method("POST").header("X-Function", "one").send().unwrap();
    is_own(&by_header, (404, "no_route"), &["listen"]);
    for path in ["/system/functions", "/metrics", "/healthz"] {
        assert_eq!(get(admin, path).status, 200, "{path}");
    }
    assert_eq!(get(admin, "/").header("location"), Some("/ui/"));
    for path in ["/load", "/healthz"] {
        assert_eq!(get(main, path).status, 200, "{path}");
    }
    assert_eq!(peer.requests().len(), 0);
    is_well(&gateway);
    // A kept connection serves the same paths as before.
    let mut client = testkit::http::Client::new(admin);
    for (path, status) in [("/metrics", 200), ("/function/one", 404), ("/metrics", 200)] {
        assert_eq!(client.request().path(path).send().unwrap().status, status, "{path}");
    }
    let log = gateway.log();
    assert!(log.contains("open to everybody who reaches admin_listen"), "{log}");
}

#[test]
fn a_drain_shows_at_every_address_and_closes_all() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK));
    let gateway = before(&peer).env("admin_listen", "127.0.0.1:0").env("listen", "127.0.0.1:0,127.0.0.2:0");
    let gateway = gateway.env("drain_timeout", "60s").start();
    let admin = gateway.admin_addr();
    let mut call = gateway.connect();
    call.send("GET /function/one HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    peer.wait_requests(1, SOON);
    gateway.signal(proc::SIGTERM);
    gateway.wait_log("draining", SOON);
    for address in gateway.addrs(2).into_iter().chain([admin]) {
        assert_eq!(get(address, "/healthz").status, 503, "health checks see the drain at {address}");
    }
    gate.open();
    assert_eq!(call.within(SOON).reply("GET").unwrap().status, 200);
    drop(call);
    assert_eq!(gateway.wait(SOON).code(), Some(0));
}

#[test]
fn the_health_check_asks_the_first_address() {
    let check = |listen: &str, admin: &str| {
        Bin::gateway().env("listen", listen).env("admin_listen", admin).arg("--healthcheck").run()
    };
    let gateway = gateway(&[]).env("listen", "127.0.0.2:0").env("admin_listen", "127.0.0.3:0").start();
    let (main, admin) = (gateway.addr().to_string(), gateway.admin_addr().to_string());
    for listen in [&*main, &main.replace("127.0.0.2", "127.0.0.2/32"), &admin] {
        let output = check(listen, &admin);
        assert_eq!((output.code(), &*output.stderr), (0, ""), "{listen}");
    }
    let output = check("203.0.113.0/24:80", "");
    assert!(
        output.code() == 1 && output.stderr.contains("not healthy: port 80 in 203.0.113.0/24"),
        "{output:?}"
    );
    if has_ipv6() {
        let gateway = crate::gateway(&[]).env("listen", "[::]:0").start();
        let output = check(&format!("[::]:{}", gateway.addr().port()), "");
        assert_eq!((output.code(), &*output.stderr), (0, ""));
    }
}

#[test]
fn metrics_auth_guards_the_metrics() {
    let with = |gateway: &testkit::Running, path: &str, password: &str| {
        let request = gateway.request().path(path).header("Authorization", password);
        request.send().unwrap().status
    };
    let (right, wrong) = ("Basic YWRtaW46cGE6c3M=", "Basic YWRtaW46bm8=");
    let bin = crate::control::secrets(gateway(&[process("one", "cat")]));
    let gateway = bin.env("metrics_auth", "true").start();
    for path in ["/metrics", "/metrics/", "/system/info"] {
        is_own(&gateway.get(path), (401, "unauthorized"), &["basic_auth"]);
        assert_eq!((with(&gateway, path, wrong), with(&gateway, path, right)), (401, 200), "{path}");
    }
    assert_eq!(gateway.get("/healthz").status, 200);
    assert_eq!(gateway.get("/load").status, 200);
    let output = crate::gateway(&[]).env("metrics_auth", "true").run();
    assert_eq!(output.code(), 2, "{output:?}");
    assert!(output.stderr.contains("metrics_auth: expected basic_auth=true"), "{output:?}");
}
