//! A command line split into words as a shell splits it: blanks, quotes and backslashes. Nothing is
//! expanded, and no character but these is special.

/// The expectation in the message about a refused command line.
pub(crate) const EXPECTED: &str = "a command with its arguments, quoted as for a shell";

/// The words of `line`; `None` where a quote is not closed, a backslash ends the line, the program is missing, or a
/// character could not be read.
pub(crate) fn split(line: &str) -> Option<Vec<String>> {
    if line.contains(['\0', char::REPLACEMENT_CHARACTER]) {
        return None;
    }
    let mut words = Vec::new();
    // A word begins with its first character or quote, so that `''` is a word too.
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => single_quoted(&mut characters, word.get_or_insert_default())?,
            '"' => double_quoted(&mut characters, word.get_or_insert_default())?,
            '\\' => match characters.next()? {
                '\n' => {} // the line goes on
                escaped => word.get_or_insert_default().push(escaped),
            },
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    words.first().is_some_and(|program| !program.is_empty()).then_some(words)
}

/// Everything up to the next quote, as it is.
fn single_quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Option<()> {
    loop {
        match rest.next()? {
            '\'' => return Some(()),
            character => word.push(character),
        }
    }
}

/// A backslash escapes only what is special between double quotes in a shell; else it stands for itself.
fn double_quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Option<()> {
    loop {
        match rest.next()? {
            '"' => return Some(()),
            '\\' => match rest.next()? {
                '\n' => {}
                escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            character => word.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_split_as_in_a_shell() {
        let cases: [(&str, Option<&[&str]>); 21] = [
            ("cat", Some(&["cat"])),
            ("  node\thandler.js \n x", Some(&["node", "handler.js", "x"])),
            ("sh -c 'echo \"$HOME\" \\n'", Some(&["sh", "-c", "echo \"$HOME\" \\n"])),
            ("a \"b 'c' d\" e", Some(&["a", "b 'c' d", "e"])),
            (r#"a "\"\\\$\`\n""#, Some(&["a", r#""\$`\n"#])),
            (r"a\ b c\'d", Some(&["a b", "c'd"])),
            ("a ''", Some(&["a", ""])),
            ("a \"\" b", Some(&["a", "", "b"])),
            ("a'b'\"c\"d", Some(&["abcd"])),
            ("a \\\n b", Some(&["a", "b"])),
            ("a\\\nb \"c\\\nd\"", Some(&["ab", "cd"])),
            ("cat | wc; $(x) *", Some(&["cat", "|", "wc;", "$(x)", "*"])),
            ("grüße 'ä ö'", Some(&["grüße", "ä ö"])),
            ("", None),
            ("  \t", None),
            ("'' a", None),
            ("a 'b", None),
            ("a \"b", None),
            ("a \\", None),
            ("a \"b\\", None),
            ("a\u{fffd}", None),
        ];
        for (line, want) in cases {
            let got = split(line);
            let got: Option<Vec<&str>> = got.as_ref().map(|words| words.iter().map(String::as_str).collect());
            assert_eq!(got.as_deref(), want, "{line:?}");
        }
    }
}
