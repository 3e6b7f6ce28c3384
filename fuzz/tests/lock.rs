//! What is fuzzed is what is shipped: this workspace has a lock file of its own, with the same versions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The packages of others between the bytes and the product.
const SHARED: [&str; 5] = ["itoa", "libc", "log", "memchr", "serde_json"];

/// The versions in a lock file, by package.
fn versions(path: &str) -> BTreeMap<String, Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut versions = BTreeMap::<String, Vec<String>>::new();
    let field = |line: &str, name: &str| Some(line.strip_prefix(name)?.trim_matches('"').to_owned());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = field(line, "name = ") {
            let version = lines.next().and_then(|line| field(line, "version = "));
            versions.entry(name).or_default().extend(version);
        }
    }
    versions
}

#[test]
fn the_versions_are_those_of_the_product() {
    let (fuzzed, shipped) = (versions("Cargo.lock"), versions("../Cargo.lock"));
    for name in SHARED {
        assert_eq!(fuzzed[name].len(), 1, "{name}");
        assert!(shipped[name].contains(&fuzzed[name][0]), "{name}: {:?}, {:?}", fuzzed[name], shipped[name]);
    }
}
