//! What crosses the whole chain of real binaries: client, gateway, fwatchdog, process, and back.

use testkit::{Running, program};

use crate::{ONE, gateway, path, process};

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
