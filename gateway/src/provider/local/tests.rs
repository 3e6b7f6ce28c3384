//! The provider with real children: shell scripts in the place of fwatchdog, which do what the function's
//! `fprocess` says.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kit::Deadline;
use tempfile::TempDir;
use testkit::eventually;

use super::{Local, Setup};
use crate::function::{Known, Sink};
use crate::provider::{Provider, ScaleError};

const SOON: Duration = Duration::from_secs(10);

const CALL_TIME: Duration = Duration::from_secs(60);

/// Notes its process id and environment, then acts.
const SCRIPT: &str = r#"#!/bin/sh
echo $$ >> "$OUT/pids"
env > "$OUT/environment"
pwd > "$OUT/directory"
case "$fprocess" in
    run) exec sleep 600 ;;
    once) [ -e "$OUT/again" ] && exec sleep 600; : > "$OUT/again"; exit 3 ;;
    broken) exit 2 ;;
    busy)
        sleep 600 & call=$!
        trap 'kill -26 $call; wait $call; echo $? > "$OUT/call"; exit' TERM
        : > "$OUT/ready"; wait ;;
    stubborn) trap '' TERM; : > "$OUT/ready"; exec sleep 600 ;;
esac
"#;

/// What the provider told last.
#[derive(Default)]
struct Table {
    known: Mutex<Vec<Known>>,
    /// Replicas that have a call in hand.
    busy: Mutex<Vec<SocketAddr>>,
}

impl Sink for Table {
    fn set(&self, functions: Vec<Known>) {
        *self.known.lock().unwrap() = functions;
    }

    fn in_flight(&self, _: &str, address: SocketAddr) -> usize {
        self.busy.lock().unwrap().iter().filter(|busy| **busy == address).count()
    }
}

struct Lab {
    folder: TempDir,
    table: Arc<Table>,
}

impl Lab {
    fn new() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("fwatchdog");
        fs::write(&script, SCRIPT).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        Lab { folder, table: Arc::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the functions file; each function is its name, its `fprocess`, and the rest of its fields.
    fn declare(&self, functions: &[(&str, &str, &str)]) {
        let entry = |(name, fprocess, more): &(&str, &str, &str)| {
            let out = self.path(name);
            fs::create_dir_all(&out).unwrap();
            let environment = format!(r#"{{"OUT": "{}"}}"#, out.display());
            format!(r#"{{"name": "{name}", "fprocess": "{fprocess}", "environment": {environment}{more}}}"#)
        };
        let entries: Vec<_> = functions.iter().map(entry).collect();
        fs::write(self.path("functions.json"), format!(r#"{{"functions": [{}]}}"#, entries.join(",")))
            .unwrap();
    }

    fn setup(&self) -> Setup {
        Setup {
            functions_file: Some(self.path("functions.json")),
            fwatchdog: Some(self.path("fwatchdog")),
            environment: vec![("PATH".into(), "/usr/bin:/bin".into()), ("port".into(), "8080".into())],
            function_user: None,
            call_time: CALL_TIME,
        }
    }

    fn start(&self) -> Local {
        Local::start(self.setup(), Arc::clone(&self.table) as Arc<dyn Sink>).unwrap()
    }

    /// The endpoints of a function, `None` when it is not known.
    fn endpoints(&self, name: &str) -> Option<Vec<SocketAddr>> {
        let table = self.table.known.lock().unwrap();
        let known = table.iter().find(|known| known.name.as_str() == name)?;
        Some(known.endpoints.iter().map(|endpoint| endpoint.address).collect())
    }

    /// The ids of the processes that a function was given so far, once there are `count`.
    fn pids(&self, name: &str, count: usize) -> Vec<u32> {
        eventually(SOON, || {
            let text = fs::read_to_string(self.path(name).join("pids")).unwrap_or_default();
            let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
            if pids.len() == count && text.ends_with('\n') {
                Ok(pids)
            } else {
                Err(format!("{name}: {pids:?}"))
            }
        })
    }
}

fn is_alive(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

fn gone(pid: u32) {
    eventually(SOON, || if is_alive(pid) { Err(format!("{pid} is alive")) } else { Ok(()) });
}

#[test]
fn functions_are_known_and_listening_when_start_returns() {
    let lab = Lab::new();
    lab.declare(&[("one", "run", ""), ("two", "run", r#", "replicas": 2, "directory": "/""#)]);
    let local = lab.start();
    assert_eq!(lab.endpoints("one").map(|endpoints| endpoints.len()), Some(1));
    assert_eq!(lab.endpoints("two").map(|endpoints| endpoints.len()), Some(2));
    for endpoint in [lab.endpoints("one").unwrap(), lab.endpoints("two").unwrap()].concat() {
        TcpStream::connect(endpoint).unwrap();
    }
    let pids = [lab.pids("one", 1), lab.pids("two", 2)].concat();
    local.stop(Deadline::after(SOON));
    assert!(!pids.into_iter().any(is_alive));
}

#[test]
fn children_get_their_environment_and_directory() {
    let lab = Lab::new();
    lab.declare(&[("one", "run", r#", "directory": "/""#)]);
    let _local = lab.start();
    let read = |name: &str| {
        eventually(SOON, || match fs::read_to_string(lab.path("one").join(name)) {
            Ok(text) if text.ends_with('\n') => Ok(text),
            other => Err(format!("{other:?}")),
        })
    };
    assert_eq!(read("directory"), "/\n");
    let environment = read("environment");
    for line in ["fprocess=run", "suppress_lock=true", "LISTEN_FDS=1"] {
        assert!(environment.lines().any(|found| found == line), "{line} in {environment}");
    }
    assert!(!environment.contains("port=8080"), "{environment}");
}

#[test]
fn a_child_that_dies_once_is_replaced_behind_the_same_address() {
    let lab = Lab::new();
    lab.declare(&[("one", "once", "")]);
    let _local = lab.start();
    let endpoints = lab.endpoints("one");
    let waiting = TcpStream::connect(endpoints.as_ref().unwrap()[0]).unwrap();
    let pids = lab.pids("one", 2);
    gone(pids[0]);
    assert!(is_alive(pids[1]));
    assert_eq!(lab.endpoints("one"), endpoints);
    waiting.set_nonblocking(true).unwrap();
    let error = waiting.peek(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "the queued call still waits");
}

#[test]
fn a_child_that_keeps_dying_is_known_but_not_called() {
    let lab = Lab::new();
    lab.declare(&[("bad", "broken", ""), ("good", "run", "")]);
    let _local = lab.start();
    let started = Instant::now();
    lab.pids("bad", 4);
    assert!(started.elapsed() >= Duration::from_millis(650), "100, 200 and 400 ms between four starts");
    eventually(SOON, || match lab.endpoints("bad") {
        Some(endpoints) if endpoints.is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(lab.endpoints("good").map(|endpoints| endpoints.len()), Some(1));
    let table = lab.table.known.lock().unwrap();
    let problems: Vec<_> = table.iter().map(|known| known.problem.as_deref()).collect();
    assert_eq!(
        problems,
        [Some("fwatchdog exited with code 2: it refuses a setting, the log says which"), None]
    );
}

#[test]
fn a_killed_child_comes_back_and_no_other_is_touched() {
    let lab = Lab::new();
    lab.declare(&[("one", "run", r#", "replicas": 2"#)]);
    let _local = lab.start();
    let first = lab.pids("one", 2);
    testkit::proc::signal(first[0], 9);
    let all = lab.pids("one", 3);
    gone(first[0]);
    assert!(is_alive(first[1]) && is_alive(all[2]));
}

#[test]
fn a_reload_starts_what_is_new_keeps_what_is_the_same_and_ends_the_rest() {
    let lab = Lab::new();
    lab.declare(&[("kept", "run", ""), ("removed", "run", ""), ("changed", "run", "")]);
    let local = lab.start();
    let before = lab.endpoints("kept");
    let (kept, removed, changed) = (lab.pids("kept", 1), lab.pids("removed", 1), lab.pids("changed", 1));
    lab.declare(&[
        ("changed", "run", r#", "directory": "/""#),
        ("kept", "run", r#", "replicas": 2, "labels": {"faas.concurrency": "7"}"#),
        ("new", "run", ""),
    ]);
    assert_eq!(local.load().unwrap(), 3);
    eventually(
        SOON,
        || if lab.endpoints("removed").is_none() { Ok(()) } else { Err("still known".to_owned()) },
    );
    lab.pids("kept", 2);
    lab.pids("new", 1);
    let again = lab.pids("changed", 2);
    gone(removed[0]);
    gone(changed[0]);
    assert!(is_alive(kept[0]) && is_alive(again[1]));
    assert!(lab.endpoints("kept").unwrap().starts_with(&before.unwrap()));
    let table = lab.table.known.lock().unwrap();
    let known = table.iter().find(|known| known.name.as_str() == "kept").unwrap();
    assert_eq!((known.labels.concurrency, known.wanted, known.endpoints.len()), (7, 2, 2));
}

#[test]
fn fewer_replicas_end_the_surplus() {
    let lab = Lab::new();
    lab.declare(&[("one", "run", r#", "replicas": 3"#)]);
    let local = lab.start();
    let pids = lab.pids("one", 3);
    lab.declare(&[("one", "run", r#", "replicas": 0"#)]);
    local.load().unwrap();
    eventually(SOON, || match lab.endpoints("one") {
        Some(endpoints) if endpoints.is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    pids.into_iter().for_each(gone);
}

#[test]
fn a_broken_file_changes_nothing() {
    let lab = Lab::new();
    lab.declare(&[("one", "run", "")]);
    let local = lab.start();
    let pids = lab.pids("one", 1);
    let before = lab.endpoints("one");
    fs::write(lab.path("functions.json"), "{").unwrap();
    let error = local.load().unwrap_err().to_string();
    assert!(
        error.ends_with("functions.json: expected JSON: EOF while parsing an object at line 1 column 1"),
        "{error}"
    );
    assert_eq!(lab.endpoints("one"), before);
    assert!(is_alive(pids[0]));
}

#[test]
fn a_child_that_ignores_the_signal_is_killed_after_the_deadline() {
    let lab = Lab::new();
    lab.declare(&[("one", "stubborn", "")]);
    let local = lab.start();
    let pids = lab.pids("one", 1);
    eventually(SOON, || if lab.path("one").join("ready").exists() { Ok(()) } else { Err(String::new()) });
    let began = Instant::now();
    local.stop(Deadline::after(Duration::from_millis(300)));
    assert!(!is_alive(pids[0]));
    assert!((Duration::from_millis(1300)..SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
}

/// A call that has only just begun is in the group of its fwatchdog for a moment. Of two signals the lower number comes first.
#[test]
fn what_is_told_to_finish_its_calls_finds_them_alive() {
    let lab = Lab::new();
    lab.declare(&[("one", "busy", "")]);
    let local = lab.start();
    eventually(SOON, || if lab.path("one").join("ready").exists() { Ok(()) } else { Err(String::new()) });
    local.scale("one", None, 0).unwrap();
    let status = eventually(SOON, || match fs::read_to_string(lab.path("one").join("call")) {
        Ok(text) if text.ends_with('\n') => Ok(text),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(status, "154\n", "128 and its own signal, not 15");
}

#[test]
fn a_dropped_provider_leaves_nothing_behind() {
    let lab = Lab::new();
    lab.declare(&[("one", "run", r#", "replicas": 3"#), ("bad", "broken", "")]);
    let local = lab.start();
    let pids = lab.pids("one", 3);
    drop(local);
    assert!(!pids.into_iter().any(is_alive));
}

#[test]
fn addresses_need_no_fwatchdog_and_processes_do() {
    let lab = Lab::new();
    let text = r#"{"functions": [{"name": "there", "address": ["10.0.0.6:80", "10.0.0.5:80"]}]}"#;
    fs::write(lab.path("functions.json"), text).unwrap();
    let start = || {
        let setup = Setup { fwatchdog: None, ..lab.setup() };
        Local::start(setup, Arc::clone(&lab.table) as Arc<dyn Sink>)
    };
    let local = start().unwrap();
    let want: [SocketAddr; 2] = ["10.0.0.5:80".parse().unwrap(), "10.0.0.6:80".parse().unwrap()];
    assert_eq!(lab.endpoints("there"), Some(want.to_vec()));
    assert_eq!(lab.table.known.lock().unwrap()[0].wanted, 2);
    lab.declare(&[("one", "run", "")]);
    assert!(local.load().unwrap_err().to_string().starts_with("failed to find fwatchdog: "));
    assert!(start().is_err());
}

#[test]
fn no_file_means_no_functions() {
    let table = Arc::new(Table::default());
    let setup = Setup { functions_file: None, fwatchdog: None, ..Lab::new().setup() };
    let local = Local::start(setup, Arc::clone(&table) as Arc<dyn Sink>).unwrap();
    assert_eq!(local.load().unwrap(), 0);
    assert_eq!(*table.known.lock().unwrap(), []);
}

#[test]
fn a_function_is_scaled_and_what_is_idle_goes_first() {
    let lab = Lab::new();
    lab.declare(&[("f", "run", r#", "replicas": 3"#)]);
    let local = lab.start();
    let pids = lab.pids("f", 3);
    let endpoints = lab.endpoints("f").unwrap();
    *lab.table.busy.lock().unwrap() = vec![endpoints[0]];
    local.scale("f", Some(3), 1).unwrap();
    eventually(SOON, || match lab.endpoints("f") {
        Some(left) if left == endpoints[..1] => Ok(()),
        other => Err(format!("{other:?}")),
    });
    eventually(SOON, || match pids.iter().filter(|pid| is_alive(**pid)).count() {
        1 => Ok(()),
        count => Err(format!("{count} are alive")),
    });
    local.scale("f", Some(3), 5).unwrap();
    assert_eq!(lab.endpoints("f").unwrap().len(), 1, "it had one, not three");
    local.scale("f", None, 0).unwrap();
    pids.into_iter().for_each(gone);
    local.scale("f", Some(0), 2).unwrap();
    eventually(SOON, || match lab.endpoints("f").map(|endpoints| endpoints.len()) {
        Some(2) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    lab.pids("f", 5);
    assert_eq!(local.scale("g", None, 1), Err(ScaleError::Refused("no function `g`".to_owned())));
}

#[test]
fn what_was_scaled_stays_so_unless_the_file_changes_it() {
    let lab = Lab::new();
    let count = |want: usize| {
        eventually(SOON, || match lab.endpoints("f").map(|endpoints| endpoints.len()) {
            Some(count) if count == want => Ok(()),
            other => Err(format!("{other:?}, not {want}")),
        });
    };
    let asked = || lab.table.known.lock().unwrap()[0].asked;
    lab.declare(&[("f", "run", r#", "replicas": 1"#)]);
    let local = lab.start();
    local.scale("f", Some(1), 4).unwrap();
    count(4);
    assert_eq!(asked(), 1, "the gateway's own number is nobody's wish");
    local.scale("f", None, 3).unwrap();
    count(3);
    assert_eq!(asked(), 3);
    lab.declare(&[("f", "run", r#", "replicas": 1"#), ("g", "run", "")]);
    local.load().unwrap();
    lab.pids("g", 1);
    count(3);
    assert_eq!(asked(), 3);
    lab.declare(&[("f", "run", r#", "replicas": 2"#)]);
    local.load().unwrap();
    count(2);
    assert_eq!(asked(), 2);
}

#[test]
fn what_somebody_else_runs_is_not_scaled() {
    let lab = Lab::new();
    let file = r#"{"functions": [{"name": "f", "address": "127.0.0.1:9"}]}"#;
    fs::write(lab.path("functions.json"), file).unwrap();
    let local = lab.start();
    let refused = local.scale("f", None, 2).unwrap_err();
    assert!(refused.to_string().contains("`address`"), "{refused}");
    assert!(!lab.table.known.lock().unwrap()[0].is_scalable);
}
