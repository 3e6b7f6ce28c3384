//! The whole chain of real binaries: client, gateway, fwatchdog, process, and back.

use serde_json::{Value, json};
use testkit::http::Connection;
use testkit::unreachable::reserved_port;
use testkit::{Bin, Peer, Reply, Running, Script, is_installed, program};

use crate::{ONE, SOON, at, gateway, path, process};

/// Bytes and fields of the largest head: by default, and at the highest setting.
const HEADS: [(usize, usize); 2] = [(64 << 10, 128), (120 << 10, 1024)];

/// A gateway in front of a function that prints its environment.
fn echo_env() -> Running {
    gateway(&[process(ONE, &program("echo_env"))]).start()
}

#[test]
fn a_call_has_one_id_from_the_client_to_the_process() {
    let gateway = echo_env();
    let longest = "i".repeat(kit::call::MAX_ID_BYTES);
    let reply = gateway.request().path(path("")).header("X-Call-Id", &*longest).send().unwrap();
    assert_eq!((reply.status, reply.header("x-call-id")), (200, Some(&*longest)));
    assert!(reply.text().contains(&format!("Http_X_Call_Id={longest}\n")), "{}", reply.text());
}

#[test]
fn zero_is_no_time_limit_in_the_whole_chain() {
    let gateway = echo_env();
    for value in ["0", "0ms"] {
        let reply = gateway.request().path(path("")).header("X-Timeout", value).send().unwrap();
        assert_eq!(reply.status, 200, "{value}: {}", reply.text());
    }
}

/// The head of a request with so many bytes and fields; the last field is a filler.
fn head(target: &str, (bytes, fields): (usize, usize), (colon, end): (&str, &str), filler: &str) -> String {
    let mut head = format!("GET {target} HTTP/1.1{end}Host{colon}h{end}Connection{colon}close{end}");
    for number in 3..fields {
        head += &format!("F-{number}{colon}{number}{end}");
    }
    head += &format!("{filler}{colon}");
    head += &"x".repeat(bytes - head.len() - 2 * end.len());
    head + end + end
}

fn sent(gateway: &Running, bytes: impl AsRef<[u8]>) -> Reply {
    let mut connection: Connection = gateway.connect();
    connection.send(bytes).unwrap();
    connection.within(SOON).reply("GET").unwrap()
}

fn with_heads(bin: Bin, (bytes, fields): (usize, usize)) -> Running {
    bin.env("max_header_bytes", bytes.to_string()).env("max_headers", fields.to_string()).start()
}

/// As [`with_heads`], behind a proxy, so that the gateway appends to `X-Forwarded-For`.
fn behind_a_proxy(bin: Bin, most: (usize, usize)) -> Running {
    with_heads(bin.env("trusted_proxies", "127.0.0.1"), most)
}

/// The largest head that a gateway accepts from a trusted proxy.
fn of_a_proxy((bytes, fields): (usize, usize)) -> (usize, usize) {
    (bytes + http1::head::PROXY_BYTES, fields + http1::head::PROXY_HEADERS)
}

fn is_refused_beyond(gateway: &Running, (bytes, fields): (usize, usize)) {
    for (most, kind) in [((bytes + 1, 4), "head_too_large"), ((bytes, fields + 1), "too_many_headers")] {
        let reply = sent(gateway, head(&path(""), most, (": ", "\r\n"), "Filler"));
        assert_eq!((reply.status, reply.header("x-gateway-error")), (431, Some(kind)));
        assert!(reply.head.has_token("connection", "close"));
    }
}

/// Checks that a head reaches the process whole, in every form.
fn arrives(gateway: &Running, target: &str, most: (usize, usize), fillers: &[&str]) {
    for form in [(":", "\n"), (": ", "\r\n")] {
        for (fields, filler) in fillers.iter().flat_map(|filler| [(most.1, filler), (4, filler)]) {
            let head = head(target, (most.0, fields), form, filler);
            let reply = sent(gateway, &head);
            let text = reply.text();
            assert_eq!(reply.status, 200, "{most:?} {fields} {filler}: {}", &text[..text.len().min(200)]);
            let name = filler.replace('-', "_");
            let value = head.trim_end().rsplit(':').next().unwrap().trim_start();
            assert!(text.contains(&format!("Http_{name}={value}")), "{most:?} {fields} {filler}");
            assert_eq!(text.matches("Http_F_").count(), fields - 3);
        }
    }
}

/// The shortest form of a field grows when it is forwarded, and the gateway adds fields. The process gets the
/// filler as one variable; the gateway appends to some.
#[test]
fn the_largest_head_of_a_request_reaches_the_process() {
    for most in HEADS {
        let function = || gateway(&[process(ONE, &program("echo_env"))]);
        let gateway = with_heads(function(), most);
        arrives(&gateway, &path(""), most, &["Filler"]);
        is_refused_beyond(&gateway, most);
        let gateway = behind_a_proxy(function(), most);
        arrives(&gateway, &path(""), of_a_proxy(most), &["Filler", "X-Forwarded-For"]);
        is_refused_beyond(&gateway, of_a_proxy(most));
    }
}

/// Each gateway accepts what the gateway before it forwards, and the last fwatchdog too.
#[test]
fn the_largest_heads_pass_a_chain_of_gateways_both_ways() {
    for most in HEADS {
        let folder = Bin::gateway();
        let block = folder.file("block", answer(most, ""));
        let cat = format!("cat {}", block.display());
        let answering = json!({ "name": "two", "fprocess": cat, "environment": { "cgi_response": "true" } });
        let inner = behind_a_proxy(gateway(&[process(ONE, &program("echo_env")), answering]), most);
        let middle = behind_a_proxy(gateway(&[at(ONE, &[inner.addr()])]), most);
        let outer = with_heads(gateway(&[at(ONE, &[middle.addr()])]), most);
        let to_middle = format!("{}{}", path(""), path(""));
        arrives(&outer, &format!("{to_middle}{}", path("")), most, &["Filler"]);
        has_all_fields(&outer, &format!("{to_middle}/function/two"), most);
    }
}

#[test]
fn the_longest_target_and_host_reach_the_process() {
    let gateway = echo_env();
    let target = format!("{}?", path(""));
    let query = "q".repeat(http1::head::MAX_TARGET_BYTES - target.len());
    let host = "h".repeat(http1::head::MAX_HOST_BYTES);
    let request = format!("GET {target}{query} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let text = sent(&gateway, request).text();
    for variable in [
        format!("Http_Query={query}\n"),
        format!("Http_Host={host}\n"),
        format!("Http_X_Forwarded_Host={host}\n"),
    ] {
        assert!(text.contains(&variable), "{}", &text[..text.len().min(200)]);
    }
}

/// The fields of an answer's head, with so many bytes and fields.
fn answer((bytes, fields): (usize, usize), start: &str) -> String {
    let mut head = start.to_owned();
    for number in 1..fields {
        head += &format!("F-{number}: {number}\r\n");
    }
    head += "Filler: ";
    head += &"x".repeat(bytes - head.len() - 4);
    head + "\r\n\r\n"
}

fn has_all_fields(gateway: &Running, target: &str, (bytes, fields): (usize, usize)) {
    let reply = gateway.get(target);
    assert_eq!((reply.status, reply.header("x-gateway-error")), (200, None), "{}", reply.text());
    assert_eq!(reply.head.headers.iter().filter(|(name, _)| name.starts_with("F-")).count(), fields - 1);
    assert!(reply.header("filler").is_some_and(|value| value.len() > bytes / 2), "{bytes}");
}

fn set(fprocess: &str, environment: Value) -> Value {
    json!({ "name": ONE, "fprocess": fprocess, "environment": environment })
}

#[test]
fn the_largest_header_block_of_a_process_reaches_the_client() {
    for most in HEADS {
        let folder = Bin::gateway();
        let block = folder.file("block", answer(most, ""));
        let function = set(&format!("cat {}", block.display()), json!({ "cgi_response": "true" }));
        has_all_fields(&with_heads(gateway(&[function]), most), &path(""), most);
    }
}

#[test]
fn the_largest_head_of_an_answer_reaches_the_client() {
    for most in HEADS {
        let peer =
            Peer::tcp(Script::new().request().send(answer(most, "HTTP/1.1 204 No Content\r\n")).repeat());
        let environment = json!({ "mode": "http", "upstream_url": format!("http://{}", peer.addr()) });
        let gateway = with_heads(gateway(&[set("sleep 1000", environment)]), most);
        let reply = gateway.get(&path(""));
        assert_eq!((reply.status, reply.header("x-gateway-error")), (204, None), "{}", reply.text());
        assert_eq!(reply.head.headers.iter().filter(|(name, _)| name.starts_with("F-")).count(), most.1 - 1);
    }
}

/// A client that sends its whole body before it reads, with `http.client` and with `urllib`.
const PYTHON_CLIENT: &str = "
import http.client, sys, urllib.request
host, path, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
body = bytes(range(251)) * (size // 251)
connection = http.client.HTTPConnection(host, timeout=100)
connection.request('POST', path, body)
answer = connection.getresponse()
print(answer.status, answer.read() == body)
with urllib.request.urlopen(urllib.request.Request(f'http://{host}{path}', body), timeout=100) as answer:
    print(answer.status, answer.read() == body)
";

/// A server that reads a whole request before it answers.
const PYTHON_ECHO: &str = "
import http.server, sys
class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_POST(self):
        length = self.headers['Content-Length']
        body = self.rfile.read(int(length))
        self.send_response(200)
        self.send_header('Content-Length', length)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Echo).serve_forever()
";

fn echoes_to_python(gateway: &Running) {
    let (address, size) = (gateway.addr().to_string(), (64 << 20).to_string());
    let mut client = std::process::Command::new("python3");
    let output = client.args(["-c", PYTHON_CLIENT, &address, &path(""), &size]).output().unwrap();
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(printed, "200 True\n200 True\n", "{said}\n{}", gateway.log());
}

/// Neither the gateway nor fwatchdog disconnects such a client: fwatchdog buffers the output.
#[test]
fn a_python_client_gets_its_answer_through_fwatchdog() {
    if !is_installed("python3") {
        return;
    }
    for mode in ["fork", "streaming"] {
        let function = set("cat", json!({ "mode": mode, "write_timeout": "15s" }));
        let gateway =
            gateway(&[function]).env("body_stall_timeout", "15s").env("upstream_timeout", "5m").start();
        echoes_to_python(&gateway);
    }
}

#[test]
fn a_python_client_gets_its_answer_from_a_python_server() {
    if !is_installed("python3") {
        return;
    }
    let port = reserved_port();
    let folder = Bin::gateway();
    let server = folder.file("echo.py", PYTHON_ECHO);
    let environment = json!({ "mode": "http", "upstream_url": format!("http://127.0.0.1:{port}") });
    let function = set(&format!("python3 {} {port}", server.display()), environment);
    let gateway = gateway(&[function]).env("upstream_timeout", "5m").start();
    echoes_to_python(&gateway);
}
