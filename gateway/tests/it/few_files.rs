//! A low limit of open files: below the need of one call the gateway ends with a line, from there on it
//! serves.

use testkit::{Output, eventually};

use crate::{ONE, SOON, before, gateway, path, process, well};

/// A few descriptors beyond those in use, too few for the control plane.
const TOO_FEW: u64 = 20;

/// Expects the line about the limit, and returns the least number in it.
#[track_caller]
fn refused(output: &Output) -> u64 {
    assert_eq!(output.code(), 1, "{output:?}");
    let line = output.stderr.lines().next_back().unwrap_or_default();
    assert!(line.starts_with("gateway: ") && line.contains("ulimit -n"), "{output:?}");
    let least = line.split("expected at least ").nth(1).and_then(|text| text.parse().ok());
    least.unwrap_or_else(|| panic!("no number in {line}"))
}

#[test]
fn the_gateway_starts_only_with_enough_open_files() {
    let peer = well();
    for name in ["address", "process"] {
        let bin = || match name {
            "address" => before(&peer),
            _ => gateway(&[process(ONE, "cat")]),
        };
        let least = refused(&bin().nofile(TOO_FEW).run());
        assert_eq!(refused(&bin().nofile(least - 1).run()), least, "{name}");
        let gateway = bin().nofile(least).start();
        let is_served = |path: &str| {
            // The one worker may still have the connection before.
            eventually(SOON, || match gateway.get(path).status {
                200 => Ok(()),
                status => Err(format!("{name}: {path} is {status}: {}", gateway.log())),
            });
        };
        for _ in 0..20 {
            is_served(&path(""));
        }
        for own in ["/healthz", "/system/info", "/metrics", &path("")] {
            is_served(own);
        }
        assert!(!gateway.log().contains("No file descriptors"), "{name}: {}", gateway.log());
    }
}
