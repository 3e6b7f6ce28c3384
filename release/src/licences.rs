//! The licence texts of packages: those that they bring, or those that `tools/licences` has for them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Package};

/// How the names of licence files begin, whatever their case.
const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// A text and the packages that it belongs to.
#[derive(Debug)]
pub struct Notice {
    /// The text.
    pub text: String,
    /// Each as `name version`.
    pub packages: Vec<String>,
}

/// The texts of all `packages`, each once.
///
/// # Errors
/// When there is none for a package, or a file cannot be read.
pub fn notices(packages: &[Package], our_texts: &Path) -> Result<Vec<Notice>, Error> {
    let mut notices: Vec<Notice> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for package in packages {
        for text in texts(package, our_texts)? {
            let at = *known.entry(text.clone()).or_insert(notices.len());
            if at == notices.len() {
                notices.push(Notice { text, packages: Vec::new() });
            }
            notices[at].packages.push(format!("{} {}", package.name, package.version));
        }
    }
    Ok(notices)
}

/// `LICENCES.txt`: what there is, then every text under the names that it belongs to.
pub fn licences_text(packages: &[Package], notices: &[Notice]) -> String {
    let mut text = "These are the parts of the programs beside this file, and their licences.\n\n".to_owned();
    for package in packages {
        text += &format!("{} {}: {}\n", package.name, package.version, package.licence);
    }
    for notice in notices {
        let rule = "=".repeat(80);
        text += &format!("\n{rule}\n{}\n{rule}\n\n{}\n", notice.packages.join("\n"), notice.text);
    }
    text
}

/// The package's own texts; else that under its name; else those of the licences in its expression.
fn texts(package: &Package, our_texts: &Path) -> Result<Vec<String>, Error> {
    let own = package.folder.as_deref().map_or(Ok(Vec::new()), own_files)?;
    if !own.is_empty() {
        return own.iter().map(|file| read(file)).collect();
    }
    let by_name = our_texts.join(format!("{}.txt", package.name));
    if by_name.exists() {
        return Ok(vec![read(&by_name)?]);
    }
    let expression = spdx::Expression::parse(&package.licence)
        .map_err(|error| Error::failed("read the licence of", &package.name, error))?;
    let file = |requirement: &dyn std::fmt::Display| {
        our_texts.join(format!("{}.txt", requirement.to_string().replace(' ', "_")))
    };
    if !expression.evaluate(|requirement| file(requirement).exists()) {
        let (name, version, licence) = (&package.name, &package.version, &package.licence);
        return Err(Error(format!(
            "expected the licence text of `{name} {version}` ({licence}) in the package or in {}",
            our_texts.display()
        )));
    }
    let files = expression.requirements().map(|asked| file(&asked.req));
    files.filter(|file| file.exists()).map(|file| read(&file)).collect()
}

fn own_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(|error| Error::failed("read", folder.display(), error))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_file() && is_licence(path))
        .collect();
    files.sort();
    Ok(files)
}

fn is_licence(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
    NAMES.iter().any(|known| name.starts_with(known))
}

fn read(file: &Path) -> Result<String, Error> {
    let bytes = fs::read(file).map_err(|error| Error::failed("read", file.display(), error))?;
    Ok(String::from_utf8_lossy(&bytes).replace("\r\n", "\n").trim_matches('\n').to_owned())
}
