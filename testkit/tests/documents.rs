//! The documents are true: their links lead somewhere, their functions files are taken, and, on an engine as it is
//! on a new host, every command in them works and prints what they say.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use testkit::document::{self, Block};
use testkit::engine::Engine;
use testkit::{Bin, Peer, Script, eventually};

/// The documents with commands, in the order of their reading. The README comes first: others build on it.
const READ: [&str; 5] =
    ["README.md", "docs/swarm.md", "docs/functions.md", "docs/monitoring.md", "docs/release.md"];

/// How long all commands of one document may take. The first builds everything from source, twice.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// What the Docker Hub would say, from a hub on this machine.
const HUB: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"count\":99}";

fn root() -> &'static Path {
    testkit::workspace()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Markdown file of the project, by its path from the root.
fn documents() -> Vec<String> {
    let output = std::process::Command::new("git")
        .args([
            "-C",
            &root().to_string_lossy(),
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.md",
        ])
        .output()
        .expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    found.sort();
    assert!(found.iter().any(|path| path == "README.md"), "{found:?}");
    found
}

fn blocks(path: &str) -> Vec<Block> {
    document::blocks(&read(&root().join(path))).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The commands that run this test themselves, and all others: CI calls them by name.
fn is_run_by_ci(block: &Block) -> bool {
    let ci = read(&root().join(".ci/run"));
    block.text.lines().all(|line| ci.contains(&format!("stage \"{line}\"")))
}

#[test]
fn every_command_stands_in_a_document_that_is_run() {
    for path in documents() {
        for block in blocks(&path) {
            // What is to be added to the configuration of Prometheus or Caddy is tested with that program.
            let is_known = ["sh", "text", "json", "yaml", "caddyfile"].contains(&&*block.language);
            assert!(is_known, "{path}:{}: a block of `{}`, which no test reads", block.line, block.language);
            // What CONTRIBUTING and the tests' own page list is what CI runs anyway.
            let is_run = READ.contains(&&*path) || ["CONTRIBUTING.md", "docs/testing.md"].contains(&&*path);
            assert!(block.language != "sh" || is_run, "{path}:{}: commands that no test runs", block.line);
        }
    }
}

#[test]
fn functions_files_in_documents_are_taken() {
    let mut seen = 0;
    for path in documents() {
        for block in blocks(&path).into_iter().filter(|block| block.language == "json") {
            let bin = Bin::gateway().env("provider", "local");
            let file = bin.file("functions.json", &block.text);
            // The working directory that the example names.
            fs::create_dir_all(bin.dir().join("nodeinfo")).expect("a directory");
            let gateway = bin.env("functions_file", file).start();
            gateway.wait_log("functions known", Duration::from_secs(30));
            seen += 1;
        }
    }
    assert!(seen > 0, "no functions file in any document");
}

/// The targets of `[text](target)` in a document, outside of code.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in text.lines() {
        for (at, _) in line.match_indices("](") {
            links.extend(line[at + 2..].split(')').next().map(str::to_owned));
        }
    }
    links
}

/// The anchors of a document's headings, as they are made from them where they are shown.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            words
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .collect::<String>()
                .replace(' ', "-")
        })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    for path in documents() {
        let file = root().join(&path);
        for link in links(&read(&file)).into_iter().filter(|link| !link.contains("://")) {
            let (target, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if target.is_empty() { file.clone() } else { file.with_file_name(target) };
            assert!(target.exists(), "{path}: no {link}");
            assert!(
                anchor.is_empty() || anchors(&read(&target)).contains(anchor),
                "{path}: no heading for {link}"
            );
        }
    }
}

/// The project as a clone in an empty folder, with what is not committed yet.
fn clone(into: &Path) {
    let script = "git clone --quiet \"$0\" \"$1\" && cd \"$0\" && \
        git ls-files -z --cached --others --exclude-standard | \
        while IFS= read -r -d '' file; do if [ -e \"$file\" ] || [ -L \"$file\" ]; then printf '%s\\0' \"$file\"; fi; done | \
        tar --create --null --files-from=- | tar --extract --directory \"$1\"";
    let bin = Bin::at("bash").arg("-euo").arg("pipefail").arg("-c").arg(script).arg(root()).arg(into);
    let output = bin.run();
    assert_eq!(output.code(), 0, "{}", output.stderr);
}

/// Runs a document's commands in `folder`; each block must print what the document says.
fn follow(path: &str, folder: &Path, hub: &str) {
    let mut blocks = blocks(path);
    blocks.retain(|block| !is_run_by_ci(block));
    let out = tempfile::tempdir().expect("a directory");
    let script = out.path().join("script.sh");
    fs::write(&script, document::script(&blocks)).expect("the script");
    let mut bin = Bin::at("bash").arg(&script).cwd(folder).env("FAAS_OUT", out.path());
    for name in ["CI", "RUSTUP_AUTO_INSTALL", "FAAS_STATIC_ROUTE"] {
        if let Some(value) = testkit::variable(name) {
            bin = bin.env(name, value);
        }
    }
    // The reader's home is the folder around the clone. Only the toolchain is that of this machine.
    let home = testkit::variable("HOME").unwrap_or_default();
    for (name, default) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        let value = testkit::variable(name).unwrap_or_else(|| format!("{home}/{default}"));
        bin = bin.env(name, value);
    }
    bin = bin.env("HOME", folder.parent().expect("a folder around the clone"));
    let process =
        bin.env("CARGO_NET_OFFLINE", "true").env("FAAS_HUB_URL", hub).env("FAAS_DIST_DIRTY", "1").spawn();
    let status = process.wait(DOCUMENT_TIMEOUT);
    let at = fs::read_to_string(out.path().join("at")).unwrap_or_default();
    let said = |number: usize, end: &str| {
        fs::read_to_string(out.path().join(format!("{number}.{end}"))).unwrap_or_default()
    };
    if !status.success() {
        let number = blocks.iter().position(|block| at.starts_with(&format!("{} ", block.line))).unwrap_or(0);
        panic!("{path}:{at}\n{}\n{}\n{}", said(number, "out"), said(number, "err"), process.log());
    }
    for (number, block) in blocks.iter().enumerate() {
        if let Some(says) = &block.prints {
            let checked = document::check_output(says, &said(number, "out"));
            checked.unwrap_or_else(|error| panic!("{path}:{}: {error}\n{}", block.line, said(number, "err")));
        }
    }
}

/// As a reader who begins the next document with a Swarm on which nothing runs.
fn remove_services(engine: &Engine) {
    let services = engine.docker(&["service", "ls", "--quiet"]);
    for service in services.lines() {
        engine.docker(&["service", "rm", service]);
    }
    eventually(Duration::from_secs(60), || match engine.docker(&["ps", "--quiet"]) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("containers are left: {left}")),
    });
    // Of the README's own, and in use for a moment more.
    eventually(Duration::from_secs(20), || {
        let networks = engine.docker(&["network", "ls", "--quiet", "--filter", "name=^functions$"]);
        if networks.is_empty() {
            return Ok(());
        }
        let _ = std::process::Command::new("docker").args(["network", "rm", "functions"]).output();
        Err(format!("the network is left: {networks}"))
    });
}

/// What Docker built from source, in a folder of its container, is what `make static` built in this one.
fn both_builds_are_the_same(engine: &Engine, folder: &Path) {
    for name in ["gateway", "fwatchdog"] {
        let container = engine.docker(&["create", &format!("localhost/faas/{name}")]);
        let image = folder.join(format!("{name}-of-image"));
        engine.docker(&["cp", &format!("{container}:/{name}"), &image.to_string_lossy()]);
        engine.docker(&["rm", &container]);
        let [image, built] =
            [image, folder.join("dist").join(name)].map(|path| fs::read(path).expect("a binary"));
        assert!(image == built, "{name}: {} bytes in the image, {} in dist/", image.len(), built.len());
    }
}

#[test]
#[ignore = "needs an engine as on a new host: make test-docs"]
fn every_command_of_the_documents_works() {
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let hub =
        format!("http://{}:{}", testkit::engine::HOST_ADDRESS, listener.local_addr().expect("bound").port());
    let _hub = Peer::on(listener, vec![Script::new().request().send(HUB).repeat()]);
    let folder = tempfile::tempdir().expect("an empty folder");
    let clone_folder = folder.path().join("faas");
    clone(&clone_folder);
    for (number, path) in READ.into_iter().enumerate() {
        if number > 0 {
            let engine = Engine::connect();
            remove_services(&engine);
            both_builds_are_the_same(&engine, &clone_folder);
        }
        let started = std::time::Instant::now();
        follow(path, &clone_folder, &hub);
        println!("{path}: {:.0} s", started.elapsed().as_secs_f64());
    }
}
