//! Routes: which request reaches which function, and in which form.

use serde_json::json;
use testkit::{Peer, Reply, Running};

use crate::{ONE, SOON, at, before, counts, gateway, is_own, path, rejected, well};

/// The first line of the last request that the function got.
fn last_line(peer: &Peer) -> Vec<u8> {
    let head = peer.requests().pop().expect("a request").head;
    head.split(|byte| *byte == b'\r').next().unwrap_or_default().to_vec()
}

#[test]
fn path_and_query_arrive_byte_for_byte() {
    let peer = well();
    let gateway = before(&peer).start();
    let cases: [(&[u8], &[u8]); 15] = [
        (b"", b"/"),
        (b"/", b"/"),
        (b"?", b"/?"),
        (b"?a=b", b"/?a=b"),
        (b"/?a=b", b"/?a=b"),
        (b"/a/b/", b"/a/b/"),
        (b"//a//b", b"//a//b"),
        (b"/./a/../../b", b"/./a/../../b"),
        (b"/a%2fb%2Fc%00%25%zz%", b"/a%2fb%2Fc%00%25%zz%"),
        (b"/a;b=c,d:e@f&g=h+i!$'()*~", b"/a;b=c,d:e@f&g=h+i!$'()*~"),
        (b"/a?b=%20+c&&d=?e=/fg", b"/a?b=%20+c&&d=?e=/fg"),
        (b"/\xc3\xa4\xe2\x82\xac", b"/\xc3\xa4\xe2\x82\xac"),
        (b"/a|b\\c^d`e{f}", b"/a|b\\c^d`e{f}"),
        (b"/function/one", b"/function/one"),
        (b"/metrics", b"/metrics"),
    ];
    for (below, want) in cases {
        let reply = gateway.request().path([b"/function/one", below].concat()).send().unwrap();
        assert_eq!(reply.status, 200, "{}", below.escape_ascii());
        let want = [b"GET ", want, b" HTTP/1.1"].concat();
        let got = last_line(&peer);
        assert_eq!(got, want, "{}", got.escape_ascii());
    }
}

#[test]
fn absolute_and_long_targets_arrive() {
    let peer = well();
    let gateway = before(&peer).start();
    assert_eq!(gateway.get(&format!("http://any.test{}", path("/a?b"))).status, 200);
    assert_eq!(last_line(&peer), b"GET /a?b HTTP/1.1");
    let told = |name: &str| peer.requests().pop().and_then(|request| request.header(name).map(str::to_owned));
    assert_eq!((told("host"), told("x-forwarded-host")), (Some("any.test".into()), Some("any.test".into())));
    let long = format!("/{}", "q".repeat(30_000));
    assert_eq!(gateway.get(&path(&long)).status, 200);
    assert_eq!(last_line(&peer), format!("GET {long} HTTP/1.1").into_bytes());
}

#[test]
fn every_method_arrives() {
    let peer = well();
    let gateway = before(&peer).start();
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "M-SEARCH", "get", "HEAD"] {
        for by_header in [false, true] {
            let request = gateway.request().method(method);
            let request = match by_header {
                true => request.path("/?x").header("X-Function", ONE),
                false => request.path(path("?x")),
            };
            let reply = request.send().unwrap();
            assert_eq!(reply.status, 200, "{method}, by header: {by_header}");
            assert_eq!(last_line(&peer), format!("{method} /?x HTTP/1.1").into_bytes());
        }
    }
}

#[test]
fn bodies_of_all_methods_arrive() {
    let peer = well();
    let gateway = before(&peer).start();
    for method in ["GET", "POST", "DELETE", "OPTIONS"] {
        let reply = gateway.request().method(method).path(path("")).body("with a body").send().unwrap();
        assert_eq!(reply.status, 200);
        let request = peer.requests().pop().unwrap();
        assert_eq!((request.method.as_str(), &request.body[..]), (method, &b"with a body"[..]));
    }
}

#[test]
fn the_header_names_the_function_at_the_root_only() {
    let (one, two) = (well(), well());
    let gateway = gateway(&[at(ONE, &[one.addr()]), at("two", &[two.addr()])]).start();
    let by = |path: &str, name: &str| {
        gateway.request().method("POST").path(path).header("x-function", name).body("{}").send().unwrap()
    };
    assert_eq!(by("/", "two").status, 200);
    assert_eq!((one.requests().len(), two.requests().len()), (0, 1));
    assert_eq!(by("/function/one", "two").status, 200, "the path is what counts there");
    assert_eq!((one.requests().len(), two.requests().len()), (1, 1));
    is_own(&by("/", "three"), (404, "unknown_function"), &["three", "functions_file"]);
    is_own(&by("/", "../one"), (404, "unknown_function"), &["a name of 1 to 128 letters"]);
    is_own(&by("/", ""), (400, "not_alexa"), &["X-Function"]);
    for second in ["one", "two", ""] {
        let mut connection = gateway.connect();
        let fields = format!("X-Function: one\r\nx-function: {second}\r\nContent-Length: 0\r\n");
        connection.send(format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n")).unwrap();
        let reply = connection.within(SOON).reply("POST").unwrap();
        is_own(&reply, (400, "function_repeated"), &["X-Function"]);
    }
    assert_eq!(rejected(&gateway, "function_repeated"), 3.0);
    is_own(&by("/x", "two"), (404, "no_route"), &["/function/NAME"]);
}

fn alexa(gateway: &Running, body: impl Into<Vec<u8>>) -> Reply {
    gateway.request().method("POST").body(body).send().unwrap()
}

/// A request of Alexa, with `filler` more bytes.
fn intent(name: &str, filler: usize) -> String {
    let session = json!({ "sessionId": "s", "application": { "applicationId": "a" }, "new": true });
    let request = json!({ "type": "IntentRequest", "intent": { "name": name, "slots": {} } });
    json!({ "session": session, "request": request, "filler": "f".repeat(filler) }).to_string()
}

#[test]
fn alexa_is_routed_by_the_name_of_the_intent() {
    let peer = well();
    let gateway = before(&peer).start();
    let body = intent(ONE, 0);
    assert_eq!(alexa(&gateway, body.clone()).text(), "ok");
    let request = peer.requests().pop().unwrap();
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/"));
    assert!(request.body == body.as_bytes(), "the function gets the whole of it");
    assert_eq!(request.header("content-length"), Some(&*body.len().to_string()));
    // Chunked: the gateway knows the length once it has read the body.
    let pieces = body.as_bytes().chunks(7).map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert_eq!(gateway.request().method("POST").path("/?a=b").chunks(pieces).send().unwrap().status, 200);
    let request = peer.requests().pop().unwrap();
    assert_eq!((request.target.as_str(), request.header("transfer-encoding")), ("/?a=b", None));
    assert!(request.body == body.as_bytes());
    counts(&gateway, "200", 2.0);
}

#[test]
fn alexa_bodies_are_read_up_to_a_limit() {
    const LIMIT: usize = 256 * 1024;
    let peer = well();
    let gateway = before(&peer).start();
    let at_limit = intent(ONE, LIMIT - intent(ONE, 0).len());
    assert_eq!(at_limit.len(), LIMIT);
    assert_eq!(alexa(&gateway, at_limit.clone()).status, 200);
    assert!(peer.requests().pop().unwrap().body == at_limit.as_bytes());
    let over = intent(ONE, LIMIT + 1 - intent(ONE, 0).len());
    is_own(&alexa(&gateway, over.clone()), (400, "not_alexa"), &["256 KiB"]);
    let chunks = over.as_bytes().chunks(50_000).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let reply = gateway.request().method("POST").chunks(chunks).send().unwrap();
    is_own(&reply, (400, "not_alexa"), &["256 KiB"]);
    // A body with a larger announced length is not read.
    let mut connection = gateway.connect();
    connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000000\r\n\r\n{").unwrap();
    is_own(&connection.within(SOON).reply("POST").unwrap(), (400, "not_alexa"), &[]);
    assert_eq!(peer.requests().len(), 1);
}

#[test]
fn a_request_that_is_not_alexas_is_told_the_expected_form() {
    let peer = well();
    let gateway = before(&peer).start();
    let whole = intent(ONE, 0);
    let without = |field: &str| whole.replace(field, "other");
    for body in [
        String::new(),
        "hello".to_owned(),
        "null".to_owned(),
        whole[..whole.len() - 1].to_owned(),
        format!("{whole}x"),
        without("sessionId"),
        without("applicationId"),
        without("intent"),
        whole.replace("\"one\"", "1"),
        whole.replace("\"one\"", "\"\""),
        "[".repeat(100_000),
    ] {
        let shown = body[..body.len().min(100)].to_owned();
        let reply = alexa(&gateway, body);
        is_own(&reply, (400, "not_alexa"), &["X-Function", "session.sessionId", "request.intent.name"]);
        assert!(reply.is_complete, "{shown}");
    }
    for name in ["nobody", "../one", "one/x", "127.0.0.1:80", "o\u{e9}"] {
        is_own(&alexa(&gateway, intent(name, 0)), (404, "unknown_function"), &[name]);
    }
    assert_eq!(peer.connections(), 0);
    assert_eq!(rejected(&gateway, "not_alexa"), 11.0);
    assert_eq!(rejected(&gateway, "unknown_function"), 5.0);
}

#[test]
fn the_root_redirects_browsers() {
    let gateway = gateway(&[]).start();
    for method in ["GET", "HEAD"] {
        let reply = gateway.request().method(method).send().unwrap();
        assert_eq!((reply.status, reply.header("location")), (302, Some("/ui/")), "{method}");
    }
    let reply = gateway.request().method("DELETE").send().unwrap();
    is_own(&reply, (405, "method_not_allowed"), &["GET, HEAD, POST"]);
    assert_eq!(reply.header("allow"), Some("GET, HEAD, POST"));
}

#[test]
fn unknown_and_invalid_names_are_404() {
    let peer = well();
    let gateway = before(&peer).start();
    for name in ["two", "One", "one.", "%6fne", "one%20", "-one", "..", "", &"n".repeat(129)] {
        is_own(&gateway.get(&format!("/function/{name}")), (404, "unknown_function"), &[]);
    }
    is_own(&gateway.get("/function/two/one"), (404, "unknown_function"), &["`two`", "functions_file"]);
    for path in ["/function", "/functions/one", "/x", "/healthz/", "/metrics/x", "/favicon.ico", "//"] {
        is_own(&gateway.get(path), (404, "no_route"), &["/function/NAME"]);
    }
    let reply = gateway.request().method("OPTIONS").path("*").send().unwrap();
    is_own(&reply, (404, "no_route"), &[]);
    assert_eq!(peer.connections(), 0);
    assert_eq!(rejected(&gateway, "unknown_function"), 10.0);
    assert_eq!(rejected(&gateway, "no_route"), 8.0);
}

#[test]
fn pages_of_the_gateway_accept_only_get_and_head() {
    let gateway = gateway(&[]).start();
    for path in ["/metrics", "/metrics/", "/healthz"] {
        let (get, head) = (gateway.get(path), gateway.request().method("HEAD").path(path).send().unwrap());
        assert_eq!((get.status, head.status, head.body.len()), (200, 200, 0), "{path}");
        let reply = gateway.post(path, "x");
        is_own(&reply, (405, "method_not_allowed"), &["GET, HEAD"]);
        assert_eq!(reply.header("allow"), Some("GET, HEAD"));
    }
    let health = gateway.get("/healthz");
    assert_eq!((health.text().as_str(), health.header("content-length")), ("ok\n", Some("3")));
    assert_eq!(rejected(&gateway, "method_not_allowed"), 3.0);
}
