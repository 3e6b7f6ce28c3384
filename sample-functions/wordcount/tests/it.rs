//! The real binary over real pipes.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Output, Stdio};

fn wordcount() -> Command {
    Command::new(env!("CARGO_BIN_EXE_wordcount"))
}

/// Counts `text`, repeated `repeats` times.
fn count(text: &[u8], repeats: usize) -> Output {
    let mut child = wordcount()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("wordcount starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    for _ in 0..repeats {
        stdin.write_all(text).expect("it reads to the end");
    }
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[test]
fn words_are_counted() {
    let cases: [(&[u8], &str); 4] =
        [(b"", "0\n"), (b"one", "1\n"), (b"one two\nthree\n", "3\n"), (b"\xff \xfe", "2\n")];
    for (text, want) in cases {
        let output = count(text, 1);
        assert_eq!((output.status.code(), &*output.stdout), (Some(0), want.as_bytes()), "{text:?}");
    }
}

#[test]
fn a_large_input_is_counted_in_one_buffer() {
    // Words of five bytes begin anywhere in a buffer, and its end splits them.
    let words = 4_000_000;
    let text = b"word ".repeat(1000);
    assert_eq!(count(&text, words / 1000).stdout, format!("{words}\n").as_bytes());
}

#[test]
fn failures_are_named() {
    let directory = File::open(env!("CARGO_MANIFEST_DIR")).expect("the directory can be opened");
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let cases = [
        (wordcount().stdin(directory).output(), "wordcount: failed to read STDIN: "),
        (
            wordcount()
                .stdin(Stdio::null())
                .stdout(full)
                .stderr(Stdio::piped())
                .spawn()
                .and_then(|child| child.wait_with_output()),
            "wordcount: failed to write STDOUT: ",
        ),
    ];
    for (output, want) in cases {
        let output = output.expect("wordcount starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr.starts_with(want) && stderr.lines().count() == 1, "{stderr}");
    }
}

#[test]
fn files_work_like_pipes() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let words = fs::read_to_string(manifest).expect("it can be read").split_ascii_whitespace().count();
    let output = wordcount().stdin(File::open(manifest).expect("it can be opened")).output();
    assert_eq!(output.expect("wordcount starts").stdout, format!("{words}\n").as_bytes());
}
