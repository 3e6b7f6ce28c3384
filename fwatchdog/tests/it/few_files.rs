//! A low limit of open files: below the need of one call fwatchdog logs a line and ends, from there on it serves.

use testkit::{Bin, Output, program};

/// Far too few for a call.
const TOO_FEW: u64 = 16;

/// Expects the line about the limit, and returns the least number in it.
#[track_caller]
fn refused(output: &Output) -> u64 {
    assert_eq!(output.code(), 1, "{output:?}");
    let line = output.stderr.lines().next_back().unwrap_or_default();
    assert!(line.starts_with("fwatchdog: ") && line.contains("ulimit -n"), "{output:?}");
    let least = line.split("expected at least ").nth(1).and_then(|text| text.parse().ok());
    least.unwrap_or_else(|| panic!("no number in {line}"))
}

fn cat() -> Bin {
    Bin::fwatchdog().env("fprocess", "cat")
}

fn http() -> Bin {
    let command = format!("sh -c 'exec {} $PORT'", program("serves"));
    let dog = Bin::fwatchdog().env("fprocess", command).env("mode", "http");
    dog.env("upstream_url", "http://127.0.0.1:0")
}

#[test]
fn too_few_open_files_end_the_start_and_the_fewest_serve() {
    for name in ["fork", "streaming", "http", "prewarm"] {
        let bin = || match name {
            "http" => http(),
            "prewarm" => cat().env("cgi_headers", "false").env("prewarm", "2"),
            mode => cat().env("mode", mode),
        };
        let least = refused(&bin().nofile(TOO_FEW).run());
        assert_eq!(refused(&bin().nofile(least - 1).run()), least, "{name}");
        let dog = bin().nofile(least).start();
        for _ in 0..20 {
            let reply = dog.post("/", "hello");
            assert_eq!(reply.status, 200, "{name}: {}", dog.log());
        }
        assert_eq!(dog.get("/_/health").status, 200, "{name}: {}", dog.log());
        let metrics = dog.metrics("/_/metrics");
        assert_eq!(metrics.value("process_max_fds", &[]), Some(least as f64), "{name}");
    }
}
