//! Headers: what the gateway adds, what it forwards, and what it drops.

use std::time::Duration;

use testkit::script::Request;
use testkit::unreachable::Refusing;
use testkit::{Peer, Script};

use crate::{OK, ONE, at, before, counts, gateway as gateway_of, path, well};

/// The lines of a head that the function got, without the first.
fn lines(request: &Request) -> Vec<String> {
    let head = String::from_utf8_lossy(&request.head).into_owned();
    head.trim_end().split("\r\n").skip(1).map(str::to_owned).collect()
}

fn answering(answer: &str) -> Peer {
    Peer::tcp(Script::new().request().send(answer).repeat())
}

/// Parses a duration as the gateway writes it.
fn ms(text: &str) -> u64 {
    text.strip_suffix("ms").and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn the_function_gets_the_clients_fields_in_their_order() {
    let peer = well();
    let gateway = before(&peer).start();
    let request = gateway.request().path(path("")).header("Host", "shop.test:81").header("X-B", "1");
    let request = request.header("x-a", b"\xe4\xff").header("X-B", " 2 ").header("Cookie", "a=b; c=\"d,e\"");
    request.header("X-Empty", "").header("Accept", "*/*").send().unwrap();
    let got = peer.requests().pop().unwrap();
    let raw = got.head.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"x-a")).unwrap().to_vec();
    assert_eq!(raw, b"x-a: \xe4\xff\r");
    let lines = lines(&got);
    let own: Vec<&str> = lines.iter().map(String::as_str).filter(|line| !line.starts_with("x-a")).collect();
    let wanted =
        ["Host: shop.test:81", "X-B: 1", "X-B: 2", "Cookie: a=b; c=\"d,e\"", "X-Empty: ", "Accept: */*"];
    assert_eq!(own[..6], wanted);
    let names: Vec<&str> = own[6..].iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(names, ["X-Call-Id", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"]);
}

#[test]
fn the_function_learns_the_caller_and_the_time_limit() {
    let peer = well();
    let gateway = before(&peer).env("upstream_timeout", "20s").env("trusted_proxies", "127.0.0.1").start();
    gateway.request().path(path("")).header("Host", "shop.test").send().unwrap();
    let got = peer.requests().pop().unwrap();
    assert_eq!(got.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(got.header("x-forwarded-host"), Some("shop.test"));
    assert_eq!(got.header("x-forwarded-proto"), Some("http"));
    assert_eq!(got.header("x-timeout"), None, "its answer may stream for as long as it likes");

    // Behind a trusted proxy, with a limit of the caller for the whole call.
    let request = gateway.request().path(path("")).header("X-Forwarded-For", "9.9.9.9");
    let request = request.header("x-forwarded-for", "8.8.8.8").header("X-Forwarded-Host", "outer.test");
    request.header("X-Forwarded-Proto", "https").header("X-Timeout", "5s").send().unwrap();
    let got = peer.requests().pop().unwrap();
    assert_eq!(got.header("x-forwarded-for"), Some("9.9.9.9, 8.8.8.8, 127.0.0.1"));
    assert_eq!(got.header("x-forwarded-host"), Some("outer.test"));
    assert_eq!(got.header("x-forwarded-proto"), Some("https"));
    let count = |name: &str| got.headers.iter().filter(|(have, _)| have == name).count();
    assert_eq!((count("x-forwarded-for"), count("x-forwarded-host"), count("x-timeout")), (1, 1, 1));
    let left = ms(got.header("x-timeout").unwrap());
    assert!((2_000..=5_000).contains(&left), "{left}");
    for (theirs, most) in [("1h", Some(3_600_000)), ("soon", None), ("0", None), ("3", Some(3_000))] {
        gateway.request().path(path("")).header("X-Timeout", theirs).send().unwrap();
        let left = peer.requests().pop().unwrap().header("x-timeout").map(ms);
        assert_eq!(left.is_some(), most.is_some(), "{theirs}");
        assert!(left <= most && left >= most.map(|most| most / 2), "{theirs}: {left:?}");
    }
}

#[test]
fn a_client_cannot_forge_its_address() {
    let peer = well();
    for trusted in ["", "10.0.0.0/8, ::1, 127.0.0.2"] {
        let gateway = before(&peer).env("trusted_proxies", trusted).start();
        let mut connection = gateway.connect();
        let fields = "X-Forwarded-For: 9.9.9.9\r\nx-forwarded-for: 8.8.8.8\r\nX-Forwarded-Host: evil.test\r\n\
            X-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Prefix: /evil\r\n\
            Forwarded: for=9.9.9.9\r\nX-Real-IP: 9.9.9.9\r\nX-Stays: 1\r\n\
            Connection: X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, X-Call-Id\r\n";
        connection.send(crate::raw("GET", fields, "")).unwrap();
        assert_eq!(connection.reply("GET").unwrap().status, 200);
        let mut headers = peer.requests().pop().unwrap().headers;
        headers.retain(|(name, _)| name != "x-call-id");
        let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let want = [
            "host: test",
            "x-stays: 1",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: test",
            "x-forwarded-proto: http",
        ];
        assert_eq!(headers, want, "trusted_proxies={trusted}");
    }
}

/// Programs that look headers up as variables cannot tell `_` from `-`.
#[test]
fn no_forwarded_field_can_be_mistaken_for_another() {
    let peer = well();
    let fields = "X-Auth-User: me\r\nX-Auth_User: you\r\nX_Other: 1\r\nX_Forwarded_Proto: https\r\nX_Forwarded-For: 9.9.9.9\r\n\
        X_Call_Id: x\r\nContent_Length: 9\r\nTransfer_Encoding: chunked\r\nKeep_Alive: 1\r\nProxy: evil\r\n";
    for (underscores, kept) in [("false", &[][..]), ("true", &["x-auth_user", "x_other"])] {
        let gateway = before(&peer).env("underscores", underscores).env("log", "debug").start();
        let mut connection = gateway.connect();
        connection.send(crate::raw("GET", fields, "")).unwrap();
        assert_eq!(connection.reply("GET").unwrap().status, 200);
        let got = peer.requests().pop().unwrap();
        let names: Vec<&str> = got.headers.iter().map(|(name, _)| &**name).collect();
        let ours = ["x-call-id", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
        assert_eq!(names, [&["host", "x-auth-user"], kept, &ours].concat(), "underscores={underscores}");
        let log = gateway.log();
        assert_eq!(log.contains("left out X-Auth_User: its name has a `_`"), kept.is_empty(), "{log}");
    }
}

#[test]
fn a_retry_tells_the_remaining_time() {
    // The first try lasts a while before it breaks off; the second is told that much less.
    let scripts = [
        Script::new().request().send(OK).request().pause(Duration::from_millis(300)).close(),
        Script::new().request().send(OK).repeat(),
    ];
    let peer = Peer::tcp_each(scripts.to_vec());
    let gateway = before(&peer).start();
    let mut client = gateway.client();
    for _ in 0..2 {
        let request = client.request().path(path("")).header("X-Timeout", "30s");
        assert_eq!(request.send().unwrap().status, 200);
    }
    let left: Vec<u64> =
        peer.requests().iter().map(|request| ms(request.header("x-timeout").unwrap())).collect();
    assert_eq!(left.len(), 3, "the second was repeated");
    assert!(left[2] + 250 <= left[1], "{left:?}");
}

#[test]
fn a_call_has_the_same_id_in_request_and_answer() {
    let peer = well();
    let gateway = before(&peer).start();
    let reply = gateway.request().path(path("")).header("X-Call-Id", "mine-1").send().unwrap();
    assert_eq!(reply.header("x-call-id"), Some("mine-1"));
    assert_eq!(peer.requests().pop().unwrap().header("x-call-id"), Some("mine-1"));
    let mut seen = vec![];
    for theirs in [None, Some(""), Some("not fit"), Some(&*"l".repeat(129))] {
        let request = gateway.request().path(path(""));
        let request = theirs.into_iter().fold(request, |request, id| request.header("X-Call-Id", id));
        let reply = request.send().unwrap();
        let id = reply.header("x-call-id").unwrap().to_owned();
        assert!(id.len() == 16 && Some(&*id) != theirs, "{id}");
        let got = peer.requests().pop().unwrap();
        assert_eq!(got.header("x-call-id"), Some(&*id));
        assert_eq!(got.headers.iter().filter(|(name, _)| name == "x-call-id").count(), 1);
        seen.push(id);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4, "{seen:?}");
    // The gateway's own answers have the id too.
    let refusing = Refusing::new();
    let gateway = gateway_of(&[at(ONE, &[refusing.addr()])]).env("connect_timeout", "100ms").start();
    let reply = gateway.request().path(path("")).header("X-Call-Id", "mine-2").send().unwrap();
    assert_eq!((reply.status, reply.header("x-call-id")), (502, Some("mine-2")));
    assert!(reply.header("x-duration-seconds").is_some());
}

#[test]
fn hop_by_hop_fields_of_the_request_stay_on_their_hop() {
    let peer = well();
    let gateway = before(&peer).start();
    let mut connection = gateway.connect();
    let fields = "Connection: keep-alive, X-Mine,, x-other\r\nX-Mine: 1\r\nX-OTHER: 2\r\nx-mine: 3\r\n\
        Connection: X-Third\r\nX-Third: 4\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nTrailer: X-T\r\n\
        Upgrade: h2c\r\nProxy-Connection: close\r\nProxy-Authorization: Basic x\r\nX-Stays: 5\r\n\
        Authorization: Bearer y\r\nExpect: nothing\r\n";
    connection.send(crate::raw("GET", fields, "")).unwrap();
    assert_eq!(connection.reply("GET").unwrap().status, 200);
    let got = peer.requests().pop().unwrap();
    let names: Vec<&str> = got.headers.iter().map(|(name, _)| &**name).collect();
    let ours = ["x-call-id", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
    assert_eq!(names, [&["host", "x-stays", "authorization"][..], &ours].concat());
}

#[test]
fn hop_by_hop_fields_of_the_answer_stay_on_their_hop() {
    let peer = answering(
        "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nConnection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: max=1\r\n\
         Proxy-Authenticate: x\r\nUpgrade: h2c\r\nTrailer: x\r\nX-Stays: 2\r\nSet-Cookie: a\r\nset-cookie: b\r\n\
         Date: then\r\nServer: theirs\r\n\r\nok",
    );
    let gateway = before(&peer).start();
    let mut client = gateway.client();
    for _ in 0..2 {
        let reply = client.request().path(path("")).send().unwrap();
        let names: Vec<&str> = reply.head.headers.iter().map(|(name, _)| &**name).collect();
        let ours = ["X-Call-Id", "X-Duration-Seconds", "Content-Length"];
        assert_eq!(names, [&["X-Stays", "Set-Cookie", "set-cookie", "Date", "Server"][..], &ours].concat());
        assert_eq!(reply.header("date"), Some("then"));
    }
    assert_eq!((client.opened(), peer.connections()), (1, 1), "both are kept");
}

#[test]
fn a_function_cannot_forge_an_answer_of_the_gateway() {
    let peer = answering(
        "HTTP/1.1 504 Mine\r\nX-Gateway-Error: draining\r\nX-Call-Id: forged\r\nX-Duration-Seconds: 99\r\n\
         X-Cold-Start-Ms: 1\r\nContent-Length: 2\r\n\r\nno",
    );
    let gateway = before(&peer).start();
    let reply = gateway.request().path(path("")).header("X-Call-Id", "real").send().unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (504, "no"));
    assert_eq!(reply.header("x-gateway-error"), None);
    assert_eq!(
        reply.header("x-cold-start-ms"),
        Some("1"),
        "the function may have waited for its own process"
    );
    assert_eq!(reply.head.header_all("x-call-id"), [b"real"]);
    let took = reply.head.header_all("x-duration-seconds");
    let took: f64 = std::str::from_utf8(took[0]).unwrap().parse().unwrap();
    assert!(took < 5.0, "{took}");
    counts(&gateway, "504", 1.0);
}

#[test]
fn the_gateway_speaks_http_1_1_to_functions() {
    let peer = well();
    let gateway = before(&peer).start();
    let mut connection = gateway.connect();
    connection.send(format!("GET {} HTTP/1.0\r\n\r\n", path("/old"))).unwrap();
    assert_eq!(connection.reply("GET").unwrap().text(), "ok");
    let got = peer.requests().pop().unwrap();
    assert!(got.head.starts_with(b"GET /old HTTP/1.1\r\n"), "{}", got.head.escape_ascii());
    assert_eq!(got.header("host"), Some(&*peer.addr().to_string()));
    assert_eq!(got.header("connection"), None);
    let mut kept = gateway.connect();
    for _ in 0..2 {
        kept.send(format!("GET {} HTTP/1.0\r\nHost: {ONE}\r\nConnection: keep-alive\r\n\r\n", path("")))
            .unwrap();
        let reply = kept.reply("GET").unwrap();
        assert!(reply.head.keeps_alive() || reply.head.has_token("connection", "keep-alive"));
    }
}
