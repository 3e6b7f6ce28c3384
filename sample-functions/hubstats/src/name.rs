//! The name of an organisation or user, as the Docker Hub allows it in image names.

use std::fmt;

const MIN_NAME_CHARS: usize = 2;
const MAX_NAME_CHARS: usize = 255;

/// How much of an invalid name a message repeats.
const MAX_SHOWN_BYTES: usize = 40;

/// A name that needs no escape in a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(String);

impl Name {
    /// Parses a name with white space around it.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub(crate) fn parse(text: &[u8]) -> Result<Name, String> {
        let text = text.trim_ascii();
        let is_name = (MIN_NAME_CHARS..=MAX_NAME_CHARS).contains(&text.len())
            && text.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        if is_name {
            return Ok(Name(text.iter().copied().map(char::from).collect()));
        }
        let got = match text.len() {
            0 => "nothing".to_owned(),
            length if length > MAX_NAME_CHARS => format!("{length} bytes"),
            _ => format!("`{}`", text[..text.len().min(MAX_SHOWN_BYTES)].escape_ascii()),
        };
        let range = format!("{MIN_NAME_CHARS} to {MAX_NAME_CHARS}");
        Err(format!("expected a name of {range} characters a-z, 0-9, - and _, got {got}"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_names_are_parsed() {
        let longest = "x".repeat(MAX_NAME_CHARS);
        for text in ["alexellis2", " library\n", "a1", "a-b_c", &longest] {
            assert_eq!(Name::parse(text.as_bytes()), Ok(Name(text.trim().to_owned())));
        }
        let too_long = "x".repeat(MAX_NAME_CHARS + 1);
        let cases: [(&[u8], &str); 11] = [
            (b"", "nothing"),
            (b" \n\t", "nothing"),
            (b"a", "`a`"),
            (b"Library", "`Library`"),
            (b"a b", "`a b`"),
            (b"../x", "`../x`"),
            (b"a/b", "`a/b`"),
            (b"a?b=c", "`a?b=c`"),
            (b"a\nb", r"`a\nb`"),
            (b"\xc3\xa9t", r"`\xc3\xa9t`"),
            (too_long.as_bytes(), "256 bytes"),
        ];
        for (text, got) in cases {
            let want = format!("expected a name of 2 to 255 characters a-z, 0-9, - and _, got {got}");
            assert_eq!(Name::parse(text), Err(want));
        }
    }

    #[test]
    fn a_message_repeats_a_bounded_part_of_the_input() {
        let error = Name::parse("X".repeat(MAX_NAME_CHARS).as_bytes()).expect_err("it is no name");
        assert!(error.ends_with(&format!("got `{}`", "X".repeat(MAX_SHOWN_BYTES))), "{error}");
    }
}
