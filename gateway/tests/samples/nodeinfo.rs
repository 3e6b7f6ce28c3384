use std::fs;

use testkit::{is_installed, sample_directory};

use crate::{script, serve};

#[test]
fn nodeinfo_describes_its_host() {
    if !is_installed("node") {
        return;
    }
    let gateway = serve(&script("nodeinfo", "node handler.js", &sample_directory("nodeinfo")));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let short = gateway.post("/function/nodeinfo", "");
    assert_eq!(short.status, 200, "{}", short.text());
    let text = short.text();
    let names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    let want =
        ["Hostname", "Platform", "Arch", "Release", "Node.js", "CPU count", "Load", "Memory", "Uptime"];
    assert_eq!(names, want, "{text}");
    assert!(text.starts_with(&format!("Hostname: {}\nPlatform: linux\n", host.trim_end())), "{text}");
    let verbose = gateway.post("/function/nodeinfo", "verbose").text();
    assert!(verbose.contains("model: ") && verbose.contains("times: "), "{verbose}");
    // A process need not read its body to the end.
    assert_eq!(gateway.post("/function/nodeinfo", vec![b'x'; 1 << 20]).status, 200);
}
