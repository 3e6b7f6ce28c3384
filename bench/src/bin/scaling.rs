//! How soon the gateway has a replica, or five, with its local provider: `make bench-scaling` runs it on `dist/`.
//! On a Swarm the engine takes most of the time: the tests in `gateway/tests/e2e/scaling.rs` print both.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use testkit::http::{Client, Connection};
use testkit::{Bin, Running};

/// First calls of functions that have no replica.
const COLD_STARTS: usize = 30;

/// Rounds of a load that needs so many replicas.
const ROUNDS: usize = 10;
const REPLICAS: usize = 5;

/// Calls at once to a function without a replica.
const BURST: usize = 1000;

/// The longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(60);

fn main() {
    for (name, fprocess) in [("catservice", catservice()), ("/bin/cat", "/bin/cat".to_owned())] {
        let times = cold_starts(&fprocess);
        println!("cold start, {name:<11} {}", shown(&times));
    }
    let times: Vec<_> = (0..ROUNDS).map(|_| reaction()).collect();
    println!("{REPLICAS} replicas under load   {}", shown(&times));
    let times: Vec<_> = (0..ROUNDS).map(|_| burst(&catservice())).collect();
    println!("{BURST} calls to none     {}", shown(&times));
}

fn catservice() -> String {
    let path = testkit::workspace().join("dist/catservice");
    assert!(path.exists(), "no {}: run `make static` first", path.display());
    path.to_string_lossy().into_owned()
}

/// A gateway with functions `f0`, `f1`… which begin without a replica.
fn gateway(fprocess: &str, count: usize, labels: &str) -> Running {
    let function = |number| {
        format!(r#"{{"name":"f{number}","fprocess":"{fprocess}","replicas":0,"labels":{{{labels}}}}}"#)
    };
    let functions: Vec<String> = (0..count).map(function).collect();
    let bin = Bin::gateway().env("provider", "local");
    let file = bin.file("functions.json", format!(r#"{{"functions":[{}]}}"#, functions.join(",")));
    bin.env("functions_file", file).start()
}

/// From the first call of a function to the end of its answer.
fn cold_starts(fprocess: &str) -> Vec<Duration> {
    let gateway = gateway(fprocess, COLD_STARTS, "");
    let mut client = Client::new(gateway.addr());
    let call = |number| {
        let began = Instant::now();
        let request = client.request().method("POST").path(format!("/function/f{number}"));
        let reply = request.body("hello").timeout(LIMIT).send().expect("an answer");
        assert!(reply.status == 200 && reply.header("x-cold-start-ms").is_some(), "{}", reply.text());
        began.elapsed()
    };
    (0..COLD_STARTS).map(call).collect()
}

/// From the first of some calls that never pause to as many replicas as there are calls.
fn reaction() -> Duration {
    let gateway = gateway("sleep 0.1", 1, r#""com.openfaas.scale.target":"1""#);
    let is_over = AtomicBool::new(false);
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..REPLICAS {
            scope.spawn(|| {
                let mut client = Client::new(gateway.addr());
                while !is_over.load(Relaxed) {
                    let reply = client.request().path("/function/f0").timeout(LIMIT).send();
                    assert_eq!(reply.expect("an answer").status, 200);
                }
            });
        }
        let ready = || gateway.metrics("/metrics").value("gateway_service_ready", &[("function_name", "f0")]);
        while ready() != Some(REPLICAS as f64) && began.elapsed() < LIMIT {
            thread::sleep(Duration::from_millis(10));
        }
        is_over.store(true, Relaxed);
        began.elapsed()
    })
}

/// From the first of many calls at once to the end of the last answer.
fn burst(fprocess: &str) -> Duration {
    let gateway = gateway(fprocess, 1, r#""com.openfaas.scale.target":"1000""#);
    let open = || Connection::open(gateway.addr()).expect("the gateway takes connections");
    let mut connections: Vec<Connection> = (0..BURST).map(|_| open()).collect();
    let began = Instant::now();
    for connection in &mut connections {
        let request = "POST /function/f0 HTTP/1.1\r\nHost: bench\r\nContent-Length: 5\r\n\r\nhello";
        connection.send(request).expect("the request is sent");
    }
    for connection in &mut connections {
        assert_eq!(connection.within(LIMIT).reply("POST").expect("an answer").status, 200);
    }
    let took = began.elapsed();
    assert_eq!(gateway.log().matches("from 0 to 1 replicas").count(), 1, "one start");
    took
}

fn shown(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1000.0);
    let (least, median, most) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    format!("{:>8} ms ({} to {}, {} times)", ms(median), ms(least), ms(most), times.len())
}
