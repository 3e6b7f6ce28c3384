//! Settings from the environment, read once into typed values.
//!
//! A binary declares its settings in one table ([`Setting`]); `--help`, the documentation test and
//! the defaults all come from that table. [`Reader`] turns names into values and collects nothing: the
//! first value that cannot be read ends the start with one line (variable, value, expectation).

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::duration;

/// The most values of a [list](Reader::list): each of them may be looked at for each request.
pub const MAX_LIST: usize = 64;

/// Where raw values come from: the process environment, or a map in tests.
pub trait Source {
    /// The value of the variable, if it is set. Values that are not UTF-8 are returned lossily, so that
    /// they are refused with their text rather than taken for absent.
    fn value(&self, name: &str) -> Option<String>;
}

/// The environment of this process.
pub struct Environment;

impl Source for Environment {
    #[allow(clippy::disallowed_methods)] // the one place that reads the environment
    fn value(&self, name: &str) -> Option<String> {
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    }
}

/// Every variable of this process's environment, in its own order; what a child inherits.
#[allow(clippy::disallowed_methods)] // the one place that reads the environment
pub fn inherited() -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    std::env::vars_os().collect()
}

impl Source for HashMap<&str, &str> {
    fn value(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| (*value).to_owned())
    }
}

/// One row of a binary's table of settings.
pub struct Setting {
    /// The variable's name, lower case as in the 2017 release.
    pub name: &'static str,
    /// The default in the form a user would write it; empty when there is none.
    pub default: &'static str,
    /// One line for `--help` and the documentation.
    pub help: &'static str,
}

/// Why a value was refused. `Display` is the one line that the user sees.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// The variable.
    pub name: String,
    /// The value as it was found; empty when it is missing.
    pub value: String,
    /// What would have been taken.
    pub expected: String,
}

/// The value stands as it is: whoever prints it escapes control characters, see [`crate::log::one_line`].
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting {}: expected {}, got `{}`", self.name, self.expected, self.value)
    }
}

impl std::error::Error for Refused {}

/// Reads typed values by name; absent means the default from the table.
pub struct Reader<'a> {
    source: &'a dyn Source,
    table: &'static [Setting],
}

impl<'a> Reader<'a> {
    /// A reader of `source` for the settings declared in `table`.
    #[must_use]
    pub fn new(source: &'a dyn Source, table: &'static [Setting]) -> Reader<'a> {
        Reader { source, table }
    }

    /// The raw text of a declared setting, its default where it is not set; `None` where it has neither.
    /// White space around a value is not part of it; an empty value counts as not set.
    ///
    /// # Panics
    /// When `name` is not in the table, which a test of the binary's configuration would see at once.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        let row = self.table.iter().find(|row| row.name == name);
        let default = row.unwrap_or_else(|| panic!("setting {name} is not in the table")).default;
        let value = self.source.value(name).unwrap_or_default();
        let value = if value.trim().is_empty() { default } else { value.trim() };
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// A duration, see [`duration::parse`].
    ///
    /// # Errors
    /// [`Refused`] when the text is not a duration.
    pub fn duration(&self, name: &str) -> Result<Duration, Refused> {
        self.parsed(name, duration::EXPECTED, duration::parse)
    }

    /// `true`, `false`, `1` or `0`.
    ///
    /// # Errors
    /// [`Refused`] for anything else.
    pub fn boolean(&self, name: &str) -> Result<bool, Refused> {
        self.parsed(name, "true, false, 1 or 0", |text| match text {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        })
    }

    /// An integer from `min` to `max`.
    ///
    /// # Errors
    /// [`Refused`] when it is not an integer or out of the range.
    pub fn integer(&self, name: &str, min: u64, max: u64) -> Result<u64, Refused> {
        self.parsed(name, &format!("an integer from {min} to {max}"), |text| {
            digits(text).filter(|number| (min..=max).contains(number))
        })
    }

    /// A number of bytes, plain or with `KiB`, `MiB`, `GiB` (`K`, `M`, `G` mean the same).
    ///
    /// # Errors
    /// [`Refused`] when it is not a size or out of the range.
    pub fn bytes(&self, name: &str, min: u64, max: u64) -> Result<u64, Refused> {
        self.parsed(
            name,
            &format!("a size from {min} to {max} bytes, such as 65536, 64KiB or 1MiB"),
            |text| parse_bytes(text).filter(|number| (min..=max).contains(number)),
        )
    }

    /// One of `choices`, by its place in them.
    ///
    /// # Errors
    /// [`Refused`] when it is none of them.
    pub fn choice(&self, name: &str, choices: &[&str]) -> Result<usize, Refused> {
        self.parsed(name, &format!("one of {}", choices.join(", ")), |text| {
            choices.iter().position(|choice| *choice == text)
        })
    }

    /// Values that `parse` accepts, separated by commas and at most [`MAX_LIST`] of them; none where the setting is not
    /// set. `expected` tells the user what they are.
    ///
    /// # Errors
    /// [`Refused`] when `parse` answers `None` for one of them, or when there are too many.
    pub fn list<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, Refused> {
        self.parsed(name, &format!("{expected}, at most {MAX_LIST}, separated by commas"), |text| {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            let values: Option<Vec<T>> = parts.map(parse).collect();
            values.filter(|values| values.len() <= MAX_LIST)
        })
    }

    /// Any value that `parse` accepts; `expected` tells the user what that is.
    ///
    /// # Errors
    /// [`Refused`] when `parse` answers `None`.
    pub fn parsed<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Refused> {
        let text = self.text(name).unwrap_or_default();
        parse(&text).ok_or_else(|| Refused {
            name: name.to_owned(),
            value: text,
            expected: expected.to_owned(),
        })
    }
}

/// An unsigned decimal without sign or blanks; `str::parse` alone would take `+5`.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn parse_bytes(text: &str) -> Option<u64> {
    let units: [(&str, u64); 6] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("K", 1 << 10),
        ("M", 1 << 20),
        ("G", 1 << 30),
    ];
    let unit = units.iter().find(|(suffix, _)| text.ends_with(suffix));
    let (number, factor) = match unit {
        Some((suffix, factor)) => (&text[..text.len() - suffix.len()], *factor),
        None => (text, 1),
    };
    digits(number)?.checked_mul(factor)
}

/// Whether a document has a table row for every setting, with its default; else what is missing. Rows look
/// like ``| `name` | `default` | …``. For the test that keeps documents and tables together.
///
/// # Errors
/// The rows that are missing.
pub fn check_documented(table: &[Setting], document: &str) -> Result<(), Vec<String>> {
    let row = |setting: &Setting| match setting.default {
        "" => format!("| `{}` | |", setting.name),
        default => format!("| `{}` | `{default}` |", setting.name),
    };
    let missing: Vec<_> = table.iter().map(row).filter(|row| !document.contains(row.as_str())).collect();
    if missing.is_empty() { Ok(()) } else { Err(missing) }
}

/// The text of `--help`: usage, then every setting with its default.
#[must_use]
pub fn help(usage: &str, table: &[Setting]) -> String {
    let width = table.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut text = format!("{usage}\n\nSettings (environment variables):\n");
    for row in table {
        let default = if row.default.is_empty() { String::new() } else { format!(" [{}]", row.default) };
        text.push_str(&format!("  {:width$}  {}{default}\n", row.name, row.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Setting] = &[
        Setting { name: "wait", default: "2s", help: "how long" },
        Setting { name: "count", default: "5", help: "how many" },
        Setting { name: "size", default: "64KiB", help: "how large" },
        Setting { name: "on", default: "false", help: "whether" },
        Setting { name: "file", default: "", help: "where" },
        Setting { name: "mode", default: "fork", help: "which" },
    ];

    fn check<T: PartialEq + fmt::Debug>(
        value: &str,
        want: Result<T, &str>,
        read: impl Fn(&Reader<'_>) -> Result<T, Refused>,
    ) {
        let names = ["wait", "count", "size", "on", "mode"];
        let map: HashMap<&str, &str> = names.iter().map(|name| (*name, value)).collect();
        let got = read(&Reader::new(&map, TABLE)).map_err(|refused| refused.to_string());
        assert_eq!(got, want.map_err(str::to_owned), "{value:?}");
    }

    #[test]
    fn defaults_apply_when_unset_or_blank() {
        let map = HashMap::from([("count", "  ")]);
        let reader = Reader::new(&map, TABLE);
        assert_eq!(reader.duration("wait"), Ok(Duration::from_secs(2)));
        assert_eq!(reader.integer("count", 0, 10), Ok(5));
        assert_eq!(reader.text("file"), None);
    }

    #[test]
    fn integers_keep_to_their_range() {
        let read = |reader: &Reader<'_>| reader.integer("count", 1, 10);
        check("1", Ok(1), read);
        check("10", Ok(10), read);
        check("0", Err("setting count: expected an integer from 1 to 10, got `0`"), read);
        check("11", Err("setting count: expected an integer from 1 to 10, got `11`"), read);
        check("+5", Err("setting count: expected an integer from 1 to 10, got `+5`"), read);
        check("5\n6", Err("setting count: expected an integer from 1 to 10, got `5\n6`"), read);
    }

    #[test]
    fn sizes_take_units() {
        let read = |reader: &Reader<'_>| reader.bytes("size", 0, 1 << 40);
        check("512", Ok(512), read);
        check("64KiB", Ok(65_536), read);
        check("2M", Ok(2 << 20), read);
        check("1GiB", Ok(1 << 30), read);
        let expected = "a size from 0 to 1099511627776 bytes, such as 65536, 64KiB or 1MiB";
        for bad in ["KiB", "-1", "64kb", "99999999999GiB"] {
            check(bad, Err(format!("setting size: expected {expected}, got `{bad}`").as_str()), read);
        }
    }

    #[test]
    fn booleans_and_choices_are_exact() {
        check("true", Ok(true), |reader| reader.boolean("on"));
        check("0", Ok(false), |reader| reader.boolean("on"));
        check("yes", Err("setting on: expected true, false, 1 or 0, got `yes`"), |reader| {
            reader.boolean("on")
        });
        check("http", Ok(1), |reader| reader.choice("mode", &["fork", "http"]));
        check("Fork", Err("setting mode: expected one of fork, http, got `Fork`"), |reader| {
            reader.choice("mode", &["fork", "http"])
        });
    }

    #[test]
    fn lists_are_split_at_commas_and_bounded() {
        let map = HashMap::from([("file", " a, ,b,"), ("mode", "x")]);
        let reader = Reader::new(&map, TABLE);
        let word = |text: &str| (text != "x").then(|| text.to_owned());
        assert_eq!(reader.list("file", "words", word), Ok(vec!["a".to_owned(), "b".to_owned()]));
        let refused = reader.list("mode", "words", word).map_err(|refused| refused.to_string());
        let want = "setting mode: expected words, at most 64, separated by commas, got `x`";
        assert_eq!(refused, Err(want.to_owned()));
        let long = |count: usize| vec!["a"; count].join(",");
        for (count, is_good) in [(MAX_LIST, true), (MAX_LIST + 1, false)] {
            let text = long(count);
            let map = HashMap::from([("file", &*text)]);
            assert_eq!(Reader::new(&map, TABLE).list("file", "words", word).is_ok(), is_good, "{count}");
        }
        assert_eq!(Reader::new(&HashMap::new(), TABLE).list("file", "words", word), Ok(vec![]));
    }

    #[test]
    fn undocumented_settings_are_found() {
        let rows = "| `wait` | `2s` | x |\n| `count` | `5` | x |\n| `size` | `64KiB` | x |\n| `on` | `false` | x |\n";
        assert_eq!(
            check_documented(TABLE, rows),
            Err(vec!["| `file` | |".to_owned(), "| `mode` | `fork` |".to_owned()])
        );
        let all = format!("{rows}| `file` | | x |\n| `mode` | `fork` | x |\n");
        assert_eq!(check_documented(TABLE, &all), Ok(()));
    }

    #[test]
    fn help_lists_every_setting() {
        let text = help("usage: x", TABLE);
        assert!(text.contains("  wait   how long [2s]\n"), "{text}");
        assert!(text.contains("  file   where\n"), "{text}");
    }
}
