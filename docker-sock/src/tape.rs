//! A JSON text (RFC 8259) as the list of its values, in the order of the text. Nothing is copied out of the text, and
//! the list is kept for the next one, so that reading many documents allocates next to nothing.

use crate::json::MAX_DEPTH;

/// One value, or the name of a member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    /// Where it is in the text.
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// The index of the node behind it and all that is in it.
    pub(crate) next: u32,
}

/// The values of one text; the first is the text's own.
#[derive(Default)]
pub(crate) struct Tape {
    nodes: Vec<Node>,
}

/// The text is not JSON.
#[derive(Debug)]
pub(crate) struct NotJson;

impl Tape {
    /// Reads a text of less than 4 GiB: one value and white space around it.
    pub(crate) fn read(&mut self, text: &str) -> Result<&[Node], NotJson> {
        self.nodes.clear();
        let mut reader = Reader { text: text.as_bytes(), place: 0, nodes: &mut self.nodes };
        reader.value(0)?;
        reader.skip_space();
        if reader.place == text.len() { Ok(&self.nodes) } else { Err(NotJson) }
    }
}

struct Reader<'a> {
    text: &'a [u8],
    place: usize,
    nodes: &'a mut Vec<Node>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.place).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.place += usize::from(is_next);
        is_next
    }

    fn need(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.take(byte) { Ok(()) } else { Err(NotJson) }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.place += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), NotJson> {
        self.skip_space();
        let own = self.nodes.len();
        self.nodes.push(Node { start: self.place as u32, end: 0, next: 0 });
        match self.peek() {
            Some(b'{') => self.members(depth + 1)?,
            Some(b'[') => self.items(depth + 1)?,
            Some(b'"') => self.string()?,
            Some(b't') => self.word(b"true")?,
            Some(b'f') => self.word(b"false")?,
            Some(b'n') => self.word(b"null")?,
            _ => self.number()?,
        }
        (self.nodes[own].end, self.nodes[own].next) = (self.place as u32, self.nodes.len() as u32);
        Ok(())
    }

    fn members(&mut self, depth: usize) -> Result<(), NotJson> {
        self.open(depth)?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.skip_space();
            let own = self.nodes.len();
            self.nodes.push(Node { start: self.place as u32, end: 0, next: own as u32 + 1 });
            self.string()?;
            self.nodes[own].end = self.place as u32;
            self.skip_space();
            self.need(b':')?;
            self.value(depth)?;
            self.skip_space();
            if !self.take(b',') {
                return self.need(b'}');
            }
        }
    }

    fn items(&mut self, depth: usize) -> Result<(), NotJson> {
        self.open(depth)?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value(depth)?;
            self.skip_space();
            if !self.take(b',') {
                return self.need(b']');
            }
        }
    }

    fn open(&mut self, depth: usize) -> Result<(), NotJson> {
        if depth >= MAX_DEPTH {
            return Err(NotJson);
        }
        self.place += 1;
        self.skip_space();
        Ok(())
    }

    fn string(&mut self) -> Result<(), NotJson> {
        self.need(b'"')?;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.place += escaped(&self.text[self.place..]).ok_or(NotJson)?.1,
                Some(0x20..) => self.place += 1,
                _ => return Err(NotJson),
            }
        }
        self.place += 1;
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), NotJson> {
        let is_it = self.text[self.place..].starts_with(word);
        self.place += word.len();
        if is_it { Ok(()) } else { Err(NotJson) }
    }

    fn number(&mut self) -> Result<(), NotJson> {
        /// So many digits make no number that is too large.
        const SURELY_FINITE: usize = 300;
        let start = self.place;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        let has_exponent = self.take(b'e') || self.take(b'E');
        if has_exponent {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        if has_exponent || self.place - start > SURELY_FINITE {
            let number = std::str::from_utf8(&self.text[start..self.place]).map(str::parse::<f64>);
            return if matches!(number, Ok(Ok(number)) if number.is_finite()) {
                Ok(())
            } else {
                Err(NotJson)
            };
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.place;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.place += 1;
        }
        if self.place > start { Ok(()) } else { Err(NotJson) }
    }
}

/// The character that an escape at the start of `text` means, and the length of the escape.
pub(crate) fn escaped(text: &[u8]) -> Option<(char, usize)> {
    let plain = match text.get(1)? {
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        byte @ (b'"' | b'\\' | b'/') => char::from(*byte),
        b'u' => return unicode(text),
        _ => return None,
    };
    Some((plain, 2))
}

/// One escape `\u0000` to `\uFFFF`, or a surrogate pair of two (RFC 8259 section 7).
fn unicode(text: &[u8]) -> Option<(char, usize)> {
    let unit = |text: &[u8]| {
        let digits = text.get(..6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))
    };
    let first = unit(text)?;
    if !(0xD800..0xDC00).contains(&first) {
        return Some((char::from_u32(first)?, 6));
    }
    let second = unit(&text[6..]).filter(|second| (0xDC00..0xE000).contains(second))?;
    Some((char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))?, 12))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Texts at the edges of the grammar, right and wrong.
    const TEXTS: [&str; 44] = [
        "",
        " ",
        "null",
        "nul",
        "true",
        "truex",
        "false",
        "0",
        "-0",
        "01",
        "-",
        "1.",
        "1.5",
        ".5",
        "1e5",
        "1E-5",
        "1e",
        "1e+",
        "1e400",
        "123456789012345678901234567890",
        "\"\"",
        "\"a",
        "\"\\",
        "\"\\x\"",
        "\"\\u00e4\\n\\/\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"\\ud83dx\"",
        "\"\\ude00\"",
        "\"\t\"",
        "[]",
        "[ ]",
        "[1]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{}",
        "{ }",
        "{\"a\":1}",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\" : [ {\"b\":null} , 2 ] }",
        "{\"a\"}",
        "[[]",
    ];

    fn is_json(text: &str) -> bool {
        Tape::default().read(text).is_ok()
    }

    #[test]
    fn texts_are_json_for_this_reader_exactly_when_they_are_for_serde_json() {
        let document = include_str!("../tests/data/tasks_1_47.json");
        let prefixes = (0..document.len()).filter(|end| document.is_char_boundary(*end));
        let prefixes = prefixes.map(|end| &document[..end]);
        for text in TEXTS.into_iter().chain(prefixes).chain([document]) {
            assert_eq!(is_json(text), serde_json::from_str::<Value>(text).is_ok(), "{text}");
        }
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for depth in [MAX_DEPTH - 1, MAX_DEPTH] {
            assert_eq!(is_json(&deep(depth)), depth < MAX_DEPTH);
            assert_eq!(serde_json::from_str::<Value>(&deep(depth)).is_ok(), depth < MAX_DEPTH);
        }
    }
}
