//! Rules about the source itself that neither the compiler nor clippy holds.

use std::fs;
use std::path::{Path, PathBuf};

const MAX_LINES: usize = 600;

// In two parts, so that this file does not name what it looks for.
const UNSAFE: &str = concat!("un", "safe");

/// Everything in Rust that is part of the project, as path from its root and content.
fn sources() -> Vec<(String, String)> {
    let root = testkit::workspace();
    let mut files = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for path in entries(&directory) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && !["target", "dist"].contains(&&*name) {
                directories.push(path);
            } else if name.ends_with(".rs") {
                let content = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                files.push((shown, content));
            }
        }
    }
    files
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

/// The part of a file before its `mod tests`.
fn without_tests(content: &str) -> &str {
    content.find("#[cfg(test)]\nmod tests").map_or(content, |at| &content[..at])
}

/// Whether `line` has `word` as a word of its own, outside of a comment.
fn has_word(line: &str, word: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

/// Fails with every place where `is_wrong(path, line)` holds.
fn check_lines(rule: &str, is_wrong: impl Fn(&str, &str) -> bool) {
    let mut found = Vec::new();
    for (path, content) in sources() {
        for (number, line) in content.lines().enumerate() {
            if is_wrong(&path, line) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn files_are_short() {
    let is_test = |path: &str| path.contains("/tests/");
    let mut long: Vec<String> = sources()
        .iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, content)| (path, without_tests(content).lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| format!("{path}: {lines}"))
        .collect();
    long.sort();
    assert!(long.is_empty(), "over {MAX_LINES} lines without tests: {long:#?}");
}

#[test]
fn unsafe_code_is_in_one_place() {
    check_lines("not in kit::sys", |path, line| !path.starts_with("kit/src/sys") && has_word(line, UNSAFE));
}

#[test]
fn every_crate_but_kit_forbids_it() {
    let is_root = |path: &str| {
        path.ends_with("src/lib.rs") || path.ends_with("src/main.rs") || path.contains("/src/bin/")
    };
    let missing: Vec<String> = sources()
        .into_iter()
        .filter(|(path, _)| is_root(path) && !path.starts_with("kit/"))
        // A binary's parts, not its root.
        .filter(|(path, content)| !path.contains("/src/bin/") || content.contains("\nfn main()"))
        .filter(|(_, content)| !content.contains("#![forbid(unsafe_code)]"))
        .map(|(path, _)| path)
        .collect();
    assert!(missing.is_empty(), "crate roots without #![forbid(unsafe_code)]: {missing:?}");
}

#[test]
fn nothing_is_left_open() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let macros = [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("db", "g!(")];
    check_lines("left open", |_, line| {
        marks.iter().any(|mark| line.contains(mark)) || macros.iter().any(|name| line.contains(name))
    });
}

/// The static binaries are built without the code that formats values for debugging: a value would be printed as
/// nothing.
#[test]
fn nothing_that_is_shipped_formats_for_debugging() {
    const SHIPPED: [&str; 5] =
        ["kit/src/", "http1/src/", "docker-sock/src/", "fwatchdog/src/", "gateway/src/"];
    const OF_TESTS: [&str; 4] = ["tests.rs", "/tests/", "/explore.rs", "/simulate"];
    let mut found = Vec::new();
    for (path, content) in sources() {
        let is_shipped = SHIPPED.iter().any(|start| path.starts_with(start));
        if !is_shipped || OF_TESTS.iter().any(|part| path.contains(part)) {
            continue;
        }
        let shipped = content.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = shipped.lines().filter(|line| line.contains(":?}") || line.contains(":#?}"));
        found.extend(lines.map(|line| format!("{path}: {}", line.trim())));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Whose types appear where: a library's name, and the paths that may say it.
const CONFINED: [(&str, &[&str]); 3] = [
    ("tiny_http", &["gateway/src/control"]),
    ("ureq", &["gateway/src/callback", "sample-functions/hubstats"]),
    ("docker_sock", &["docker-sock/", "gateway/src/provider/swarm", "fuzz/"]),
];

#[test]
fn libraries_stay_where_they_belong() {
    for (library, places) in CONFINED {
        check_lines(&format!("{library} outside of {places:?}"), |path, line| {
            let may =
                places.iter().any(|place| path.starts_with(place)) || path.starts_with("testkit/tests/");
            !may && has_word(line, library)
        });
    }
}

/// What a Dockerfile's stage `name` is made of: its instructions, with the places in the builder left out.
fn stage(dockerfile: &str, begins: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = dockerfile.lines().skip_while(|line| !begins(line)).skip(1);
    let lines = lines.take_while(|line| !line.starts_with("FROM ")).filter(|line| !line.starts_with('#'));
    let neutral = |line: &str| {
        let places = ["/src/dist/rootfs/webhookstash/", "/out/rootfs/", "/src/dist/", "/out/bin/"];
        places.iter().fold(line.to_owned(), |line, place| line.replace(place, "BUILT/"))
    };
    lines.filter(|line| !line.is_empty()).map(neutral).collect()
}

/// A function's own Dockerfile, which is there to be copied, and its stage among all images.
#[test]
fn a_function_is_the_same_image_from_either_dockerfile() {
    let root = testkit::workspace();
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let all = read(&root.join("Dockerfile.musl"));
    let mut names = Vec::new();
    for folder in entries(&root.join("sample-functions")).into_iter().filter(|path| path.join("src").is_dir())
    {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let here = stage(&read(&folder.join("Dockerfile")), |line| line == "FROM localhost/faas/fwatchdog");
        let there = stage(&all, |line| line == format!("FROM fwatchdog AS {name}"));
        assert!(here.len() >= 2, "{name}: {here:?}");
        assert_eq!(here, there, "{name}");
        // The same builder for each of them, but for what an image needs besides.
        let builder =
            stage(&read(&folder.join("Dockerfile")), |line| line == "FROM rust:1-alpine AS builder");
        let install = format!("RUN cargo install --locked --root /out --path /src/{name}");
        assert_eq!(builder[..2], ["COPY . /src".to_owned(), install]);
        names.push(name);
    }
    assert!(names.len() >= 6, "{names:?}");
}

#[test]
fn the_checks_can_fail() {
    assert!(has_word(&format!("let x = {UNSAFE} {{ y }};"), UNSAFE));
    assert!(!has_word(&format!("#![forbid({UNSAFE}_code)] // {UNSAFE}"), UNSAFE));
    assert_eq!(
        without_tests("a\n#[cfg(test)]\nfn b() {}\n#[cfg(test)]\nmod tests {}"),
        "a\n#[cfg(test)]\nfn b() {}\n"
    );
    assert!(sources().iter().any(|(path, _)| path == "kit/src/lib.rs"));
}
