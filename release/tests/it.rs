//! The licences and the list of packages of the shipped binaries, against `cargo tree` and the texts themselves.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use release::{Package, SHIPPED, licences_text, notices, sbom, shipped};
use serde_json::Value;

const TARGETS: [&str; 3] =
    ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl", "armv7-unknown-linux-musleabihf"];

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", root.display()))
}

fn packages(target: &str) -> Vec<Package> {
    shipped(&root(), target).unwrap_or_else(|error| panic!("{target}: {error}"))
}

/// `name version` of everything linked into the shipped binaries, by cargo's own account.
fn cargo_tree(target: &str) -> BTreeSet<String> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let mut command = Command::new(cargo);
    command.current_dir(root()).args(["tree", "--locked", "--edges=normal", "--prefix=none", "--format={p}"]);
    command.args(["--target", target]).args(SHIPPED.map(|name| format!("--package={name}")));
    let output = command.output().unwrap_or_else(|error| panic!("{cargo}: {error}"));
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = stdout.lines().filter_map(|line| line.split_once(" v"));
    lines.map(|(name, rest)| format!("{name} {}", rest.split(' ').next().unwrap_or_default())).collect()
}

fn components(sbom: &Value) -> Vec<&Value> {
    sbom["components"].as_array().map(|all| all.iter().collect()).unwrap_or_default()
}

#[test]
fn the_list_is_what_cargo_tree_says() {
    for target in TARGETS {
        let sbom = sbom(&packages(target), "1", "2026-01-01T00:00:00Z");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let listed: Vec<String> = components(&sbom)
            .iter()
            .map(|component| format!("{} {}", text(&component["name"]), text(&component["version"])))
            .collect();
        let expected = cargo_tree(target);
        assert!(expected.iter().any(|name| name.starts_with("serde_json ")), "{expected:?}");
        assert_eq!(listed, expected.into_iter().collect::<Vec<String>>(), "{target}");
    }
}

#[test]
fn the_list_is_complete_in_itself() {
    let sbom = sbom(&packages(TARGETS[0]), "1", "2026-01-01T00:00:00Z");
    assert_eq!((&sbom["bomFormat"], &sbom["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let mut refs = BTreeSet::from([sbom["metadata"]["component"]["bom-ref"].as_str().unwrap_or_default()]);
    for component in components(&sbom) {
        let purl = component["purl"].as_str().unwrap_or_default();
        assert!(refs.insert(component["bom-ref"].as_str().unwrap_or_default()), "twice: {component}");
        let licence = component["licenses"][0]["expression"].as_str().unwrap_or_default();
        assert!(spdx::Expression::parse(licence).is_ok(), "{component}");
        let checksum = component["hashes"][0]["content"].as_str().unwrap_or_default();
        assert_eq!(checksum.len(), if purl.starts_with("pkg:cargo/") { 64 } else { 0 }, "{component}");
    }
    let uses = sbom["dependencies"].as_array().cloned().unwrap_or_default();
    assert_eq!(uses.len(), refs.len());
    for entry in uses {
        let named = entry["dependsOn"].as_array().into_iter().flatten().chain([&entry["ref"]]);
        for name in named {
            assert!(refs.contains(name.as_str().unwrap_or_default()), "unknown: {name}");
        }
    }
}

#[test]
fn every_package_brings_its_licence() {
    let packages = packages(TARGETS[0]);
    // Without what tools/licences has: a package of the registry is to bring its own.
    let nothing = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let notices = notices(&packages, nothing.path()).unwrap_or_else(|error| panic!("{error}"));
    let text = licences_text(&packages, &notices);
    for part in ["serde_json 1.", "The faas authors", "Andrew Gallant", "Permission is hereby granted"] {
        assert!(text.contains(part), "{part} is missing");
    }
    for package in &packages {
        let name = format!("{} {}", package.name, package.version);
        let mut of_it = notices.iter().filter(|notice| notice.packages.contains(&name));
        assert!(of_it.any(|notice| notice.text.len() > 500), "{name}");
    }
}

#[test]
fn a_package_without_a_licence_text_is_an_error() {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let mut package = packages(TARGETS[0]).remove(0);
    package.name = "bare".to_owned();
    package.version = "1.2.3".to_owned();
    package.folder = Some(folder.path().to_owned());
    let ours = root().join("tools/licences");
    for (licence, is_enough) in [
        ("MIT", false),
        ("MIT AND Apache-2.0", false),
        ("MIT OR Apache-2.0", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("GPL-3.0-or-later WITH GCC-exception-3.1", true),
        ("GPL-3.0-or-later", false),
    ] {
        package.licence = licence.to_owned();
        match notices(&[package.clone()], &ours) {
            Ok(notices) => assert!(is_enough && !notices.is_empty(), "{licence}: {notices:?}"),
            Err(error) => {
                assert!(!is_enough, "{licence}: {error}");
                assert!(error.to_string().contains("`bare 1.2.3`"), "{error}");
            }
        }
    }
    fs::write(folder.path().join("Copying.md"), "do as you like").unwrap_or_else(|error| panic!("{error}"));
    package.licence = "MIT".to_owned();
    let notices = notices(&[package], &ours).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(notices[0].text, "do as you like");
}

#[test]
fn the_same_input_gives_the_same_output() {
    let make = || {
        let packages = packages(TARGETS[0]);
        let notices =
            notices(&packages, &root().join("tools/licences")).unwrap_or_else(|error| panic!("{error}"));
        let text = licences_text(&packages, &notices);
        (text, sbom(&packages, "1", "2026-01-01T00:00:00Z").to_string())
    };
    let (first, second) = (make(), make());
    assert!(first == second, "two runs differ");
    let root = root().display().to_string();
    assert!(!first.0.contains(&root) && !first.1.contains(&root), "a path of this machine is in them");
}
