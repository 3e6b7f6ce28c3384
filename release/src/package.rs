//! What is linked into the shipped binaries, as the manifests and `Cargo.lock` say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Node, PackageId};

use crate::Error;

/// The binaries that a release holds.
pub const SHIPPED: [&str; 2] = ["gateway", "fwatchdog"];

/// A part of the shipped binaries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its package URL. No two parts have the same.
    pub purl: String,
    /// Its licence, as an SPDX expression.
    pub licence: String,
    /// Where its own licence texts are, if they came with it.
    pub folder: Option<PathBuf>,
    /// The SHA-256 of what was downloaded.
    pub checksum: Option<String>,
    /// The URLs of what it uses.
    pub uses: BTreeSet<String>,
}

/// The shipped binaries' packages for `target`, themselves included, sorted by name.
///
/// # Errors
/// When `cargo metadata` fails in `root`, or says less than is needed of a package.
pub fn shipped(root: &Path, target: &str) -> Result<Vec<Package>, Error> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .other_options(["--locked", "--filter-platform", target].map(str::to_owned))
        .exec()
        .map_err(|error| Error::failed("read the packages of", root.display(), error))?;
    let resolve = metadata.resolve.as_ref().ok_or_else(|| Error("cargo resolved nothing".to_owned()))?;
    let nodes: BTreeMap<&PackageId, &Node> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut open: Vec<&PackageId> = metadata
        .workspace_packages()
        .into_iter()
        .filter(|package| SHIPPED.contains(&package.name.as_str()))
        .map(|package| &package.id)
        .collect();
    let mut seen: BTreeSet<&PackageId> = open.iter().copied().collect();
    while let Some(id) = open.pop() {
        open.extend(linked(nodes[id]).filter(|used| seen.insert(used)));
    }
    let checksums = checksums(&root.join("Cargo.lock"))?;
    let mut packages = seen
        .iter()
        .map(|id| {
            let mut package = from_metadata(&metadata[*id])?;
            if metadata.workspace_members.contains(id) {
                // Ours: the licence is in the root.
                package.folder = Some(root.to_owned());
            }
            package.checksum = checksums.get(&(package.name.clone(), package.version.clone())).cloned();
            package.uses = linked(nodes[*id]).map(|used| purl(&metadata, used)).collect();
            Ok(package)
        })
        .collect::<Result<Vec<Package>, Error>>()?;
    packages.sort();
    Ok(packages)
}

/// What ends up in the binary: neither what builds nor what tests it.
fn linked(node: &Node) -> impl Iterator<Item = &PackageId> {
    let is_normal = |used: &&cargo_metadata::NodeDep| {
        used.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
    };
    node.deps.iter().filter(is_normal).map(|used| &used.pkg)
}

fn purl(metadata: &Metadata, id: &PackageId) -> String {
    let package = &metadata[id];
    purl_of(package.source.is_some(), &package.name, &package.version.to_string())
}

pub(crate) fn purl_of(is_registry: bool, name: &str, version: &str) -> String {
    // A name of ours may be somebody else's on the registry.
    if is_registry {
        format!("pkg:cargo/{name}@{version}")
    } else {
        format!("pkg:generic/faas/{name}@{version}")
    }
}

/// What the manifest says. The rest is for the caller to fill in.
fn from_metadata(package: &cargo_metadata::Package) -> Result<Package, Error> {
    let (name, version) = (package.name.to_string(), package.version.to_string());
    let declared = package.license.as_deref().unwrap_or_default();
    let licence = canonical(declared).map_err(|error| Error::failed("read the licence of", &name, error))?;
    Ok(Package {
        purl: purl_of(package.source.is_some(), &name, &version),
        licence,
        folder: package.manifest_path.parent().map(|folder| folder.as_std_path().to_owned()),
        checksum: None,
        uses: BTreeSet::new(),
        name,
        version,
    })
}

/// A licence as SPDX spells it; some manifests have `MIT/Apache-2.0`.
pub(crate) fn canonical(declared: &str) -> Result<String, spdx::ParseError> {
    let canonical = spdx::Expression::canonicalize(declared)?.unwrap_or_else(|| declared.to_owned());
    spdx::Expression::parse(&canonical).map(|_| canonical)
}

/// By name and version, for what was downloaded.
pub(crate) fn checksums(lock_file: &Path) -> Result<BTreeMap<(String, String), String>, Error> {
    let failed =
        |error: &dyn std::fmt::Display| Error::failed("read the checksums of", lock_file.display(), error);
    let text = fs::read_to_string(lock_file).map_err(|error| failed(&error))?;
    let lock: toml::Table = text.parse().map_err(|error| failed(&error))?;
    let packages = lock.get("package").and_then(toml::Value::as_array).map_or(&[][..], Vec::as_slice);
    let text_of = |package: &toml::Value, key: &str| Some(package.get(key)?.as_str()?.to_owned());
    Ok(packages
        .iter()
        .filter_map(|package| {
            let key = (text_of(package, "name")?, text_of(package, "version")?);
            Some((key, text_of(package, "checksum")?))
        })
        .collect())
}
