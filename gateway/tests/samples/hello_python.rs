use testkit::{is_installed, sample_directory};

use crate::{is_text, script, serve};

#[test]
fn hello_python_greets() {
    if !is_installed("python3") {
        return;
    }
    let gateway = serve(&script("hello-python", "python3 handler.py", &sample_directory("hello-python")));
    let longest = "x".repeat(1024);
    let greeting = format!("Hello, {longest}!\n");
    let cases = [
        ("", "Hello, world!\n"),
        (" \n", "Hello, world!\n"),
        ("Ada\n", "Hello, Ada!\n"),
        ("Zoë und\nJörg", "Hello, Zoë und Jörg!\n"),
        (&longest, &*greeting),
    ];
    for (body, want) in cases {
        is_text(&gateway.post("/function/hello-python", body), 200, want);
    }
    let too_long = "expected a name of at most 1024 bytes, got more\n";
    is_text(&gateway.post("/function/hello-python", format!("{longest}x")), 500, too_long);
    let other = "expected a name in UTF-8, got other bytes\n";
    is_text(&gateway.post("/function/hello-python", b"\xff"), 500, other);
}
