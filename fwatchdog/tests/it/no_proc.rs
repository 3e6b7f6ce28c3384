//! Without `/proc`, and with that of another PID namespace: its ids belong to other processes here.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use testkit::{Bin, eventually, proc};

use crate::SOON;

/// The line in the log about it.
const WARNING: &str = "no /proc of this PID namespace";

/// A process of the machine and its child. Both end when this is dropped.
struct Pair {
    parent: Child,
    child: u32,
}

impl Pair {
    fn start() -> Pair {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & echo $!; wait"]).stdout(Stdio::piped());
        let mut parent = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Pair { parent, child: line.trim().parse().unwrap() }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        proc::signal(self.child, proc::SIGKILL);
        let _ = self.parent.kill(); // it may have ended with its child
        let _ = self.parent.wait(); // as above
    }
}

#[test]
fn a_missing_proc_is_logged_and_a_process_gets_its_grace() {
    let bin = Bin::fwatchdog().in_namespaces("mount -t tmpfs none /proc && exec \"$1\"");
    let Some(bin) = bin else { return };
    let script = "trap \"sleep 0.3; echo cleaned >&2; exit 3\" TERM; echo begun >&2; sleep 600 & wait";
    let bin =
        bin.env("fprocess", format!("sh -c '{script}'")).env("exec_timeout", "1s").env("kill_grace", "60s");
    let dog = bin.start();
    assert_eq!(dog.get("/").status, 504);
    dog.wait_log("cleaned", SOON);
    assert_eq!(dog.log().matches(WARNING).count(), 1, "{}", dog.log());
}

#[test]
fn no_id_of_a_foreign_proc_is_signalled() {
    let pair = Pair::start();
    // Within the namespace fwatchdog has the id of the parent outside, and the victim that of the child.
    let script = format!(
        "last=/proc/sys/kernel/ns_last_pid
        echo $(({child} - 1)) >$last; sleep 600 & victim=$!
        echo $(({parent} - 1)) >$last; \"$1\" & dog=$!
        echo ids $victim $dog >&2; wait $dog
        kill -9 $victim; wait $victim; echo victim $?",
        child = pair.child,
        parent = pair.parent.id(),
    );
    let Some(bin) = Bin::fwatchdog().in_namespaces(&script) else { return };
    let outer = bin.env("fprocess", "cat").start();
    let log = outer.log();
    if !log.contains(&format!("ids {} {}\n", pair.child, pair.parent.id())) {
        eprintln!("skipped: ids cannot be chosen in a namespace: {log}");
        return;
    }
    assert_eq!(outer.post("/", "hello").text(), "hello");
    let is_dog = |pid: &u32| {
        let line = proc::command_line(*pid);
        line.ends_with("fwatchdog") && !line.contains(' ')
    };
    let dogs: Vec<u32> = outer.descendants().into_iter().filter(is_dog).collect();
    assert_eq!(dogs.len(), 1, "{dogs:?}");
    proc::signal(dogs[0], proc::SIGTERM);
    let ended = eventually(SOON, || {
        let text = outer.stdout();
        if text.ends_with('\n') { Ok(text) } else { Err(outer.log()) }
    });
    assert_eq!(ended, "victim 137\n", "it ran until the test killed it");
    assert_eq!(outer.log().matches(WARNING).count(), 1, "{}", outer.log());
}
