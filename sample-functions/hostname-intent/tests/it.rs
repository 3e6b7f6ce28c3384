//! The real binary over real pipes.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const MAX_REQUEST_BYTES: usize = 256 * 1024;

fn skill() -> Command {
    Command::new(env!("CARGO_BIN_EXE_hostname-intent"))
}

fn ask(text: &[u8]) -> Output {
    let mut command = skill();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("hostname-intent starts");
    // The program does not read beyond its limit.
    let _ = child.stdin.take().expect("stdin is piped").write_all(text);
    child.wait_with_output().expect("it ends")
}

/// The answer: one line of JSON.
fn json_of(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.ends_with('\n') && text.lines().count() == 1, "one line: {text:?}");
    serde_json::from_str(&text).expect("it is JSON")
}

#[test]
fn requests_are_answered() {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").expect("Linux has it");
    let speech = |text: &str, is_end: bool| {
        json!({"version": "1.0", "response": {
            "outputSpeech": {"type": "PlainText", "text": text}, "shouldEndSession": is_end}})
    };
    let cases = [
        ("IntentRequest", speech(&format!("This is {}.", name.trim_end()), true)),
        ("LaunchRequest", speech("Ask me for the name of the host.", false)),
        ("SessionEndedRequest", json!({"version": "1.0", "response": {}})),
    ];
    for (kind, want) in cases {
        let output = ask(json!({"request": {"type": kind}}).to_string().as_bytes());
        assert_eq!((output.status.code(), json_of(&output)), (Some(0), want), "{kind}");
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn other_input_is_refused() {
    let cases: [(&[u8], &str); 4] = [
        (b"", "expected the JSON of an Alexa request: "),
        (b"{\"request\": ", "expected the JSON of an Alexa request: "),
        (b"\xff", "expected the JSON of an Alexa request: "),
        (b"{\"request\": {\"type\": \"Other\"}}", "expected an IntentRequest in `request.type`, got `Other`"),
    ];
    for (text, want) in cases {
        let output = ask(text);
        assert_eq!(output.status.code(), Some(1));
        let answer = json_of(&output);
        let reason = answer["error"].as_str().expect("it says why");
        assert!(reason.starts_with(want), "{reason}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), format!("hostname-intent: {reason}\n"));
    }
}

#[test]
fn too_large_requests_are_refused() {
    let mut text = br#"{"request": {"type": "LaunchRequest"}}"#.to_vec();
    text.resize(MAX_REQUEST_BYTES, b' ');
    assert_eq!(ask(&text).status.code(), Some(0));
    text.push(b' ');
    let output = ask(&text);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json_of(&output), json!({"error": "expected at most 262144 bytes, got more"}));
}

#[test]
fn an_unread_answer_is_a_failure() {
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let output = skill().stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).spawn();
    let output = output.and_then(|child| child.wait_with_output()).expect("hostname-intent starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("failed to write STDOUT: "));
}
