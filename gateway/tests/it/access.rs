//! Functions with a password, a token or a signature: only callers with the secret reach them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::Mac as _;
use serde_json::{Value, json};
use testkit::http::{chunked, raw as talk};
use testkit::rng::Rng;
use testkit::{Bin, Peer, Reply, Running, Script, eventually, proc};

use crate::{ONE, SOON, at, counts, dogs, gateway, is_own, path, process, raw, rejected, well};

/// The key of [`signed`].
const SECRET: &str = "It's a Secret to Everybody";

const BAD: (u16, &str) = (401, "bad_signature");

/// More than the gateway reads before it begins a call.
const LARGE: usize = 300_000;

fn labelled(mut function: Value, labels: Value) -> Value {
    function["labels"] = labels;
    function
}

/// A gateway in front of one function with these labels and secrets.
fn guarded(function: Value, labels: Value, secrets: &[(&str, &str)]) -> Bin {
    let bin = gateway(&[labelled(function, labels)]);
    for (name, content) in secrets {
        bin.file(name, content);
    }
    let directory = bin.dir().to_owned();
    bin.env("secret_mount_path", directory)
}

fn before(peer: &Peer, labels: Value, secrets: &[(&str, &str)]) -> Running {
    guarded(at(ONE, &[peer.addr()]), labels, secrets).start()
}

/// A gateway in front of a function with bodies signed by [`SECRET`].
fn signing(peer: &Peer) -> Running {
    before(peer, json!({ "faas.hmac": "hook" }), &[("hook", SECRET)])
}

fn code(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut code = hmac::Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    code.update(data);
    code.finalize().into_bytes().to_vec()
}

/// The header with GitHub's signature of a body.
fn signed(body: &[u8]) -> String {
    let digits: String = code(SECRET.as_bytes(), body).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("X-Hub-Signature-256: sha256={digits}\r\n")
}

fn send(gateway: &Running, fields: &[(&str, &str)]) -> Reply {
    let request = gateway.request().method("POST").path(path("/x")).body("hello");
    fields.iter().fold(request, |request, (name, value)| request.header(name, value)).send().unwrap()
}

fn echo() -> Peer {
    let answer = |request: &testkit::script::Request| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
        [head.as_bytes(), &request.body].concat()
    };
    Peer::tcp(Script::new().request().answer(answer).repeat())
}

/// Makes the gateway read its secrets again.
#[track_caller]
fn reread(gateway: &Running) {
    let count = || gateway.log().matches("read again").count();
    let before = count();
    gateway.signal(proc::SIGHUP);
    // The log has a line for the secrets and one for the file.
    eventually(SOON, || if count() >= before + 2 { Ok(()) } else { Err(gateway.log()) });
}

#[test]
fn a_function_asks_for_user_and_password() {
    let peer = well();
    let gateway = before(&peer, json!({ "faas.auth": "users" }), &[("users", "ada:pa:ss\r\nbob:word\n")]);
    let good = ("Authorization", "Basic Ym9iOndvcmQ=");
    for fields in [
        &[][..],
        &[("Authorization", "Basic Ym9iOndvcmRz")],
        &[("Authorization", "Bearer Ym9iOndvcmQ=")],
        &[good, good],
        &[("X-Authorization", good.1), ("Proxy-Authorization", good.1)],
    ] {
        let reply = send(&gateway, fields);
        is_own(&reply, (401, "unauthorized"), &["user and password", "`one`", "faas.auth"]);
        assert_eq!(reply.header("www-authenticate"), Some("Basic realm=\"one\""));
    }
    assert_eq!((peer.connections(), rejected(&gateway, "unauthorized")), (0, 5.0));
    for value in [good.1, "basic YWRhOnBhOnNz"] {
        assert_eq!(send(&gateway, &[("authorization", value), ("X-A", "b")]).status, 200);
        let got = peer.requests().pop().unwrap();
        assert_eq!((got.header("authorization"), got.header("x-a")), (None, Some("b")));
    }
    counts(&gateway, "200", 2.0);
    counts(&gateway, "401", 0.0);
}

#[test]
fn a_function_asks_for_a_token() {
    let peer = well();
    let gateway = before(&peer, json!({ "faas.auth": "token" }), &[("token", "\u{feff}abc-1\n")]);
    for value in ["Bearer abc-2", "Bearer", "Basic YWJjLTE="] {
        let reply = send(&gateway, &[("Authorization", value)]);
        is_own(&reply, (401, "unauthorized"), &["a token", "faas.auth"]);
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"one\""));
    }
    assert_eq!(send(&gateway, &[("Authorization", "Bearer abc-1")]).status, 200);
    assert_eq!(peer.requests().pop().unwrap().header("authorization"), None);
}

#[test]
fn a_function_without_a_secret_gets_authorization_unchanged() {
    let peer = well();
    for labels in [json!({}), json!({ "faas.hmac": "hook" })] {
        let gateway = before(&peer, labels, &[("hook", SECRET)]);
        let signature = signed(b"hello");
        let signature = signature.trim_end().split_once(": ").unwrap();
        assert_eq!(send(&gateway, &[("Authorization", "Basic x"), signature]).status, 200);
        assert_eq!(peer.requests().pop().unwrap().header("authorization"), Some("Basic x"));
    }
}

#[test]
fn a_client_that_guesses_passwords_of_a_function_is_refused_there() {
    let peer = well();
    let labels = json!({ "faas.auth": "users", "faas.hmac": "hook" });
    let functions = [
        labelled(at(ONE, &[peer.addr()]), labels),
        labelled(at("other", &[peer.addr()]), json!({ "faas.auth": "users" })),
    ];
    let bin = gateway(&functions).env("trusted_proxies", "127.0.0.1");
    bin.file("users", "bob:word");
    bin.file("hook", SECRET);
    let directory = bin.dir().to_owned();
    let gateway = bin.env("secret_mount_path", directory).start();
    let [right, wrong] = ["Basic Ym9iOndvcmQ=", "Basic Ym9iOg=="];
    let ask = |name: &str, client: &str, password: Option<&str>| {
        let request = gateway.request().method("POST").path(format!("/function/{name}")).body("hello");
        let signature = signed(b"hello");
        let (field, value) = signature.trim_end().split_once(": ").unwrap();
        let request = request.header(field, value).header("X-Forwarded-For", client);
        password.iter().fold(request, |request, value| request.header("Authorization", value)).send().unwrap()
    };
    for _ in 0..20 {
        is_own(&ask(ONE, "10.0.0.1", Some(wrong)), (401, "unauthorized"), &[]);
        is_own(&ask(ONE, "10.0.0.1", None), (401, "unauthorized"), &[]);
    }
    for password in [right, wrong, "Bearer x"] {
        let refused = ask(ONE, "10.0.0.1", Some(password));
        is_own(&refused, (429, "too_many_guesses"), &["wrong passwords", "faas.auth"]);
    }
    // No other error may tell a right password from a wrong one.
    let unsigned = [("Authorization", right), ("X-Forwarded-For", "10.0.0.1")];
    is_own(&send(&gateway, &unsigned), (429, "too_many_guesses"), &[]);
    assert_eq!(peer.connections(), 0);
    assert_eq!(ask(ONE, "10.0.0.2", Some(right)).status, 200);
    assert_eq!(ask("other", "10.0.0.1", Some(right)).status, 200, "one function is not the other");
    assert_eq!((rejected(&gateway, "too_many_guesses"), rejected(&gateway, "unauthorized")), (4.0, 40.0));
    let log = gateway.log();
    let lines =
        log.lines().filter(|line| line.contains("function `one`: wrong password or token from 10.0.0.1"));
    assert!((1..=4).contains(&lines.count()), "{log}");
}

/// Every route to a function checks its secret.
#[test]
fn no_route_bypasses_the_secret() {
    let peer = well();
    let gateway = before(&peer, json!({ "faas.auth": "token" }), &[("token", "abc")]);
    let alexa = json!({
        "session": { "sessionId": "s", "application": { "applicationId": "a" } },
        "request": { "intent": { "name": ONE } },
    })
    .to_string();
    let routes = |fields: &str| {
        let get = |target: &str, more: &str| {
            format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}{more}\r\n")
        };
        let length = format!("Content-Length: {}\r\n", alexa.len());
        [
            get("/function/one", ""),
            get("/function/one/a/b?c", ""),
            get("/function/one", "Upgrade: websocket\r\nConnection: upgrade\r\n"),
            get("/", "X-Function: one\r\n"),
            get("/", &length).replace("GET", "POST") + &alexa,
        ]
    };
    let status = |request: &String| {
        let answer = talk(gateway.addr(), request.as_bytes(), SOON);
        String::from_utf8_lossy(&answer)[9..12].to_owned()
    };
    for request in routes("") {
        assert_eq!(status(&request), "401", "{request}");
    }
    assert_eq!(peer.connections(), 0);
    for request in routes("Authorization: Bearer abc\r\n") {
        assert_eq!(status(&request), "200", "{request}");
    }
}

#[test]
fn an_unusable_secret_closes_the_function_until_it_is_mended() {
    let peer = well();
    let gateway = before(&peer, json!({ "faas.auth": "token" }), &[]);
    let token = gateway.dir().join("token");
    let ask = || send(&gateway, &[("Authorization", "Bearer abc")]);
    let is_closed = |why: &str| {
        is_own(&ask(), (503, "no_secret"), &["faas.auth", "log"]);
        let log = gateway.log();
        let line = log.lines().rfind(|line| line.contains("label faas.auth")).unwrap_or_default();
        let parts = ["error", "function `one`", "nobody can call", why];
        assert!(parts.iter().all(|part| line.contains(part)), "{why}: {log}");
    };
    is_closed(token.to_str().unwrap());
    type Make = fn(&Path);
    let cases: [(&str, Make); 7] = [
        ("expected a file that is not empty", |path| fs::write(path, "").unwrap()),
        ("expected a file that is not empty", |path| fs::write(path, "\r\n\n").unwrap()),
        ("expected lines", |path| fs::write(path, "abc\nabc").unwrap()),
        ("larger than 65536 bytes", |path| fs::write(path, "a:b\n".repeat(20_000)).unwrap()),
        ("expected a regular file", |path| fs::create_dir(path).unwrap()),
        ("expected a regular file", |path| {
            assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        }),
        ("No such file", |path| std::os::unix::fs::symlink("nowhere", path).unwrap()),
    ];
    for (why, make) in cases {
        fs::write(&token, "abc\n").unwrap();
        reread(&gateway);
        assert_eq!(ask().status, 200, "before {why}");
        fs::remove_file(&token).unwrap();
        make(&token);
        assert_eq!(ask().status, 200, "nobody has asked for the file to be read");
        reread(&gateway);
        is_closed(why);
        let _ = fs::remove_dir(&token);
        let _ = fs::remove_file(&token);
    }
    assert_eq!(rejected(&gateway, "no_secret"), 8.0);
    assert!(!gateway.log().contains("abc"), "no secret is in the log: {}", gateway.log());
}

#[test]
fn a_label_with_an_invalid_secret_name_refuses_the_file() {
    for name in ["", "../token", "/etc/passwd", "a b"] {
        let output = guarded(process(ONE, "cat"), json!({ "faas.auth": name }), &[]).run();
        assert_eq!(output.code(), 2, "{}", output.stderr);
        assert!(
            output.stderr.contains("field `labels.faas.auth`: expected the name of a secret"),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn a_signed_body_arrives_however_it_is_split() {
    let peer = echo();
    let gateway = signing(&peer);
    let body = b"Hello, World!";
    for (fields, body) in [
        (format!("{}Content-Length: {}\r\n", signed(body), body.len()), body.to_vec()),
        (
            format!("{}Transfer-Encoding: chunked\r\n", signed(body)),
            b"5\r\nHello\r\n8\r\n, World!\r\n0\r\n\r\n".to_vec(),
        ),
    ] {
        let request = [raw("POST", &fields, "").as_bytes(), &body].concat();
        let head = request.len() - body.len();
        for at in head..=request.len() {
            let mut connection = gateway.connect();
            connection.send(&request[..at]).unwrap();
            // The gateway has read the first part once it has answered another request.
            is_counted(&gateway);
            connection.send(&request[at..]).unwrap();
            let reply = connection.within(SOON).reply("POST").unwrap();
            assert_eq!((reply.status, reply.text().as_str()), (200, "Hello, World!"), "{at}");
        }
    }
}

/// Waits until the gateway's threads have answered one more request.
fn is_counted(gateway: &Running) {
    assert_eq!(gateway.get("/healthz").status, 200);
}

#[test]
fn an_empty_body_is_signed_too() {
    let peer = echo();
    let gateway = signing(&peer);
    let bad = signed(b"x");
    for (method, fields, rest) in [
        ("GET", "", ""),
        ("POST", "Content-Length: 0\r\n", ""),
        ("POST", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ] {
        for (signature, status) in [(signed(b""), 200), (bad.clone(), 401), (String::new(), 401)] {
            let mut connection = gateway.connect();
            connection.send(raw(method, &format!("{signature}{fields}"), rest)).unwrap();
            assert_eq!(connection.within(SOON).reply(method).unwrap().status, status, "{method} {fields}");
        }
    }
    assert_eq!(peer.requests().len(), 3);
}

/// The gateway checks a small body before it connects or starts a process.
#[test]
fn a_small_unsigned_body_reaches_no_function() {
    let mut function = process(ONE, "cat");
    function["replicas"] = 0.into();
    let gateway = guarded(function, json!({ "faas.hmac": "hook" }), &[("hook", SECRET)]).start();
    let good = signed(b"hello");
    let bad = signed(b"hello ");
    let requests = [
        raw("POST", "Content-Length: 5\r\n", "hello"),
        raw("POST", &format!("{bad}Content-Length: 5\r\n"), "hello"),
        raw("POST", &format!("{good}{good}Content-Length: 5\r\n"), "hello"),
        raw("POST", &format!("{good}Content-Length: 4\r\n"), "hell"),
        raw("POST", &format!("{bad}Transfer-Encoding: chunked\r\n"), "5\r\nhello\r\n0\r\n\r\n"),
    ];
    for request in &requests {
        let mut connection = gateway.connect();
        for byte in request.as_bytes() {
            connection.send([*byte]).unwrap();
        }
        is_own(&connection.within(SOON).reply("POST").unwrap(), BAD, &["faas.hmac"]);
        let mut connection = gateway.connect();
        connection.send(request).unwrap();
        let reply = connection.within(SOON).reply("POST").unwrap();
        is_own(&reply, BAD, &["faas.hmac"]);
        assert_eq!(reply.header("www-authenticate"), Some("HMAC-SHA256"));
    }
    assert_eq!(rejected(&gateway, "bad_signature"), 2.0 * requests.len() as f64);
    dogs(&gateway, 0);
    assert!(!gateway.log().contains("scaled"), "{}", gateway.log());
    let mut connection = gateway.connect();
    connection.send(raw("POST", &format!("{good}Content-Length: 5\r\n"), "hello")).unwrap();
    assert_eq!(connection.within(SOON).reply("POST").unwrap().text(), "hello");
}

#[test]
fn a_client_without_a_signature_is_not_asked_for_its_body() {
    let peer = echo();
    let gateway = signing(&peer);
    let fields = "Expect: 100-continue\r\nContent-Length: 5\r\n";
    let mut connection = gateway.connect();
    connection.send(raw("POST", fields, "")).unwrap();
    let reply = connection.within(SOON).reply("POST").unwrap();
    is_own(&reply, BAD, &["X-Hub-Signature-256 once"]);
    assert_eq!(reply.interim, [] as [u16; 0]);
    let mut connection = gateway.connect();
    connection.send(raw("POST", &format!("{}{fields}", signed(b"hello")), "")).unwrap();
    assert_eq!(connection.within(SOON).head().unwrap().status, 100);
    connection.send("hello").unwrap();
    assert_eq!(connection.reply("POST").unwrap().text(), "hello");
}

#[test]
fn a_large_body_arrives_whole_only_with_its_signature() {
    let peer = echo();
    let gateway = signing(&peer);
    for size in [16_383, 16_384, 16_385, 65_536, 65_537, LARGE] {
        let body = Rng::new(size as u64).bytes(size);
        let [good, bad] = [signed(&body), signed(&body[1..])].map(|line| line.trim_end().to_owned());
        for framing in ["length", "chunks"] {
            for (line, is_good) in [(&good, true), (&bad, false)] {
                let (name, value) = line.split_once(": ").unwrap();
                let request = gateway.request().method("POST").path(path("")).header(name, value);
                let reply = match framing {
                    "length" => request.body(body.clone()).send(),
                    _ => request.chunks(body.chunks(1000).map(<[u8]>::to_vec).collect::<Vec<_>>()).send(),
                };
                let reply = reply.unwrap_or_else(|error| panic!("{size} {framing} {is_good}: {error}"));
                match is_good {
                    true => assert!(reply.status == 200 && reply.body == body, "{size} {framing}"),
                    false => is_own(&reply, BAD, &["not the signature of this body", "faas.hmac"]),
                }
            }
        }
        // Only the two bodies with the right signature.
        let whole = peer.requests().iter().filter(|request| request.body == body).count();
        assert_eq!(whole, 2, "{size}");
    }
    is_own(&send(&gateway, &[]), BAD, &[]);
}

/// A process cannot take an unsigned body for complete.
#[test]
fn a_process_does_not_see_the_end_of_an_unsigned_body() {
    let function = process(ONE, "sh -c 'cat >\"$TMPDIR/got\" && touch \"$TMPDIR/whole\" && echo done'");
    let gateway = guarded(function, json!({ "faas.hmac": "hook" }), &[("hook", SECRET)]).start();
    let body = Rng::new(1).bytes(LARGE);
    let whole = gateway.dir().join("whole");
    let post = |signature: &str| {
        let (name, value) = signature.trim_end().split_once(": ").unwrap();
        let request = gateway.request().method("POST").path(path("")).header(name, value);
        request.body(body.clone()).send().unwrap()
    };
    is_own(&post(&signed(b"x")), BAD, &["`one`"]);
    counts(&gateway, "401", 1.0);
    // The process is ended before it reaches the end of the body.
    eventually(SOON, || match gateway.descendants().len() {
        1 => Ok(()), // the replica's fwatchdog
        left => Err(format!("{left} processes run")),
    });
    assert!(!whole.exists());
    assert_eq!(post(&signed(&body)).text(), "done\n");
    assert!(whole.exists() && fs::read(gateway.dir().join("got")).unwrap() == body);
}

/// An answer that comes before the end of the body waits for the signature.
#[test]
fn no_answer_is_sent_before_the_signature_is_checked() {
    let script = || Script::new().head().send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
    // Whether the answer is still there once all is sent.
    for (end, is_left) in [
        (script().close(), true),
        (script().body(), true),
        (script().reset(), false),
        (script().stall(), false), // the peer never takes the whole body
    ] {
        let peer = Peer::tcp(end);
        let gateway = signing(&peer);
        let body = Rng::new(1).bytes(10 * LARGE);
        let (good, bad) = (signed(&body), signed(b"x"));
        let mut connection = gateway.connect();
        connection.send(raw("POST", &format!("{bad}Content-Length: {}\r\n", 2 * LARGE), "")).unwrap();
        connection.send(&body[..LARGE]).unwrap();
        peer.wait_requests(1, SOON);
        is_counted(&gateway);
        connection.send(&body[..LARGE]).unwrap();
        is_own(&connection.within(SOON).reply("POST").unwrap(), BAD, &["not the signature"]);
        if !is_left {
            continue;
        }
        let (name, value) = good.trim_end().split_once(": ").unwrap();
        let request = gateway.request().method("POST").path(path("")).header(name, value);
        let reply = request.body(body).send().unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "secret"));
    }
}

#[test]
fn a_truncated_signed_body_does_not_arrive() {
    let peer = echo();
    let gateway = signing(&peer);
    for size in [100, LARGE] {
        let body = Rng::new(size as u64).bytes(size);
        let mut connection = gateway.connect();
        connection.send(raw("POST", &format!("{}Content-Length: {size}\r\n", signed(&body)), "")).unwrap();
        connection.send(&body[..size - 1]).unwrap();
        connection.end();
        connection.within(SOON).rest();
        // The signature of the sent part, and a larger announced length.
        let mut connection = gateway.connect();
        let fields = format!("{}Transfer-Encoding: chunked\r\n", signed(&body));
        connection.send(raw("POST", &fields, "")).unwrap();
        let chunks = chunked(&body);
        connection.send(&chunks[..chunks.len() - 2]).unwrap();
        connection.end();
        connection.within(SOON).rest();
    }
    is_counted(&gateway);
    assert!(peer.requests().iter().all(|request| request.body.len() < LARGE));
    assert!(peer.requests().iter().all(|request| request.body.len() > 100), "the small ones are not begun");
}

#[test]
fn standard_webhooks_are_accepted_within_five_minutes() {
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let key: [u8; 24] = [
        49, 242, 144, 246, 191, 6, 41, 138, 171, 79, 8, 212, 60, 63, 8, 44, 246, 72, 163, 98, 218, 45, 164,
        176,
    ];
    let peer = echo();
    let gateway = before(&peer, json!({ "faas.hmac": "hook" }), &[("hook", &format!("{KEY}\r\n"))]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let far = Duration::from_secs(400);
    let send = |time: Duration, body: &str, id: &str| {
        let time = time.as_secs().to_string();
        let signature = base64(&code(&key, format!("msg_1.{time}.hello").as_bytes()));
        let request = gateway.request().method("POST").path(path("")).body(body);
        let request = request.header("webhook-id", id).header("webhook-timestamp", time);
        request.header("webhook-signature", format!("v1,AAAA v1,{signature}")).send().unwrap()
    };
    assert_eq!(send(now, "hello", "msg_1").text(), "hello");
    assert_eq!(peer.requests().pop().unwrap().header("webhook-id"), Some("msg_1"));
    is_own(&send(now, "hello!", "msg_1"), BAD, &["not the signature of this body"]);
    is_own(&send(now, "hello", "msg_2"), BAD, &["not the signature of this body"]);
    for time in [now - far, now + far, Duration::ZERO, Duration::from_secs(u64::MAX)] {
        is_own(&send(time, "hello", "msg_1"), BAD, &["five minutes"]);
    }
    is_own(&crate::access::send(&gateway, &[("X-Hub-Signature-256", "sha256=00")]), BAD, &["webhook-id"]);
    assert_eq!(peer.requests().len(), 1);
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut bits = [0; 4];
        bits[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bits);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= group.len() { digit.into() } else { '=' });
        }
    }
    text
}

#[test]
fn with_both_labels_a_call_needs_both_secrets() {
    let peer = well();
    let labels = json!({ "faas.auth": "token", "faas.hmac": "hook" });
    let gateway = before(&peer, labels, &[("token", "abc"), ("hook", SECRET)]);
    let token = ("Authorization", "Bearer abc");
    let signature = signed(b"hello");
    let signature = signature.trim_end().split_once(": ").unwrap();
    is_own(&send(&gateway, &[signature]), (401, "unauthorized"), &["a token"]);
    is_own(&send(&gateway, &[token]), BAD, &[]);
    is_own(&send(&gateway, &[token, ("X-Hub-Signature-256", "sha256=0")]), BAD, &[]);
    assert_eq!(peer.connections(), 0);
    assert_eq!(send(&gateway, &[token, signature]).status, 200);
    assert_eq!(peer.requests().pop().unwrap().header("authorization"), None);
}

/// A large signed body is sent again if no replica has seen any of it.
#[test]
fn a_signed_body_is_retried_on_another_replica() {
    let peer = echo();
    let mut gone = Peer::tcp(Script::new());
    let address = gone.addr();
    gone.stop_listening();
    let gateway =
        guarded(at(ONE, &[address, peer.addr()]), json!({ "faas.hmac": "hook" }), &[("hook", SECRET)]);
    let gateway = gateway.start();
    let body = Rng::new(1).bytes(LARGE);
    for _ in 0..8 {
        let good = signed(&body);
        let (name, value) = good.trim_end().split_once(": ").unwrap();
        let request = gateway.request().method("POST").path(path("")).header(name, value);
        let reply = request.body(body.clone()).send().unwrap();
        assert!(reply.status == 200 && reply.body == body, "{}", reply.status);
    }
}
