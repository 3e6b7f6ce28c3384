//! What `make fuzz` does for hours, for some seconds: every seed, the tables of hostile messages, and some
//! thousand changes of them.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use fuzz::{TARGETS, Target};
use testkit::hostile;
use testkit::rng::Rng;

/// Changed inputs for each part: two seconds of it where it is slowest.
const ROUNDS: usize = 20_000;

/// The longest seed: larger ones make every round slow.
const MAX_SEED_BYTES: usize = 8192;

/// The seeds of a part, with their names.
fn seeds(part: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds").join(part);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut seeds: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap_or_else(|e| panic!("{}: {e}", folder.display())).path();
            let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    seeds.sort();
    seeds
}

/// Fails with the input, in a form that can be pasted into a seed.
fn check((part, check): Target, name: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| check(input))).is_err() {
        panic!("{part}, {name}: b\"{}\"", input.escape_ascii());
    }
}

/// Some changes: bytes turned, cut, doubled, or taken from another input.
fn changed(rng: &mut Rng, inputs: &[(String, Vec<u8>)]) -> (String, Vec<u8>) {
    let (name, mut bytes) = rng.choose(inputs).clone();
    for _ in 0..=rng.below(4) {
        let (from, to) = (rng.below(bytes.len() + 1), rng.below(bytes.len() + 1));
        let (from, to) = (from.min(to), from.max(to));
        let short = from..to.min(from + 8);
        match rng.below(6) {
            0 if from < bytes.len() => bytes[from] ^= 1 << rng.below(8),
            1 => bytes.insert(from, *rng.choose(b"\r\n\0\t :;,\"{}[]0159afx/?*\x7f\x80\xff")),
            2 => drop(bytes.drain(short)),
            3 => drop(bytes.drain(from..to)),
            4 => drop(bytes.splice(from..from, bytes[short].to_vec())),
            _ => {
                let (_, other) = rng.choose(inputs);
                let start = rng.below(other.len() + 1);
                let piece = &other[start..other.len().min(start + 1 + rng.below(40))];
                drop(bytes.splice(short, piece.to_vec()));
            }
        }
    }
    (format!("a change of {name}"), bytes)
}

fn check_part(part: &str) {
    let target = *TARGETS.iter().find(|(name, _)| *name == part).expect("it is a part");
    let seeds = seeds(part);
    assert!(seeds.len() >= 20, "{} seeds", seeds.len());
    for (name, bytes) in &seeds {
        assert!(bytes.len() <= MAX_SEED_BYTES, "{name} has {} bytes", bytes.len());
        check(target, name, bytes);
    }
    let mut rng = Rng::from_env();
    for _ in 0..ROUNDS {
        let (name, bytes) = changed(&mut rng, &seeds);
        check(target, &name, &bytes);
    }
}

#[test]
fn heads_of_requests_mean_what_the_rules_say() {
    check_part("request_head");
    for row in hostile::requests("/", hostile::Heads::DEFAULT) {
        check(TARGETS[0], &row.name, &row.bytes);
    }
}

#[test]
fn heads_of_responses_mean_what_the_rules_say() {
    check_part("response_head");
    for row in hostile::answers(hostile::Heads::DEFAULT) {
        check(TARGETS[1], &row.name, &row.bytes);
    }
}

#[test]
fn bodies_in_chunks_end_where_the_rules_say() {
    check_part("chunked");
}

#[test]
fn requests_of_alexa_are_what_json_says() {
    check_part("alexa");
}

#[test]
fn documents_of_the_engine_are_what_json_says() {
    check_part("docker");
}

#[test]
fn header_blocks_of_processes_make_the_head_that_they_say() {
    check_part("cgi_block");
}

#[test]
fn loads_of_other_gateways_are_what_their_lines_say() {
    check_part("load");
}
