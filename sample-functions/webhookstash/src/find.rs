//! `find` without options: prints every path below the given ones, one a line.
//!
//! Like the real one, prints symbolic links and does not follow them.

use std::ffi::OsString;
use std::fs::{self, ReadDir};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Wrong arguments.
const USAGE: u8 = 2;

/// Lists the trees below `arguments`, or below `.`.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    if let Some(option) = arguments.iter().find(|argument| is_expression(argument.as_bytes())) {
        let line =
            format!("expected directories to list, got `{}`; options are not supported", option.display());
        complain(&line);
        return ExitCode::from(USAGE);
    }
    let here = [OsString::from(".")];
    let starts = if arguments.is_empty() { &here[..] } else { arguments };
    let mut listing = Listing { output: BufWriter::new(io::stdout().lock()), is_complete: true };
    let listed = starts.iter().try_for_each(|start| listing.tree(Path::new(start)));
    match listed.and_then(|()| listing.output.flush()) {
        Ok(()) if listing.is_complete => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("failed to write STDOUT: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Arguments that find(1) takes for its expression, not for a path.
fn is_expression(argument: &[u8]) -> bool {
    matches!(argument, [b'-', ..] | [b'(' | b')' | b',' | b'!'])
}

struct Listing<W> {
    output: W,
    /// Whether everything could be read so far.
    is_complete: bool,
}

impl<W: Write> Listing<W> {
    /// Prints `start` and all paths below it. Reports unreadable directories and goes on.
    ///
    /// # Errors
    /// When the output cannot be written.
    fn tree(&mut self, start: &Path) -> io::Result<()> {
        match fs::symlink_metadata(start) {
            Ok(metadata) => {
                self.print(start)?;
                let mut open = Vec::new();
                if metadata.is_dir() {
                    open.extend(self.open(start.to_owned()));
                }
                self.below(open)
            }
            Err(error) => {
                self.pass_over(start, &error);
                Ok(())
            }
        }
    }

    /// Walks the `open` directories, the last one first. Holds one descriptor for each level and no names, so
    /// that a directory may have any number of them.
    fn below(&mut self, mut open: Vec<(PathBuf, ReadDir)>) -> io::Result<()> {
        while let Some((directory, entries)) = open.last_mut() {
            let entry = match entries.next() {
                Some(Ok(entry)) => entry,
                Some(Err(error)) => {
                    self.pass_over(directory, &error);
                    open.pop();
                    continue;
                }
                None => {
                    open.pop();
                    continue;
                }
            };
            let path = entry.path();
            self.print(&path)?;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.extend(self.open(path)),
                Ok(_) => {}
                Err(error) => self.pass_over(&path, &error),
            }
        }
        Ok(())
    }

    fn open(&mut self, path: PathBuf) -> Option<(PathBuf, ReadDir)> {
        match fs::read_dir(&path) {
            Ok(entries) => Some((path, entries)),
            Err(error) => {
                self.pass_over(&path, &error);
                None
            }
        }
    }

    /// Writes a path, which is bytes.
    fn print(&mut self, path: &Path) -> io::Result<()> {
        self.output.write_all(path.as_os_str().as_bytes())?;
        self.output.write_all(b"\n")
    }

    fn pass_over(&mut self, path: &Path, error: &io::Error) {
        self.is_complete = false;
        complain(&format!("failed to read `{}`: {error}", path.display()));
    }
}

/// STDERR may have no reader; the exit code tells the failure too.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "find: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_told_from_paths() {
        for argument in ["-name", "-", "--help", "(", ")", ",", "!"] {
            assert!(is_expression(argument.as_bytes()), "{argument}");
        }
        for argument in ["", ".", "a-b", "!a", "(a", "./-name", "a,b"] {
            assert!(!is_expression(argument.as_bytes()), "{argument}");
        }
    }
}
