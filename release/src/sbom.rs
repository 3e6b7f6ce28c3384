//! The list of everything inside the shipped binaries, as a CycloneDX document.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{Package, SHIPPED};

/// The document for `packages`, which are those of the release `version` made at `timestamp` (RFC 3339).
pub fn sbom(packages: &[Package], version: &str, timestamp: &str) -> Value {
    let release = format!("pkg:generic/faas@{version}");
    let used: BTreeSet<&String> = packages.iter().flat_map(|package| &package.uses).collect();
    let purls = packages.iter().map(|package| &package.purl);
    // The binaries; and the library and the toolchain's parts, which are in both.
    let direct: Vec<&String> = purls.filter(|purl| !used.contains(purl)).collect();
    let mut uses = vec![json!({ "ref": release, "dependsOn": direct })];
    uses.extend(packages.iter().map(|package| json!({ "ref": package.purl, "dependsOn": package.uses })));
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": timestamp,
            "component": {
                "type": "application",
                "bom-ref": release,
                "name": "faas",
                "version": version,
                "purl": release,
                "licenses": [{ "expression": "MIT" }],
            },
        },
        "components": packages.iter().map(component).collect::<Vec<Value>>(),
        "dependencies": uses,
    })
}

fn component(package: &Package) -> Value {
    let is_binary = SHIPPED.contains(&package.name.as_str());
    let mut component = json!({
        "type": if is_binary { "application" } else { "library" },
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
        "licenses": [{ "expression": package.licence }],
    });
    if let Some(checksum) = &package.checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}
