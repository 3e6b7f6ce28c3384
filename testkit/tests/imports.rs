//! Who imports whom: the crates by their `Cargo.toml`, the parts of the gateway by layers, and the files of three crates,
//! which form no circle. ARCHITECTURE.md shows the first two.
//!
//! An import is a path in the source, in a `use` or elsewhere, that leads to an item of another file of the same crate. It
//! counts for the file that defines the item. A re-export is no import: with it, a `mod.rs` is the face of its folder, and
//! a path through the face leads on to the file behind it. Neither `mod name;` nor the name of a module alone is an
//! import. Test modules do not count. A method call without a path is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The crates that are shipped, and the crates of the project that each may depend on.
const CRATES: [(&str, &str); 5] = [
    ("kit", ""),
    ("http1", "kit"),
    ("docker-sock", "http1 kit"),
    ("fwatchdog", "http1 kit"),
    ("gateway", "docker-sock http1 kit"),
];

/// The parts of the gateway, each a folder or file of `src`, from the lowest layer to the highest. A part imports from
/// layers below its own only, so that siblings never import each other.
const LAYERS: [&str; 9] = [
    "alexa authority balance base64 caller digest function kind network",
    "access listen load metrics proxies",
    "config route secrets",
    "failure functions provider",
    "access_log call",
    "control edge scaler",
    "app",
    "lib",
    "main",
];

/// The folders whose files form no circle.
const WITHOUT_CIRCLES: [&str; 3] = ["http1/src/server/", "fwatchdog/src/", "gateway/src/"];

/// Files that still form a circle. An entry whose files form none any more fails.
const CIRCLES: [&[&str]; 3] = [
    &["gateway/src/call/invocation.rs", "gateway/src/call/replicas.rs", "gateway/src/call/stage.rs"],
    &[
        "gateway/src/control/alert.rs",
        "gateway/src/control/answer.rs",
        "gateway/src/control/mod.rs",
        "gateway/src/control/plane.rs",
        "gateway/src/control/route.rs",
        "gateway/src/control/server.rs",
        "gateway/src/control/shapes.rs",
        "gateway/src/control/socket.rs",
        "gateway/src/control/state_dir.rs",
        "gateway/src/control/temporary.rs",
    ],
    &[
        "gateway/src/provider/local/launcher.rs",
        "gateway/src/provider/local/mod.rs",
        "gateway/src/provider/local/replica.rs",
        "gateway/src/provider/local/supervisor.rs",
    ],
];

/// The modules of one crate.
type Crate = BTreeMap<Vec<String>, Module>;

/// Imports between files.
type Imports = BTreeSet<(String, String)>;

#[derive(Default)]
struct Module {
    file: String,
    /// Names that a `use` brings into the module, with their paths.
    names: BTreeMap<String, Vec<String>>,
    /// Paths that are imports when they lead to an item of another file.
    paths: Vec<Vec<String>>,
    /// Modules that are declared for tests only.
    tests: Vec<String>,
}

/// The words of Rust source: identifiers, `::`, and single marks. Comments and literals are left out.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(len) = literal(rest) {
            len
        } else if is_word(first) {
            let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            words.push(rest[..len].to_owned());
            len
        } else {
            let len = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            if !first.is_whitespace() {
                words.push(rest[..len].to_owned());
            }
            len
        };
        rest = &rest[len..];
    }
    words
}

/// The length of the string or character that begins here, if one does.
fn literal(text: &str) -> Option<usize> {
    let bare = text.strip_prefix('b').or_else(|| text.strip_prefix('c')).unwrap_or(text);
    let prefix = text.len() - bare.len();
    if let Some(raw) = bare.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let content = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(text.len() - content.len() + content.find(&end)? + end.len());
    }
    let mark = bare.chars().next().filter(|mark| matches!(mark, '"' | '\''))?;
    let mut chars = bare.char_indices().skip(1);
    // A lifetime is no character: its first letter is not followed by a quote.
    let is_lifetime = mark == '\'' && !bare[1..].starts_with('\\') && bare.chars().nth(2) != Some('\'');
    while let Some((at, found)) = chars.next().filter(|_| !is_lifetime) {
        match found {
            '\\' => drop(chars.next()),
            found if found == mark => return Some(prefix + at + 1),
            _ => {}
        }
    }
    None
}

/// The words without what `#[cfg(test)]` stands before, and the names of the modules among that.
fn without_tests(words: &[String]) -> (Vec<String>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut tests) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < words.len() {
        if !words[at..].iter().map(String::as_str).take(MARK.len()).eq(MARK) {
            kept.push(words[at].clone());
            at += 1;
            continue;
        }
        at += MARK.len();
        let mut depth = 0;
        while let Some(word) = words.get(at) {
            at += 1;
            match word.as_str() {
                "mod" if depth == 0 => tests.extend(words.get(at).cloned()),
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(word.as_str(), "}" | ";") {
                break;
            }
        }
    }
    (kept, tests)
}

/// What one file says.
fn module(file: &str, text: &str) -> Module {
    let (words, tests) = without_tests(&words(text));
    let mut module = Module { file: file.to_owned(), tests, ..Module::default() };
    let mut at = 0;
    while at < words.len() {
        let is_public = at > 0 && matches!(words[at - 1].as_str(), "pub" | ")");
        if words[at] == "use" && words.get(at + 1).is_some_and(|next| next != "<") {
            at += 1;
            tree(&words, &mut at, &[], &mut |path, name| {
                if !is_public {
                    module.paths.push(path.clone());
                }
                module.names.insert(name, path);
            });
            continue;
        }
        let mut path = vec![words[at].clone()];
        at += 1;
        while words.get(at).is_some_and(|word| word == "::")
            && words.get(at + 1).is_some_and(|word| word != "<")
        {
            path.push(words[at + 1].clone());
            at += 2;
        }
        if path.len() > 1 {
            module.paths.push(path);
        }
    }
    module
}

/// Reads a tree of a `use`, and tells each path in it with the name that it gets.
fn tree(words: &[String], at: &mut usize, before: &[String], tell: &mut dyn FnMut(Vec<String>, String)) {
    let mut path = before.to_vec();
    while let Some(word) = words.get(*at) {
        *at += 1;
        match word.as_str() {
            "::" => {}
            "{" => {
                while words.get(*at).is_some_and(|word| word != "}") {
                    tree(words, at, &path, tell);
                    if words.get(*at).is_some_and(|word| word == ",") {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            "," | "}" | ";" => {
                *at -= 1;
                break;
            }
            "as" => {
                tell(path, words[*at].clone());
                *at += 1;
                return;
            }
            "self" if !path.is_empty() => {}
            _ => path.push(word.clone()),
        }
    }
    if let Some(name) = path.last().cloned() {
        tell(path, name);
    }
}

/// The module in which a path's item is defined; `None` for the items of other crates and for modules.
fn defined(modules: &Crate, from: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
    assert!(depth < 32, "names of {from:?} that lead to each other: {path:?}");
    let (first, mut rest) = path.split_first()?;
    let child = [from, std::slice::from_ref(first)].concat();
    let mut at = match first.as_str() {
        "crate" => Vec::new(),
        "self" => from.to_vec(),
        "super" => from[..from.len().checked_sub(1)?].to_vec(),
        _ if modules.contains_key(&child) => child,
        _ => match modules[from].names.get(first).filter(|path| path.first() != Some(first)) {
            Some(before) => return defined(modules, from, &[before, rest].concat(), depth + 1),
            None => return None,
        },
    };
    while let Some((next, behind)) = rest.split_first() {
        let child = [&at[..], std::slice::from_ref(next)].concat();
        if next == "super" {
            at.pop();
        } else if modules.contains_key(&child) {
            at = child;
        } else {
            let through = modules[&at].names.get(next);
            let through = through.map(|path| defined(modules, &at, &[path, behind].concat(), depth + 1));
            return through.unwrap_or(Some(at));
        }
        rest = behind;
    }
    None
}

/// The imports between the files of a crate, given by path from its `src` and content.
fn imports(files: &BTreeMap<String, String>) -> Imports {
    let mut modules = Crate::new();
    for (file, text) in files {
        let name = file.trim_end_matches(".rs").trim_end_matches("/mod");
        let path = if name == "lib" { Vec::new() } else { name.split('/').map(str::to_owned).collect() };
        modules.insert(path, module(file, text));
    }
    let of = |(path, module): (&Vec<String>, &Module)| {
        let child = |name: &String| [&path[..], std::slice::from_ref(name)].concat();
        module.tests.iter().map(child).collect::<Vec<_>>()
    };
    let tests: Vec<_> = modules.iter().flat_map(of).collect();
    modules.retain(|path, _| !tests.iter().any(|test| path.starts_with(test)));
    let mut found = Imports::new();
    for (from, module) in &modules {
        for path in &module.paths {
            if let Some(to) = defined(&modules, from, path, 0).filter(|to| to != from) {
                found.insert((module.file.clone(), modules[&to].file.clone()));
            }
        }
    }
    found
}

/// The files of a crate: path from its `src`, and content.
fn files(of: &str) -> BTreeMap<String, String> {
    let src = testkit::workspace().join(of).join("src");
    let mut files = BTreeMap::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.strip_prefix(&src).unwrap().display().to_string();
                files.insert(file, fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

/// The imports of a crate, with paths from the root of the project.
fn imports_of(name: &str) -> Imports {
    let whole = |file: String| format!("{name}/src/{file}");
    imports(&files(name)).into_iter().map(|(from, to)| (whole(from), whole(to))).collect()
}

/// A part of a crate: the first folder or file below `src`.
fn part(file: &str) -> &str {
    let below = file.split_once("src/").map_or(file, |(_, below)| below);
    below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
}

/// The arrows between parts that do not point to a lower layer, and the parts without a layer.
fn wrong_arrows(imports: &Imports) -> Vec<String> {
    let layer = |file: &str| LAYERS.iter().position(|layer| layer.split(' ').any(|name| name == part(file)));
    let is_wrong = |(from, to): &&(String, String)| {
        part(from) != part(to) && !matches!((layer(from), layer(to)), (Some(from), Some(to)) if from > to)
    };
    imports.iter().filter(is_wrong).map(|(from, to)| format!("{from} imports {to}")).collect()
}

/// A circle of files, if there is one.
fn circle(imports: &Imports) -> Option<Vec<&str>> {
    // A file that imports nothing but files which are in no circle is in none.
    let mut left: BTreeSet<(&str, &str)> =
        imports.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    loop {
        let from: BTreeSet<&str> = left.iter().map(|(from, _)| *from).collect();
        let before = left.len();
        left.retain(|(_, to)| from.contains(to));
        if left.len() == before {
            break;
        }
    }
    let next: BTreeMap<&str, &str> = left.into_iter().collect();
    let mut walked = vec![*next.keys().next()?];
    loop {
        let to = next[walked.last()?];
        if let Some(at) = walked.iter().position(|file| *file == to) {
            walked.push(to);
            return Some(walked.split_off(at));
        }
        walked.push(to);
    }
}

/// A drawing: a line for each node and those that it imports, as ARCHITECTURE.md has it.
fn drawing<'a>(rows: impl Iterator<Item = (&'a str, Vec<&'a str>)>) -> String {
    rows.map(|(from, to)| format!("    {from:<12}→ {}", to.join(" ")).trim_end().to_owned() + "\n").collect()
}

#[track_caller]
fn assert_drawn(drawing: &str) {
    let document = fs::read_to_string(testkit::workspace().join("ARCHITECTURE.md")).unwrap();
    assert!(document.contains(&format!("\n\n{drawing}\n")), "ARCHITECTURE.md should show:\n{drawing}");
}

#[test]
fn crates_depend_on_lower_ones_as_drawn() {
    let mut rows = Vec::new();
    for (name, allowed) in CRATES {
        let manifest =
            fs::read_to_string(testkit::workspace().join(Path::new(name)).join("Cargo.toml")).unwrap();
        let (_, list) = manifest.split_once("\n[dependencies]\n").unwrap();
        let list = list.split("\n[").next().unwrap();
        let is_needed =
            |other: &&str| list.lines().any(|line| line.starts_with(&format!("{other}.workspace")));
        let found: Vec<&str> = CRATES.iter().map(|(other, _)| *other).filter(is_needed).collect();
        let mut allowed: Vec<&str> = allowed.split_whitespace().collect();
        allowed.sort_by_key(|other| CRATES.iter().position(|(name, _)| name == other));
        assert_eq!(found, allowed, "{name}");
        rows.push((name, found));
    }
    assert_drawn(&drawing(rows.into_iter().rev()));
}

#[test]
fn parts_of_the_gateway_import_from_lower_layers_as_drawn() {
    let imports = imports_of("gateway");
    let wrong = wrong_arrows(&imports);
    assert!(wrong.is_empty(), "against the layers:\n{}", wrong.join("\n"));
    let mut arrows = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (from, to) in imports.iter().filter(|(from, to)| part(from) != part(to)) {
        arrows.entry(part(from)).or_default().insert(part(to));
    }
    let parts = LAYERS.iter().rev().flat_map(|layer| layer.split(' '));
    let rows = parts.filter_map(|part| Some((part, arrows.get(part)?.iter().copied().collect())));
    assert_drawn(&drawing(rows));
}

#[test]
fn files_form_no_circle() {
    for folder in WITHOUT_CIRCLES {
        let mut imports = imports_of(folder.split('/').next().unwrap());
        imports.retain(|(from, to)| from.starts_with(folder) && to.starts_with(folder));
        assert!(imports.len() > 10, "{folder} was not read");
        for known in CIRCLES.iter().filter(|known| known[0].starts_with(folder)) {
            let is_within =
                |(from, to): &(String, String)| known.contains(&&**from) && known.contains(&&**to);
            let (within, others) = imports.into_iter().partition(is_within);
            imports = others;
            assert!(circle(&within).is_some(), "no circle any more, remove it from the list: {known:?}");
        }
        if let Some(circle) = circle(&imports) {
            panic!("a circle of files:\n{}", circle.join("\nimports "));
        }
    }
}

/// The imports of a crate with these files.
fn read(files: &[(&str, &str)]) -> Vec<String> {
    let files = files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
    imports(&files).into_iter().map(|(from, to)| format!("{from} {to}")).collect()
}

#[test]
fn imports_lead_to_the_file_that_defines_the_item() {
    let (face, part) = ("mod part;\npub(crate) use part::{Part, Other as Else};", "pub struct Part;");
    let files = |user: &'static str| {
        read(&[("lib.rs", "mod a;\nmod user;"), ("a/mod.rs", face), ("a/part.rs", part), ("user.rs", user)])
    };
    for user in [
        "use crate::a::Part;",
        "use super::a::{self, Part as P};",
        "use crate::{a::{Else}};",
        "use crate::a;\nfn f() { a::Part::new() }",
        "fn f(part: &crate::a::Part) {}",
        "fn f<'a>(c: char, part: &'a super::a::part::Part) { c == '\"' }",
    ] {
        assert_eq!(files(user), ["user.rs a/part.rs"], "{user}");
    }
    assert_eq!(files("use crate::a::Defined;"), ["user.rs a/mod.rs"]);
    for user in [
        "use std::fmt;\nuse crate::a;",
        "// use crate::a::Part;\n/* crate::a::Part */ const X: &str = \"crate::a::Part\";",
        "const X: &str = r#\"crate::a::Part\"#;",
        "#[cfg(test)]\nmod tests { use crate::a::Part; fn f() { crate::a::Part } }",
        "#[cfg(test)]\nuse crate::a::Part;",
    ] {
        assert!(files(user).is_empty(), "{user}");
    }
    let of_tests =
        [("lib.rs", "#[cfg(test)]\nmod x;\nmod y;"), ("x.rs", "use crate::y::Y;"), ("y.rs", "struct Y;")];
    assert!(read(&of_tests).is_empty());
}

#[test]
fn circles_and_wrong_arrows_are_found() {
    let arrow = |(from, to): (&str, &str)| (from.to_owned(), to.to_owned());
    let graph = |arrows: &[(&str, &str)]| arrows.iter().copied().map(arrow).collect::<Imports>();
    assert_eq!(circle(&graph(&[("a", "b"), ("a", "c"), ("b", "c")])), None);
    let found = graph(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b"), ("d", "e")]);
    assert_eq!(circle(&found), Some(vec!["b", "c", "d", "b"]));
    let face =
        [("lib.rs", "mod a;"), ("a/mod.rs", "mod b;\nuse b::B;\nstruct A;"), ("a/b.rs", "use super::A;")];
    assert_eq!(read(&face), ["a/b.rs a/mod.rs", "a/mod.rs a/b.rs"], "a face with code of its own is no face");
    for (from, to, is_right) in [
        ("gateway/src/call/mod.rs", "gateway/src/functions/table.rs", true),
        ("gateway/src/edge/a.rs", "gateway/src/edge/b.rs", true),
        ("gateway/src/functions/table.rs", "gateway/src/call/mod.rs", false),
        ("gateway/src/edge/mod.rs", "gateway/src/scaler/mod.rs", false),
        ("gateway/src/new.rs", "gateway/src/kind.rs", false),
    ] {
        assert_eq!(wrong_arrows(&graph(&[(from, to)])).is_empty(), is_right, "{from} {to}");
    }
}
