//! The real binary in front of a stand-in for the hub.

mod peer;

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use peer::{Act, Peer, answer, count};

const MAX_BODY_BYTES: usize = 64 * 1024;
const MAX_INPUT_BYTES: usize = 1024;
const MAX_REDIRECTS: usize = 3;

fn hubstats(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubstats"));
    command.env_clear().env("hub_url", url).env("hub_timeout", "10s");
    command
}

fn run(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("hubstats starts");
    // The program does not read beyond its limit.
    let _ = child.stdin.take().expect("stdin is piped").write_all(input);
    child.wait_with_output().expect("it ends")
}

fn ask(peer: &Peer) -> Output {
    run(hubstats(&url(peer)), b"alexellis2\n")
}

fn url(peer: &Peer) -> String {
    format!("http://127.0.0.1:{}", peer.port())
}

#[track_caller]
fn is_answer(output: &Output, want: &str) {
    let text = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*text, &*log), (Some(0), &*format!("{want}\n"), ""));
}

/// Expects `want` as one line on both streams, on STDERR with its cause if there is one.
#[track_caller]
fn is_failure(output: &Output, want: &str) {
    let text = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*text), (Some(1), &*format!("{want}\n")), "{log}");
    assert!(log.starts_with(&format!("hubstats: {want}")) && log.lines().count() == 1, "{log}");
}

#[track_caller]
fn is_no_count(output: &Output, reason: &str) {
    is_failure(output, &format!("failed to count the repositories of `alexellis2`: {reason}"));
}

#[test]
fn the_count_is_printed() {
    let cases = [
        (count(99), "The organisation or user alexellis2 has 99 repositories on the Docker hub."),
        (count(1), "The organisation or user alexellis2 has 1 repository on the Docker hub."),
        (count(0), "The organisation or user alexellis2 has 0 repositories on the Docker hub."),
        (
            answer("404 Not Found", "", r#"{"message":"object not found"}"#),
            "There is no organisation or user alexellis2 on the Docker hub.",
        ),
        (
            Act::Answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"cou\r\n7\r\nnt\":128\r\n1\r\n}\r\n0\r\n\r\n".to_vec()),
            "The organisation or user alexellis2 has 128 repositories on the Docker hub.",
        ),
    ];
    for (act, want) in cases {
        let peer = Peer::plain(vec![act]);
        is_answer(&ask(&peer), want);
        let head = &peer.heads()[0];
        assert!(head.starts_with("GET /v2/repositories/alexellis2/?page_size=1 HTTP/1.1\r\n"), "{head}");
    }
}

#[test]
fn invalid_names_are_not_sent_to_the_hub() {
    let peer = Peer::plain(vec![count(1)]);
    let expected = "expected a name of 2 to 255 characters a-z, 0-9, - and _, got";
    let cases: [(&[u8], &str); 5] = [
        (b"", "nothing"),
        (b" \n", "nothing"),
        (b"a", "`a`"),
        (b"../../x", "`../../x`"),
        (b"a\nb", "`a\\nb`"),
    ];
    for (input, got) in cases {
        is_failure(&run(hubstats(&url(&peer)), input), &format!("{expected} {got}"));
    }
    assert!(peer.heads().is_empty(), "nothing was asked");
}

#[test]
fn too_much_input_is_refused() {
    let peer = Peer::plain(vec![count(2)]);
    let mut input = b"library".to_vec();
    input.resize(MAX_INPUT_BYTES, b' ');
    let want = "The organisation or user library has 2 repositories on the Docker hub.";
    is_answer(&run(hubstats(&url(&peer)), &input), want);
    input.push(b' ');
    is_failure(&run(hubstats(&url(&peer)), &input), "expected a name in at most 1024 bytes, got more");
}

#[test]
fn a_refused_connection_is_reported() {
    // The client end of a connection: nobody listens at its port, and nobody else gets the port.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let held = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("a connection");
    let url = format!("http://{}", held.local_addr().expect("it is bound"));
    let output = run(hubstats(&url), b"alexellis2");
    is_no_count(&output, "the Docker hub cannot be reached, see hub_url");
    assert!(String::from_utf8_lossy(&output.stderr).contains("refused"));
}

#[test]
fn a_late_answer_is_reported() {
    let stalled_body = Act::Drip(
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n                    ".to_vec(),
        Duration::from_millis(25),
    );
    for act in [Act::Stall, stalled_body] {
        let peer = Peer::plain(vec![act]);
        let mut command = hubstats(&url(&peer));
        command.env("hub_timeout", "300ms");
        is_no_count(&run(command, b"alexellis2"), "the Docker hub did not answer within 300ms");
    }
}

#[test]
fn a_closed_connection_is_reported() {
    let half = Act::Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec());
    let peer = Peer::plain(vec![Act::Close]);
    is_no_count(&ask(&peer), "the Docker hub cannot be reached, see hub_url");
    // The server waits until the client leaves, so half an answer is a late answer.
    let peer = Peer::plain(vec![half]);
    let mut command = hubstats(&url(&peer));
    command.env("hub_timeout", "300ms");
    is_no_count(&run(command, b"alexellis2"), "the Docker hub did not answer within 300ms");
}

#[test]
fn unexpected_answers_are_reported() {
    let no_count = "the Docker hub's answer has no count";
    let cases = [
        (answer("500 Internal Server Error", "", "oops"), "the Docker hub answered with status 500"),
        (answer("503 Service Unavailable", "", ""), "the Docker hub answered with status 503"),
        (answer("403 Forbidden", "", "{\"count\": 1}"), "the Docker hub answered with status 403"),
        (
            answer("429 Too Many Requests", "Retry-After: 60\r\n", ""),
            "the Docker hub limits the rate of requests, try again later",
        ),
        (answer("200 OK", "", "<html>"), no_count),
        (answer("200 OK", "", ""), no_count),
        (answer("200 OK", "", "[]"), no_count),
        (answer("200 OK", "", "{\"count\": -1}"), no_count),
        (answer("200 OK", "", "{\"count\": \"9\"}"), no_count),
        (answer("200 OK", "", "{\"results\": []}"), no_count),
        (Act::Answer(b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec()), no_count),
        (answer("200 OK", &format!("x: {}\r\n", "x".repeat(20_000)), "{\"count\": 1}"), no_count),
    ];
    for (act, reason) in cases {
        is_no_count(&ask(&Peer::plain(vec![act])), reason);
    }
}

#[test]
fn too_large_answers_are_reported() {
    let body = |length: usize| format!("{{\"count\": 7}}{}", " ".repeat(length - 12));
    let peer = Peer::plain(vec![answer("200 OK", "", &body(MAX_BODY_BYTES))]);
    is_answer(&ask(&peer), "The organisation or user alexellis2 has 7 repositories on the Docker hub.");
    let peer = Peer::plain(vec![answer("200 OK", "", &body(MAX_BODY_BYTES + 1))]);
    is_no_count(&ask(&peer), "the Docker hub's answer has no count");
}

#[test]
fn redirects_are_followed_up_to_a_bound() {
    let moved = || answer("301 Moved Permanently", "Location: /elsewhere\r\nConnection: close\r\n", "");
    let mut acts = vec![moved(); MAX_REDIRECTS];
    acts.push(count(3));
    let peer = Peer::plain(acts);
    is_answer(&ask(&peer), "The organisation or user alexellis2 has 3 repositories on the Docker hub.");
    assert!(peer.heads()[1].starts_with("GET /elsewhere HTTP/1.1\r\n"));
    let peer = Peer::plain(vec![moved()]);
    is_no_count(&ask(&peer), "the Docker hub sent the request elsewhere");
    assert_eq!(peer.heads().len(), MAX_REDIRECTS + 1);
}

#[test]
fn an_untrusted_certificate_is_reported() {
    let peer = Peer::tls("localhost", vec![count(1)]);
    let output = run(hubstats(&format!("https://localhost:{}", peer.port())), b"alexellis2");
    is_no_count(&output, "no trusted connection to the Docker hub can be made");
    assert!(String::from_utf8_lossy(&output.stderr).contains("certificate"), "the log says more");
    assert!(peer.heads().is_empty(), "nothing was asked");
}

#[test]
fn proxies_in_the_environment_are_ignored() {
    let (peer, proxy) = (Peer::plain(vec![count(5)]), Peer::plain(vec![count(6)]));
    let mut command = hubstats(&url(&peer));
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "Http_Proxy"] {
        command.env(name, url(&proxy));
    }
    let want = "The organisation or user alexellis2 has 5 repositories on the Docker hub.";
    is_answer(&run(command, b"alexellis2"), want);
    assert!(proxy.heads().is_empty());
}

#[test]
fn invalid_settings_are_refused() {
    let cases = [
        ("hub_url", "hub", "hub_url: expected an http or https URL without query, got `hub`"),
        ("hub_timeout", "0", "hub_timeout: expected 1ms to 60s as `500ms`, `2s` or `2`, got `0`"),
    ];
    for (variable, value, want) in cases {
        let mut command = hubstats("http://127.0.0.1:1");
        command.env(variable, value);
        let output = run(command, b"library");
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{want}\n"));
        assert_eq!(String::from_utf8_lossy(&output.stderr), format!("hubstats: {want}\n"));
    }
}

#[test]
fn an_unread_answer_is_a_failure() {
    let peer = Peer::plain(vec![count(1)]);
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut command = hubstats(&url(&peer));
    let child = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).spawn();
    let output = child.and_then(|child| child.wait_with_output()).expect("hubstats starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("failed to write STDOUT: "));
}
