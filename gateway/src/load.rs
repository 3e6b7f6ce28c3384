//! The load page: what a gateway tells the other gateways of its service about its calls. The first line names the
//! format and the running gateway, each further line a function, the calls that it has in hand, those that have ended,
//! and the replicas that alerts keep: `resize 12 3456 0`.
//!
//! The page comes from another process, perhaps of another version: what is not exactly this is refused as a whole.

use std::collections::HashMap;
use std::fmt;

use crate::function::FunctionName;

/// The path of the page. No function can have this path.
pub(crate) const PATH: &[u8] = b"/load";

/// The longest page that is read: some 8,000 functions with names of 20 bytes.
pub const MAX_BYTES: usize = 256 * 1024;

const FORMAT: &str = "load 1 ";

/// A running gateway: a random number, so that a gateway that starts again is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance(pub(crate) u64);

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The calls of one function, as one gateway or all others together know them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Calls that are served or wait.
    pub in_flight: u32,
    /// Calls that have ended.
    pub ended: u64,
    /// Replicas that are kept since alerts fire; 0 when none does.
    pub kept: u32,
}

/// A page that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The gateway whose page it is.
    pub instance: Instance,
    /// Its calls, by function.
    pub functions: HashMap<FunctionName, Load>,
}

impl Page {
    /// The page in `text`; `None` when it is anything else.
    pub fn parse(text: &[u8]) -> Option<Page> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= MAX_BYTES)?;
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let instance = instance(lines.next()?.strip_prefix(FORMAT)?)?;
        let mut functions = HashMap::new();
        for line in lines {
            let mut fields = line.split(' ');
            let name = FunctionName::parse(fields.next()?.as_bytes())?;
            let mut next = || number(fields.next()?);
            let (in_flight, ended, kept) = (next()?, next()?, next()?);
            let small = |number: u64| u32::try_from(number).ok();
            let load = Load { in_flight: small(in_flight)?, ended, kept: small(kept)? };
            if fields.next().is_some() || functions.insert(name, load).is_some() {
                return None;
            }
        }
        Some(Page { instance, functions })
    }
}

/// The page's text. Functions that were never called are left out.
pub fn write<'a>(instance: Instance, functions: impl Iterator<Item = (&'a FunctionName, Load)>) -> String {
    let mut text = format!("{FORMAT}{instance}\n");
    for (name, load) in functions.filter(|(_, load)| *load != Load::default()) {
        text += &format!("{name} {} {} {}\n", load.in_flight, load.ended, load.kept);
    }
    text
}

fn instance(text: &str) -> Option<Instance> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_one = text.len() == 16 && text.bytes().all(is_digit);
    is_one.then(|| u64::from_str_radix(text, 16).ok().map(Instance))?
}

/// Digits alone: `parse` would take a sign too.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FunctionName {
        FunctionName::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let functions = [
            (name("echo"), Load { in_flight: 12, ended: 3456, kept: 0 }),
            (name("a.b-c_9"), Load { in_flight: u32::MAX, ended: u64::MAX, kept: u32::MAX }),
            (name("quiet"), Load { ended: 1, ..Load::default() }),
            (name("kept"), Load { kept: 4, ..Load::default() }),
        ];
        let never_called = name("never-called");
        let all = functions.iter().map(|(name, load)| (name, *load));
        let text = write(Instance(0xa1), all.chain([(&never_called, Load::default())]));
        assert_eq!(
            text,
            "load 1 00000000000000a1\necho 12 3456 0\na.b-c_9 4294967295 18446744073709551615 4294967295\n\
             quiet 0 1 0\nkept 0 0 4\n"
        );
        let want = Page { instance: Instance(0xa1), functions: functions.into_iter().collect() };
        assert_eq!(Page::parse(text.as_bytes()), Some(want));
    }

    #[test]
    fn anything_else_is_refused_as_a_whole() {
        let first = "load 1 00000000000000a1\n";
        assert!(Page::parse(first.as_bytes()).is_some_and(|page| page.functions.is_empty()));
        for text in [
            "",
            "\n",
            "load 1 00000000000000a1",
            "load 1 00000000000000A1\n",
            "load 1 0000000000000a1\n",
            "load 1 +0000000000000a1\n",
            "load 2 00000000000000a1\n",
            "Load 1 00000000000000a1\n",
            "load 1 00000000000000a1\r\n",
            "<html>\n",
        ] {
            assert_eq!(Page::parse(text.as_bytes()), None, "{text:?}");
        }
        for line in [
            "",
            "echo",
            "echo 1",
            "echo 1 2",
            "echo 1 2 3 4",
            "echo  1 2 3",
            " echo 1 2 3",
            "echo 1 2 3 ",
            "echo 1 2 3\r",
            "echo -1 2 3",
            "echo +1 2 3",
            "echo 1 +2 3",
            "echo 1.0 2 3",
            "echo 4294967296 2 3",
            "echo 1 18446744073709551616 3",
            "echo 1 2 4294967296",
            ".echo 1 2 3",
            "echo 1 2 3\necho 1 2 3",
        ] {
            assert_eq!(Page::parse(format!("{first}{line}\n").as_bytes()), None, "{line:?}");
        }
        assert_eq!(Page::parse(&[first.as_bytes(), b"\xff 1 2 3\n"].concat()), None);
    }

    #[test]
    fn a_page_at_its_limit_is_read_and_a_longer_one_refused() {
        let mut text = "load 1 00000000000000a1\n".to_owned();
        for number in 0.. {
            let line = format!("f{number} 1 1 0\n");
            if text.len() + line.len() + 30 > MAX_BYTES {
                break;
            }
            text += &line;
        }
        let digits = MAX_BYTES - text.len() - "last 1  0\n".len();
        let at = |digits: usize| format!("{text}last 1 {:0>digits$} 0\n", 1);
        assert_eq!(at(digits).len(), MAX_BYTES);
        assert!(Page::parse(at(digits).as_bytes()).is_some());
        assert_eq!(Page::parse(at(digits + 1).as_bytes()), None);
    }
}
