//! What the command lines of the measurements have in common.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Options that each measurement takes.
#[derive(Debug, Clone)]
pub struct Common {
    /// `--rounds N`.
    pub rounds: usize,
    /// `--seconds S`: how long one subject is loaded in one round.
    pub span: Duration,
    /// `--subjects NAME,NAME`.
    pub subjects: Vec<String>,
    /// `--before PATH`: an older binary, for a comparison.
    pub before: Option<PathBuf>,
}

impl Common {
    /// Takes `arg` if it is a common option, with its value from `rest`. False for any other option.
    ///
    /// # Errors
    /// When its value is missing or wrong.
    pub fn take(&mut self, arg: &str, rest: &mut dyn Iterator<Item = String>) -> Result<bool, String> {
        match arg {
            "--rounds" => self.rounds = number(arg, rest)?,
            "--seconds" => {
                let seconds: f64 = number(arg, rest)?;
                self.span = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
            }
            "--subjects" => self.subjects = list(arg, rest)?,
            // Absolute: the binary starts in other directories.
            "--before" => {
                let path = std::path::absolute(value(arg, rest)?).map_err(|error| error.to_string())?;
                self.before = Some(path);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Checks the values, once all options are taken. `subjects` are the known ones.
    ///
    /// # Errors
    /// When a value makes no sense.
    pub fn check(&self, subjects: &[&str]) -> Result<(), String> {
        known("subject", &self.subjects, subjects)?;
        if let Some(path) = self.before.as_ref().filter(|path| !path.is_file()) {
            return Err(format!("--before: there is no file {}", path.display()));
        }
        let is_sound = self.rounds > 0 && !self.span.is_zero();
        if is_sound { Ok(()) } else { Err("rounds and seconds must be more than 0".to_owned()) }
    }
}

/// The value that follows `arg`.
///
/// # Errors
/// When no value follows.
pub fn value(arg: &str, rest: &mut dyn Iterator<Item = String>) -> Result<String, String> {
    rest.next().ok_or_else(|| format!("{arg} takes a value"))
}

/// The list with commas that follows `arg`.
///
/// # Errors
/// When nothing follows, or something that cannot be read.
pub fn list<T: FromStr>(arg: &str, rest: &mut dyn Iterator<Item = String>) -> Result<Vec<T>, String> {
    let text = value(arg, rest)?;
    text.split(',').map(|word| word.parse().map_err(|_| format!("{arg}: cannot read `{word}`"))).collect()
}

/// Checks that `all` has each of `names`.
///
/// # Errors
/// When a name is unknown.
pub fn known(what: &str, names: &[String], all: &[&str]) -> Result<(), String> {
    match names.iter().find(|name| !all.contains(&name.as_str())) {
        Some(name) => Err(format!("unknown {what}: {name}, there are {}", all.join(", "))),
        None => Ok(()),
    }
}

/// The number that follows `arg`.
///
/// # Errors
/// When nothing follows, or something that is none.
pub fn number<N: FromStr>(arg: &str, rest: &mut dyn Iterator<Item = String>) -> Result<N, String> {
    let text = value(arg, rest)?;
    text.parse().map_err(|_| format!("{arg}: expected a number, got `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Common, String> {
        let (rounds, span) = (5, Duration::from_secs(1));
        let mut common = Common { rounds, span, subjects: vec!["a".to_owned()], before: None };
        let mut args = line.split_ascii_whitespace().map(str::to_owned);
        while let Some(arg) = args.next() {
            assert!(common.take(&arg, &mut args)?, "{arg}");
        }
        common.check(&["a", "b"])?;
        Ok(common)
    }

    #[test]
    fn options_are_taken_and_checked() {
        let common = read("--rounds 2 --seconds 0.5 --subjects b,a").unwrap();
        assert_eq!((common.rounds, common.span), (2, Duration::from_millis(500)));
        assert_eq!(common.subjects, ["b", "a"]);
        for wrong in ["--rounds", "--rounds x", "--rounds 0", "--seconds -1", "--subjects c", "--before /no"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
