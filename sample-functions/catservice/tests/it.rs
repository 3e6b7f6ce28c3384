//! The real binary over real pipes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;

fn catservice() -> Command {
    Command::new(env!("CARGO_BIN_EXE_catservice"))
}

/// Bytes with a period that is no power of two, so that a lost or doubled block shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

#[test]
fn input_is_copied_to_output() {
    for length in [0, 1, 4096, 64 * 1024, 64 * 1024 + 1, 10 * 1024 * 1024] {
        let sent = pattern(length);
        let mut child =
            catservice().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("catservice starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let writer = {
            let sent = sent.clone();
            thread::spawn(move || stdin.write_all(&sent))
        };
        let mut received = Vec::new();
        child.stdout.take().expect("stdout is piped").read_to_end(&mut received).expect("stdout can be read");
        writer.join().expect("the writer lives").expect("all was taken");
        assert!(received == sent, "{length} bytes sent, {} received", received.len());
        assert_eq!(child.wait().expect("it ends").code(), Some(0));
    }
}

#[test]
fn bytes_are_written_before_the_input_ends() {
    let mut child =
        catservice().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("catservice starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let mut stdout = child.stdout.take().expect("stdout is piped");
    for part in [b"no newline", b"and more  "] {
        stdin.write_all(part).expect("it reads");
        let mut received = [0; 10];
        stdout.read_exact(&mut received).expect("it writes");
        assert_eq!(&received, part);
    }
    drop(stdin);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_closed_output_is_a_failure() {
    let mut child = catservice()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("catservice starts");
    drop(child.stdout.take());
    // The program may end before all is written: then the pipe breaks here too.
    let _ = child.stdin.take().expect("stdin is piped").write_all(b"nobody reads this");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("catservice: failed to write STDOUT: "), "{stderr}");
}

#[test]
fn unreadable_input_is_a_failure() {
    let directory = File::open(env!("CARGO_MANIFEST_DIR")).expect("the directory can be opened");
    let output = catservice().stdin(directory).output().expect("catservice starts");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("catservice: failed to read STDIN: "), "{stderr}");
}

#[test]
fn files_work_like_pipes() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let input = File::open(manifest).expect("the manifest can be opened");
    let output = catservice().stdin(input).output().expect("catservice starts");
    assert_eq!(output.stdout, fs::read(manifest).expect("the manifest can be read"));
}
