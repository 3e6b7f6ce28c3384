//! The sample functions as their users see them: the real gateway with its local provider, the real
//! fwatchdog, the real programs.

mod catservice;
mod hello_python;
mod hostname_intent;
mod hubstats;
mod nodeinfo;
mod resize;
mod webhookstash;
mod wordcount;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Bin, Reply, Running, sample};

/// Time limit of what should happen at once.
const SOON: Duration = Duration::from_secs(20);

/// A gateway that serves one function.
fn serve(function: &Value) -> Running {
    let bin = Bin::gateway().env("provider", "local");
    let file = bin.file("functions.json", json!({ "functions": [function] }).to_string());
    bin.env("functions_file", file).start()
}

/// A sample in Rust, with settings.
fn rust(name: &str, environment: Value) -> Value {
    json!({ "name": name, "fprocess": sample(name), "environment": environment })
}

/// A sample that `command` runs in its directory.
fn script(name: &str, command: &str, directory: &Path) -> Value {
    let environment = json!({ "content_type": "text/plain; charset=utf-8" });
    json!({ "name": name, "fprocess": command, "directory": directory, "environment": environment })
}

/// Expects an answer of the function with this text.
#[track_caller]
fn is_text(reply: &Reply, status: u16, want: &str) {
    assert_eq!((reply.status, &*reply.text()), (status, want));
    // A failed process is the function's own answer, not the gateway's.
    assert_eq!(reply.header("x-gateway-error"), None);
    assert_eq!(reply.header("x-exit-code"), (status == 500).then_some("1"));
}
