//! The fenced code blocks of a Markdown document, as a reader takes them: commands to paste, and what they print.
//!
//! A block marked `sh` is pasted, and a block marked `text` right behind it is what it prints: line by line, with
//! `…` for anything within a line, and a line of nothing but `…` for any lines. An `sh` block is pasted into
//! another terminal, and goes on there until the next heading of level two, when it follows a line
//! `<!-- goes on: WORDS -->`; WORDS is what it prints once the reader may go on.

use std::fmt::Write as _;

/// Stands for whatever a machine prints differently from the next.
const ANYTHING: &str = "…";

/// What an `sh` block follows that does not end by itself.
const GOES_ON: &str = "<!-- goes on: ";

/// One fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What stands behind the fence: `sh`, `text`, `json`.
    pub language: String,
    /// Its lines, each with its end.
    pub text: String,
    /// The line of its first fence, from 1.
    pub line: usize,
    /// The heading of level two that it stands under; empty above the first.
    pub section: String,
    /// For a block that goes on in another terminal: what it prints once it is ready.
    pub goes_on: Option<String>,
    /// What it prints, where the next block says so.
    pub prints: Option<String>,
}

/// The blocks of a document, in their order. A `text` block behind an `sh` block is in that block's `prints`.
///
/// # Errors
/// A fence that is not closed, or that has no language; the line is named.
pub fn blocks(document: &str) -> Result<Vec<Block>, String> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut section, mut goes_on, mut is_adjacent) = (String::new(), None, false);
    let mut lines = document.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            if let Some(heading) = line.strip_prefix("## ") {
                heading.clone_into(&mut section);
            }
            goes_on =
                line.strip_prefix(GOES_ON).and_then(|rest| rest.strip_suffix(" -->")).map(str::to_owned);
            is_adjacent = is_adjacent && line.is_empty();
            continue;
        };
        if language.is_empty() {
            return Err(format!("line {}: a fence without a language", number + 1));
        }
        let mut text = String::new();
        loop {
            let Some((_, line)) = lines.next() else {
                return Err(format!("line {}: a fence that is not closed", number + 1));
            };
            if line == "```" {
                break;
            }
            let _ = writeln!(text, "{line}"); // a String cannot fail
        }
        match blocks.last_mut() {
            Some(before) if is_adjacent && language == "text" && before.language == "sh" => {
                before.prints = Some(text);
            }
            _ => blocks.push(Block {
                language: language.to_owned(),
                text,
                line: number + 1,
                section: section.clone(),
                goes_on: goes_on.take(),
                prints: None,
            }),
        }
        is_adjacent = true;
    }
    Ok(blocks)
}

/// Checks what was printed against what a document says is printed.
///
/// # Errors
/// The first line that differs, and all that was printed.
pub fn check_output(says: &str, printed: &str) -> Result<(), String> {
    let (wanted, got): (Vec<&str>, Vec<&str>) = (says.lines().collect(), printed.lines().collect());
    if lines_match(&wanted, &got) {
        return Ok(());
    }
    Err(format!("the document says\n{says}but it printed\n{printed}"))
}

fn lines_match(wanted: &[&str], got: &[&str]) -> bool {
    match wanted.split_first() {
        None => got.is_empty(),
        Some((line, rest)) if line.trim() == ANYTHING => {
            (0..=got.len()).any(|skipped| lines_match(rest, &got[skipped..]))
        }
        Some((line, rest)) => got
            .split_first()
            .is_some_and(|(first, others)| line_matches(line, first) && lines_match(rest, others)),
    }
}

fn line_matches(wanted: &str, got: &str) -> bool {
    let mut parts = wanted.trim_end().split(ANYTHING);
    let first = parts.next().unwrap_or_default();
    let Some(mut left) = got.trim_end().strip_prefix(first) else { return false };
    let mut rest: Vec<&str> = parts.collect();
    let Some(last) = rest.pop() else { return left.is_empty() };
    for part in rest {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

/// A script that pastes the `sh` blocks of a document into one shell, in their order: what the n-th prints is in
/// the file `n.out` of the directory `FAAS_OUT`, what it says besides in `n.err`; a block that fails ends it. Blocks
/// that go on run beside it, each until the next heading of level two, and are then told to end (SIGINT) as with
/// Ctrl-C.
#[must_use]
pub fn script(blocks: &[Block]) -> String {
    let mut script = PREAMBLE.to_owned();
    let mut section = "";
    for (number, block) in blocks.iter().enumerate().filter(|(_, block)| block.language == "sh") {
        if block.section != section {
            script.push_str("end_others\n");
            section = &block.section;
        }
        let _ =
            writeln!(script, "say {} {}", block.line, quoted(block.text.lines().next().unwrap_or_default()));
        // A String cannot fail.
        let _ = match &block.goes_on {
            None => writeln!(
                script,
                "{{\n{}}} >\"$FAAS_OUT/{number}.out\" 2>\"$FAAS_OUT/{number}.err\" </dev/null",
                block.text
            ),
            Some(words) => writeln!(
                script,
                "cat >\"$FAAS_OUT/{number}.sh\" <<'END OF BLOCK'\n{}END OF BLOCK\ngoes_on {number} {}",
                block.text,
                quoted(words)
            ),
        };
    }
    script.push_str("end_others\nsay end\n");
    script
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// `others` are the process groups of the other terminals.
const PREAMBLE: &str = r#"set -euo pipefail
others=()
say() { printf '%s\n' "$*" >"$FAAS_OUT/at"; echo "--- line $*" >&2; }
trap 'for other in "${others[@]}"; do kill -KILL -- "-$other" 2>/dev/null; done' EXIT
goes_on() {
    setsid env --default-signal=INT bash "$FAAS_OUT/$1.sh" >"$FAAS_OUT/$1.out" 2>"$FAAS_OUT/$1.err" </dev/null &
    local pid=$! deadline=$((SECONDS + 600))
    others+=("$pid")
    until cat "$FAAS_OUT/$1.out" "$FAAS_OUT/$1.err" 2>/dev/null | grep -qF -- "$2"; do
        kill -0 "$pid" || { echo "it ended by itself" >&2; return 1; }
        [ "$SECONDS" -lt "$deadline" ] || { echo "it never said $2" >&2; return 1; }
        sleep 0.1
    done
}
end_others() {
    local other
    for other in "${others[@]}"; do
        kill -INT -- "-$other"
        wait "$other" || true # how it ends by a signal is its own matter
    done
    others=()
}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# A\n\n```sh\none\n```\n\n```text\n1\n```\n\nText.\n\n## B\n\n<!-- goes on: ready -->\n```sh\n\
                            two\nmore\n```\n\nText.\n\n```text\nnot its output\n```\n\n```json\n{}\n```\n";

    #[test]
    fn blocks_know_where_they_stand() {
        let found = blocks(DOCUMENT).unwrap();
        let short: Vec<_> =
            found.iter().map(|block| (&*block.language, &*block.text, block.line, &*block.section)).collect();
        assert_eq!(
            short,
            [
                ("sh", "one\n", 3, ""),
                ("sh", "two\nmore\n", 16, "B"),
                ("text", "not its output\n", 23, "B"),
                ("json", "{}\n", 27, "B"),
            ]
        );
        assert_eq!(found[0].prints.as_deref(), Some("1\n"));
        assert_eq!(found[1].goes_on.as_deref(), Some("ready"));
        assert!(found[1].prints.is_none() && found[0].goes_on.is_none());
    }

    #[test]
    fn broken_fences_are_told() {
        assert_eq!(blocks("a\n```\nx\n```\n").unwrap_err(), "line 2: a fence without a language");
        assert_eq!(blocks("```sh\nx\n").unwrap_err(), "line 1: a fence that is not closed");
    }

    #[test]
    fn output_is_compared_with_gaps() {
        for (says, printed) in [
            ("a\n", "a\n"),
            ("a … c\n", "a b c\n"),
            ("…\n", ""),
            ("…\nc\n", "a\nb\nc\n"),
            ("a\n…\n", "a\nb\n"),
            ("a…b…c\n", "axxbyyc\n"),
            ("a\n", "a"),
        ] {
            assert_eq!(check_output(says, printed), Ok(()), "{says:?} {printed:?}");
        }
        for (says, printed) in [
            ("a\n", ""),
            ("a\n", "a\nb\n"),
            ("a … c\n", "a b d\n"),
            ("a…b\n", "ab…\n"),
            ("…c\nd\n", "c\n"),
            ("ab…ba\n", "aba\n"),
        ] {
            assert!(check_output(says, printed).is_err(), "{says:?} {printed:?}");
        }
    }

    #[test]
    fn the_script_runs_blocks_in_one_shell_and_others_beside_it() {
        let document = "```sh\ncd /\nwho='a b'\n```\n\n## B\n\n<!-- goes on: ready -->\n```sh\necho ready; sleep 60\n\
                        ```\n\n```sh\npwd; echo \"$who\" # a remark\n```\n";
        let blocks = blocks(document).unwrap();
        let out = tempfile::tempdir().unwrap();
        let shell = crate::Bin::at("bash").arg("-c").arg(script(&blocks)).env("FAAS_OUT", out.path());
        let output = shell.run();
        assert_eq!(output.code(), 0, "{}", output.stderr);
        let read = |name: &str| std::fs::read_to_string(out.path().join(name)).unwrap();
        assert_eq!((read("1.out"), read("2.out")), ("ready\n".to_owned(), "/\na b\n".to_owned()));
    }

    #[test]
    fn a_block_that_fails_ends_the_script() {
        let blocks = blocks("```sh\nfalse\n```\n\n```sh\ntouch \"$FAAS_OUT/reached\"\n```\n").unwrap();
        let out = tempfile::tempdir().unwrap();
        let output = crate::Bin::at("bash").arg("-c").arg(script(&blocks)).env("FAAS_OUT", out.path()).run();
        assert_eq!(output.code(), 1, "{}", output.stderr);
        assert!(!out.path().join("reached").exists());
    }
}
