use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};
use testkit::{Running, eventually, proc, sample};

use crate::{SOON, is_text, rust, serve};

const NAME: &str = "webhookstash";

/// A stash in `directory`, which is the current directory as in the image.
fn function(directory: &Path) -> Value {
    let mut function = rust(NAME, json!({ "content_type": "text/plain" }));
    function["directory"] = json!(directory);
    function
}

/// The names in `directory`, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn post(gateway: &Running, body: &str) {
    is_text(&gateway.post("/function/webhookstash", body), 200, "Webhook stashed\n");
}

#[test]
fn fifty_webhooks_at_once_are_fifty_files() {
    let stash = tempfile::tempdir().unwrap();
    let gateway = serve(&function(stash.path()));
    thread::scope(|scope| {
        for number in 0..50 {
            let gateway = &gateway;
            scope.spawn(move || post(gateway, &format!("webhook {number}")));
        }
    });
    let names = names(stash.path());
    assert!(names.iter().all(|name| name.parse::<u128>().is_ok()), "{names:?}");
    let mut bodies: Vec<String> =
        names.iter().map(|name| fs::read_to_string(stash.path().join(name)).unwrap()).collect();
    let mut want: Vec<String> = (0..50).map(|number| format!("webhook {number}")).collect();
    bodies.sort();
    want.sort();
    assert_eq!(bodies, want);
}

#[test]
fn find_lists_the_stash() {
    let stash = tempfile::tempdir().unwrap();
    let gateway = serve(&function(stash.path()));
    post(&gateway, r#"{"event": "fork", "repo": "alexellis2/faas"}"#);
    post(&gateway, "");
    // As with `docker exec ID find .`: the image's /bin/find is a link to the function.
    let output = Command::new(sample(NAME)).arg0("find").arg(".").current_dir(stash.path()).output().unwrap();
    let mut lines: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    let files = names(stash.path()).into_iter().map(|name| format!("./{name}"));
    assert_eq!(lines, [".".to_owned()].into_iter().chain(files).collect::<Vec<_>>());
    assert_eq!((output.status.code(), lines.len()), (Some(0), 3));
}

#[test]
fn a_failed_write_is_reported() {
    let environment = json!({ "stash_dir": "/proc/nowhere", "content_type": "text/plain" });
    let gateway = serve(&rust(NAME, environment));
    is_text(&gateway.post("/function/webhookstash", "x"), 500, "failed to stash the webhook\n");
    // The reason is in the log, not in the answer.
    gateway.wait_log("webhookstash: failed to create `/proc/nowhere/.", SOON);
}

/// How many processes have a file in `directory` open.
fn writing(gateway: &Running, directory: &Path) -> usize {
    let directory = directory.canonicalize().unwrap();
    let is_in = |path: &Path| path.starts_with(&directory) && path != directory;
    let writes = |pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok()).any(|path| is_in(&path))
    };
    gateway.descendants().iter().filter(|pid| writes(pid)).count()
}

fn running(gateway: &Running) -> usize {
    let is_stash = |pid: &u32| proc::command_line(*pid).ends_with(NAME);
    gateway.descendants().into_iter().filter(is_stash).count()
}

fn expect(want: usize, count: impl Fn() -> usize) {
    eventually(SOON, || match count() {
        got if got == want => Ok(()),
        got => Err(format!("{got} processes, not {want}")),
    });
}

#[test]
fn a_truncated_webhook_leaves_no_file() {
    const CLIENTS: usize = 20;
    let stash = tempfile::tempdir().unwrap();
    let gateway = serve(&function(stash.path()));
    let head = "POST /function/webhookstash HTTP/1.1\r\nHost: t\r\n";
    let bodies = ["Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "Content-Length: 100\r\n\r\nhalf"];
    for body in bodies {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| gateway.connect()).collect();
        for client in &mut clients {
            client.send(format!("{head}{body}")).unwrap();
        }
        // Each is in the middle of its file.
        expect(CLIENTS, || writing(&gateway, stash.path()));
        for (number, client) in clients.into_iter().enumerate() {
            if number % 2 == 0 { client.reset() } else { drop(client) }
        }
        expect(0, || running(&gateway));
        assert_eq!(names(stash.path()), [""; 0], "{body}");
    }
    post(&gateway, "the next one is");
    assert_eq!(names(stash.path()).len(), 1);
}
