//! The real binary over real pipes, in a directory of its own.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

const ANSWER: &[u8] = b"Webhook stashed\n";
const FAILURE: &[u8] = b"failed to stash the webhook\n";

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn webhookstash(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_webhookstash"));
    command.current_dir(directory).env_clear();
    command
}

fn run(mut command: Command, body: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("webhookstash starts");
    // The program may end before all is written.
    let _ = child.stdin.take().expect("stdin is piped").write_all(body);
    child.wait_with_output().expect("it ends")
}

/// Name and content of every file in `directory`, sorted.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries =
        fs::read_dir(directory).expect("it can be read").map(|entry| entry.expect("it can be read"));
    let file = |entry: fs::DirEntry| {
        (entry.file_name().display().to_string(), fs::read(entry.path()).expect("it can be read"))
    };
    let mut files: Vec<_> = entries.map(file).collect();
    files.sort();
    files
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_nanos()
}

#[track_caller]
fn is_failure(output: &Output, stdout: &[u8], stderr: &str) {
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), stdout));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(stderr) && text.lines().count() == 1, "{text}");
}

#[test]
fn a_body_becomes_a_file_named_by_the_time() {
    let large: Vec<u8> = (0..10_000_000_u32).map(|index| (index % 251) as u8).collect();
    for body in [&b"{\"event\": \"fork\"}"[..], b"", b"\0\xff\n", &large] {
        let dir = directory();
        let before = now();
        let output = run(webhookstash(dir.path()), body);
        assert_eq!((output.status.code(), &*output.stdout, &*output.stderr), (Some(0), ANSWER, &b""[..]));
        let files = files(dir.path());
        let name: u128 = files[0].0.parse().expect("a number");
        assert!(before <= name && name <= now(), "{name}");
        assert!(files.len() == 1 && files[0].1 == body);
    }
}

#[test]
fn concurrent_bodies_get_their_own_files() {
    let dir = directory();
    thread::scope(|scope| {
        for number in 0..50 {
            let dir = dir.path();
            scope.spawn(move || {
                assert_eq!(run(webhookstash(dir), format!("webhook {number}").as_bytes()).stdout, ANSWER);
            });
        }
    });
    let mut bodies: Vec<Vec<u8>> = files(dir.path()).into_iter().map(|(_, body)| body).collect();
    let mut want: Vec<Vec<u8>> = (0..50).map(|number| format!("webhook {number}").into_bytes()).collect();
    bodies.sort();
    want.sort();
    assert_eq!(bodies, want);
}

#[test]
fn the_directory_can_be_set() {
    let (dir, elsewhere) = (directory(), directory());
    let mut command = webhookstash(dir.path());
    command.env("stash_dir", elsewhere.path());
    assert_eq!(run(command, b"x").stdout, ANSWER);
    assert_eq!((files(dir.path()).len(), files(elsewhere.path()).len()), (0, 1));
    let mut command = webhookstash(dir.path());
    command.env("stash_dir", "");
    assert_eq!(run(command, b"x").stdout, ANSWER);
    assert_eq!(files(dir.path()).len(), 1);
}

#[test]
fn a_known_length_is_checked() {
    for (length, is_stashed) in
        [("4", true), ("-1", true), ("x", true), ("", true), ("5", false), ("3", false)]
    {
        let dir = directory();
        let mut command = webhookstash(dir.path());
        command.env("Http_Content_Length", length);
        let output = run(command, b"1234");
        assert_eq!(output.status.code(), Some(if is_stashed { 0 } else { 1 }), "{length}");
        assert_eq!(files(dir.path()).len(), usize::from(is_stashed), "{length}");
        if !is_stashed {
            is_failure(&output, FAILURE, &format!("failed to read STDIN: got 4 of {length} bytes"));
        }
    }
}

#[test]
fn a_missing_directory_is_a_failure() {
    let dir = directory();
    let mut command = webhookstash(dir.path());
    command.env("stash_dir", "missing");
    is_failure(&run(command, b"x"), FAILURE, "webhookstash: failed to create `missing/.");
}

#[test]
fn a_read_only_directory_is_a_failure() {
    let dir = directory();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).expect("it is ours");
    // Root may write everywhere except there.
    let read_only =
        if File::create(dir.path().join("probe")).is_ok() { Path::new("/proc") } else { dir.path() };
    is_failure(&run(webhookstash(read_only), b"x"), FAILURE, "webhookstash: failed to create ");
}

#[test]
fn a_full_disk_is_a_failure_and_leaves_no_file() {
    let dir = directory();
    // A limit on file sizes acts as a full disk without root; its signal is ignored.
    let mut command = Command::new("sh");
    command.current_dir(dir.path()).args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\""]);
    command.arg(env!("CARGO_BIN_EXE_webhookstash"));
    let output = run(command, &vec![b'x'; 1 << 20]);
    is_failure(&output, FAILURE, "webhookstash: failed to write a file that has no name yet: ");
    assert_eq!(files(dir.path()), []);
}

#[test]
fn an_unread_answer_is_a_failure() {
    let dir = directory();
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut command = webhookstash(dir.path());
    let child = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).spawn();
    let output = child.and_then(|child| child.wait_with_output()).expect("webhookstash starts");
    is_failure(&output, b"", "webhookstash: failed to write STDOUT: ");
}

#[test]
fn unreadable_input_leaves_no_file() {
    let dir = directory();
    let mut command = webhookstash(dir.path());
    let output = command.stdin(File::open(dir.path()).expect("it can be opened")).output();
    is_failure(&output.expect("webhookstash starts"), FAILURE, "webhookstash: failed to read STDIN: ");
    assert_eq!(files(dir.path()), []);
}

#[test]
fn a_killed_program_leaves_no_file() {
    for signal in ["KILL", "TERM"] {
        let dir = directory();
        let mut command = webhookstash(dir.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        // More than a pipe holds: when all is written, some is in the file. STDIN stays open.
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin.write_all(&vec![b'x'; 1 << 20]).expect("it is read");
        assert!(holds_a_file_in(child.id(), dir.path()), "nothing was written so far");
        let kill = Command::new("sh").args(["-c", "kill -s $0 $1", signal, &child.id().to_string()]).status();
        assert!(kill.expect("there is a shell").success());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), &*output.stdout), (None, &b""[..]), "{signal}");
        assert_eq!(files(dir.path()), [], "{signal}");
    }
}

/// Whether a process has a file of `directory` open.
fn holds_a_file_in(pid: u32, directory: &Path) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    let directory = directory.canonicalize().expect("it is there");
    let is_in = |path: &Path| path.starts_with(&directory) && path != directory;
    descriptors.flatten().any(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|path| is_in(&path)))
}

#[test]
fn the_name_is_on_the_disk_before_the_answer() {
    let dir = directory();
    let trace = dir.path().join("trace");
    let strace = |program: &str| {
        let mut command = Command::new("strace");
        command.args(["-y", "-e", "trace=linkat,fsync,write", "-o"]).arg(&trace).arg(program);
        command
    };
    // strace may be missing, or forbidden in a container.
    if !strace("true").output().is_ok_and(|output| output.status.success()) {
        println!("not traced: strace does not run here");
        return;
    }
    let stash = dir.path().join("stash");
    fs::create_dir(&stash).expect("it is ours");
    let mut command = strace(env!("CARGO_BIN_EXE_webhookstash"));
    command.env("stash_dir", &stash);
    assert_eq!(run(command, b"body").stdout, ANSWER);
    let text = fs::read_to_string(&trace).expect("strace wrote it");
    let stash = stash.canonicalize().expect("it is there").display().to_string();
    let steps = ["\"body\", 4", &format!("<{stash}/"), "linkat(", &format!("<{stash}>) "), "Webhook stashed"];
    let mut lines = text.lines();
    for step in steps {
        assert!(lines.any(|line| line.contains(step)), "no {step} in its place: {text}");
    }
}

/// Runs the binary under the name `find`.
fn find(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = webhookstash(directory);
    command.arg0("/bin/find").args(arguments).output().expect("it starts")
}

fn lines(output: &Output) -> Vec<String> {
    let mut lines: Vec<String> = output
        .stdout
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| line.escape_ascii().to_string())
        .collect();
    lines.sort();
    lines
}

/// A tree with every kind of file.
fn tree() -> TempDir {
    let dir = directory();
    let root = dir.path();
    fs::create_dir_all(root.join("a/b/c")).expect("it is ours");
    fs::create_dir(root.join("empty")).expect("it is ours");
    for name in ["one", "a/two", "a/b/.hidden", "a/b/c/with space"] {
        fs::write(root.join(name), name).expect("it is ours");
    }
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "").expect("it is ours");
    symlink("..", root.join("a/up")).expect("it is ours");
    symlink("nowhere", root.join("dangling")).expect("it is ours");
    dir
}

#[test]
fn find_prints_the_same_as_the_real_find() {
    let dir = tree();
    let cases: [(&[&str], usize); 9] = [
        (&[], 12),
        (&["."], 12),
        (&["./"], 12),
        (&["a"], 7),
        (&["a/"], 7),
        (&["a//b"], 4),
        (&["one", "empty"], 2),
        (&["dangling", "a/up"], 2),
        (&[".", "a/b/../b"], 16),
    ];
    for (arguments, count) in cases {
        let output = find(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(lines(&output).len(), count, "{arguments:?}: {:#?}", lines(&output));
        match Command::new("find").current_dir(dir.path()).args(arguments).output() {
            Ok(real) => assert_eq!(lines(&output), lines(&real), "{arguments:?}"),
            Err(error) => println!("not compared with find: {error}"),
        }
    }
}

#[test]
fn find_prints_a_directory_before_its_content() {
    let dir = tree();
    let output = find(dir.path(), &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    let place =
        |line: &str| text.lines().position(|have| have == line).unwrap_or_else(|| panic!("{line}: {text}"));
    assert_eq!(place("."), 0);
    assert!(place("./a") < place("./a/b") && place("./a/b") < place("./a/b/c/with space"));
}

#[test]
fn find_goes_on_after_an_unreadable_directory() {
    let dir = tree();
    let output = find(dir.path(), &["missing", "empty"]);
    is_failure(&output, b"empty\n", "find: failed to read `missing`: ");
}

#[test]
fn find_refuses_options() {
    let dir = tree();
    for arguments in [&["-name", "x"][..], &[".", "-type", "f"], &["--help"], &["!"]] {
        let output = find(dir.path(), arguments);
        assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]), "{arguments:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.starts_with("find: expected directories to list, got `"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1);
    }
}

#[test]
fn find_fails_when_its_output_is_not_read() {
    let dir = tree();
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut command = webhookstash(dir.path());
    let child = command.arg0("find").stdout(full).stderr(Stdio::piped()).spawn();
    let output = child.and_then(|child| child.wait_with_output()).expect("it starts");
    is_failure(&output, b"", "find: failed to write STDOUT: ");
}
