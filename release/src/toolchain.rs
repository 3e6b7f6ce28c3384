//! The parts that no manifest of ours names: Rust's standard library, musl and the unwinder, as they were found
//! by `tools/static.sh`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::BufReader;
use std::path::Path;

use cargo_metadata::{Artifact, Message};

use crate::Error;
use crate::package::{Package, canonical, checksums, purl_of};

/// That of the Rust project, where a manifest of the library declares none.
const LIBRARY_LICENCE: &str = "MIT OR Apache-2.0";

/// `built-with.txt`: a word and its value on each line.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// The triple that the binaries were built for.
    pub target: String,
    rust: String,
    musl: String,
    unwinder: (String, String),
}

impl Toolchain {
    /// Reads what `tools/static.sh` wrote.
    ///
    /// # Errors
    /// When a word is missing.
    pub fn parse(text: &str) -> Result<Toolchain, Error> {
        let find = |word: &str| {
            let mut values = text.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
            values.next_back().filter(|value| !value.is_empty()).map(str::to_owned)
        };
        let value = |word: &str| find(word).ok_or_else(|| Error(format!("expected a line `{word} …`")));
        let unwinder = match find("libunwind") {
            Some(version) => ("libunwind", version),
            None => ("libgcc", value("libgcc")?),
        };
        Ok(Toolchain {
            target: value("target")?,
            rust: value("rust")?,
            musl: value("musl")?,
            unwinder: (unwinder.0.to_owned(), unwinder.1),
        })
    }

    /// The C library and the unwinder.
    pub fn packages(&self) -> Vec<Package> {
        let (unwinder, version) = &self.unwinder;
        let (project, licence) = match unwinder.as_str() {
            "libunwind" => ("llvm", "Apache-2.0 WITH LLVM-exception"),
            _ => ("gcc", "GPL-3.0-or-later WITH GCC-exception-3.1"),
        };
        vec![
            foreign("musl", &self.musl, "MIT", format!("pkg:generic/musl@{}", self.musl)),
            foreign(unwinder, version, licence, format!("pkg:generic/{project}/{unwinder}@{version}")),
        ]
    }
}

/// A part whose licence texts are in `tools/licences`.
fn foreign(name: &str, version: &str, licence: &str, purl: String) -> Package {
    Package {
        name: name.to_owned(),
        version: version.to_owned(),
        purl,
        licence: licence.to_owned(),
        folder: None,
        checksum: None,
        uses: BTreeSet::new(),
    }
}

/// What the build compiled for the target besides `shipped`: the standard library and what it brings along.
///
/// # Errors
/// When the build used other packages of ours than `shipped`, or the messages or manifests cannot be read.
pub fn standard_library(
    messages: &Path,
    toolchain: &Toolchain,
    shipped: &[Package],
) -> Result<Vec<Package>, Error> {
    let failed = |error| Error::failed("read", messages.display(), error);
    let reader = BufReader::new(fs::File::open(messages).map_err(failed)?);
    let mut built = BTreeMap::new();
    for message in Message::parse_stream(reader) {
        match message.map_err(failed)? {
            Message::CompilerArtifact(artifact) if is_for(&artifact, &toolchain.target) => {
                let package = package_of(&artifact)?;
                built.insert(package.purl.clone(), package);
            }
            _ => {}
        }
    }
    for expected in shipped {
        if built.remove(&expected.purl).is_none() {
            return Err(Error(format!("expected a build of `{}`, got one without it", expected.purl)));
        }
    }
    of_the_library(built.into_values().collect(), &toolchain.rust)
}

/// The library's packages, under its name and with their checksums. All that `packages` may hold.
fn of_the_library(mut packages: Vec<Package>, rust: &str) -> Result<Vec<Package>, Error> {
    let std_folder = packages.iter().find(|package| package.name == "std").and_then(|std| std.folder.clone());
    let library = std_folder.and_then(|folder| folder.parent().map(Path::to_owned));
    let library =
        library.ok_or_else(|| Error("expected a build of the standard library: rust-src".to_owned()))?;
    let checksums = checksums(&library.join("Cargo.lock"))?;
    for package in &mut packages {
        package.checksum = checksums.get(&(package.name.clone(), package.version.clone())).cloned();
        let is_inside = package.folder.as_ref().is_some_and(|folder| folder.starts_with(&library));
        if package.checksum.is_none() && !is_inside {
            return Err(Error(format!("`{}` was built, but is not known to be shipped", package.purl)));
        }
        package.licence = package.folder.as_deref().map_or(Ok(String::new()), licence_in)?;
        if package.name == "core" {
            // Its tables of characters, which the manifest does not mention.
            package.licence = format!("({}) AND Unicode-3.0", package.licence);
        }
        if !package.purl.starts_with("pkg:cargo/") {
            // Most carry no version of their own.
            package.version = rust.to_owned();
            package.purl = format!("pkg:generic/rust/{}@{rust}", package.name);
        }
    }
    packages.sort();
    Ok(packages)
}

/// Whether an artifact is part of a binary, not of what builds it.
fn is_for(artifact: &Artifact, target: &str) -> bool {
    artifact.filenames.iter().any(|file| file.components().any(|part| part.as_str() == target))
}

/// As its identifier says: `registry+URL#NAME@VERSION`, or `path+file://FOLDER#VERSION` where NAME is the folder's.
fn package_of(artifact: &Artifact) -> Result<Package, Error> {
    let id = &artifact.package_id.repr;
    let (place, rest) =
        id.rsplit_once('#').ok_or_else(|| Error(format!("expected a package, got `{id}`")))?;
    let folder_name = place.rsplit('/').next().unwrap_or_default();
    let (name, version) = rest.rsplit_once('@').unwrap_or((folder_name, rest));
    Ok(Package {
        folder: artifact.manifest_path.parent().map(|folder| folder.as_std_path().to_owned()),
        ..foreign(name, version, "", purl_of(place.starts_with("registry+"), name, version))
    })
}

/// The licence that a manifest of the library declares. Not all of them are for cargo alone to read.
fn licence_in(folder: &Path) -> Result<String, Error> {
    let manifest = folder.join("Cargo.toml");
    let failed = |error: &dyn std::fmt::Display| Error::failed("read", manifest.display(), error);
    let text = fs::read_to_string(&manifest).map_err(|error| failed(&error))?;
    let table: toml::Table = text.parse().map_err(|error| failed(&error))?;
    let declared = table.get("package").and_then(|package| package.get("license")?.as_str());
    canonical(declared.unwrap_or(LIBRARY_LICENCE)).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT_WITH: &str =
        "target armv7-unknown-linux-musleabihf\nroute debian\nrust 1.2.3\nmusl 1.2.5\nlibgcc 12.2.0\n";

    #[test]
    fn the_unwinder_depends_on_the_route() {
        for (name, text, expected) in [
            ("debian", BUILT_WITH.to_owned(), "pkg:generic/gcc/libgcc@12.2.0"),
            ("rustup", BUILT_WITH.replace("libgcc 12", "libunwind 22"), "pkg:generic/llvm/libunwind@22.2.0"),
        ] {
            let packages = Toolchain::parse(&text).map(|toolchain| toolchain.packages());
            let purls: Vec<String> =
                packages.unwrap_or_default().into_iter().map(|found| found.purl).collect();
            assert_eq!(purls, ["pkg:generic/musl@1.2.5", expected], "{name}");
        }
    }

    #[test]
    fn every_word_is_needed() {
        for word in ["target", "rust", "musl", "libgcc"] {
            let without: Vec<&str> = BUILT_WITH.lines().filter(|line| !line.starts_with(word)).collect();
            let error = Toolchain::parse(&without.join("\n")).map(|_| ()).map_err(|error| error.to_string());
            assert_eq!(error, Err(format!("expected a line `{word} …`")));
        }
    }
}
