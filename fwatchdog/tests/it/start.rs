//! Settings, arguments, exit codes, the listening socket.

use std::net::TcpListener;
use std::time::Duration;

use testkit::unreachable::Refusing;
use testkit::{Bin, eventually, proc};

use crate::{SOON, dog, refused};

/// The binary, for tests that start it in their own way.
const DOG: &str = env!("CARGO_BIN_EXE_fwatchdog");

#[test]
fn a_refused_value_ends_the_start() {
    refused(&[("fprocess", "")], &["fprocess"]);
    refused(&[("fprocess", "sh -c 'half")], &["fprocess", "sh -c", "quoted"]);
    refused(&[("port", "http")], &["port", "http", "65535"]);
    refused(&[("exec_timeout", "5 minutes")], &["exec_timeout", "5 minutes", "1m30s"]);
    refused(&[("max_inflight", "-1")], &["max_inflight", "-1"]);
    refused(&[("buffer_output", "2GiB")], &["buffer_output", "2GiB"]);
    refused(&[("combine_output", "maybe")], &["combine_output", "maybe"]);
    refused(&[("LISTEN_FDS", "2")], &["LISTEN_FDS", "2"]);
}

#[test]
fn a_start_without_a_command_is_refused() {
    let output = Bin::fwatchdog().run();
    assert_eq!(output.code(), 2);
    assert!(output.stderr.contains("fprocess"), "{output:?}");
}

#[test]
fn arguments_are_few_and_strict() {
    let version = Bin::fwatchdog().arg("--version").run();
    assert_eq!(
        (version.code(), version.stdout.as_str()),
        (0, concat!("fwatchdog ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    let help = Bin::fwatchdog().arg("--help").run();
    assert_eq!(help.code(), 0);
    for line in ["port", "8080", "exec_timeout", "buffer_output", "[256KiB]", "--healthcheck"] {
        assert!(help.stdout.contains(line), "{line} in {}", help.stdout);
    }
    let unknown = Bin::fwatchdog().env("fprocess", "cat").arg("--port=80").run();
    assert_eq!(unknown.code(), 2);
    assert!(unknown.stderr.contains("--port=80"), "{unknown:?}");
}

#[test]
fn the_health_check_tells_by_its_exit_code() {
    let dog = dog("exits 0").start();
    let check = |port: u16| Bin::fwatchdog().env("port", port.to_string()).arg("--healthcheck").run();
    assert_eq!(check(dog.addr().port()).code(), 0);
    let refusing = Refusing::new();
    let output = check(refusing.addr().port());
    assert_eq!(output.code(), 1);
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
}

#[test]
fn a_taken_port_is_a_failure() {
    let first = dog("exits 0").start();
    let output = dog("exits 0").env("port", first.addr().port().to_string()).run();
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stderr.contains(&first.addr().port().to_string()), "{output:?}");
}

#[test]
fn an_inherited_socket_is_taken() {
    for with_pid in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut bin = dog("echo_env").listener(listener).without_env("port");
        if !with_pid {
            bin = bin.env("LISTEN_PID", "");
        }
        let dog = bin.start();
        assert_eq!(dog.addr(), address);
        let text = dog.get("/").text();
        assert!(!text.contains("LISTEN_"), "a process must not take itself to be meant: {text}");
    }
}

#[test]
fn a_socket_for_another_process_is_not_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let dog = dog("exits 0").listener(listener).env("LISTEN_PID", "1").start();
    assert_ne!(dog.addr(), address);
}

#[test]
fn a_missing_inherited_socket_is_a_failure() {
    let output = dog("exits 0").env("LISTEN_FDS", "1").run();
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stderr.contains("descriptor 3"), "{output:?}");
}

#[test]
fn fwatchdog_ends_with_the_parent_that_asks_for_it() {
    // The named process is not the parent: the parent has ended.
    let output = dog("exits 0").env("FAAS_PARENT_PID", "1").run();
    assert_eq!(output.code(), 0, "{output:?}");
    // A shell that prints its id, starts fwatchdog, and is killed.
    let script = format!("FAAS_PARENT_PID=$$ {DOG} & echo pid $! >&2; wait");
    let parent = Bin::at("sh")
        .arg("-c")
        .arg(script)
        .env("write_debug", "1")
        .env("fprocess", "cat")
        .env("port", "0")
        .spawn();
    parent.wait_log("listening on", SOON);
    // Either may come first.
    let pid: u32 = eventually(SOON, || {
        let log = parent.log();
        let line = log.split_inclusive('\n').find_map(|line| line.strip_prefix("pid ")?.strip_suffix('\n'));
        line.ok_or(log.clone()).map(|pid| pid.parse().unwrap())
    });
    parent.signal(proc::SIGKILL);
    eventually(SOON, || match proc::stat(pid).is_some_and(|stat| stat.is_alive()) {
        true => Err(format!("{pid} goes on without its parent")),
        false => Ok(()),
    });
}

#[test]
fn the_last_line_of_the_start_is_the_address() {
    let dog = dog("exits 0").start();
    let log = dog.log();
    let last = log.lines().next_back().unwrap();
    assert!(
        last.contains(" info listening on ") && last.ends_with(&format!(":{}", dog.addr().port())),
        "{log}"
    );
}

#[test]
fn descriptors_of_the_parent_do_not_reach_the_process() {
    let script = format!("exec 7</dev/null 9<&7; exec {DOG}");
    let bin = Bin::at("sh").arg("-c").arg(script);
    let dog = bin.env("fprocess", "ls /proc/self/fd").env("port", "0").start();
    // `ls` has the folder itself open, as 3.
    assert_eq!(dog.get("/").text(), "0\n1\n2\n3\n");
}

#[test]
fn fwatchdog_starts_quickly() {
    // The release build has a budget of 5 ms. This guards against waits: with one, no start would be quick. On a busy
    // machine most starts are slow.
    eventually(3 * SOON, || match dog("exits 0").start().started_in() {
        quick if quick < Duration::from_millis(60) => Ok(()),
        slow => Err(format!("{slow:?}")),
    });
}
