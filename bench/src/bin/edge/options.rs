//! The command line.

use std::time::Duration;

use bench::options::{Common, known, list};

use crate::situations::{SITUATIONS, Situation};

/// The subjects that an option may name; the first three are measured by default.
const SUBJECTS: [&str; 4] = ["gateway", "nginx", "haproxy", "before"];

pub(crate) struct Options {
    pub(crate) common: Common,
    pub(crate) situations: Vec<&'static Situation>,
    /// Whether system calls are counted, and nothing else.
    pub(crate) counts_calls: bool,
}

impl Options {
    pub(crate) fn read(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let subjects = SUBJECTS[..3].iter().map(|name| (*name).to_owned()).collect();
        let mut common = Common { rounds: 5, span: Duration::from_secs(2), subjects, before: None };
        let all = SITUATIONS.map(|situation| situation.name);
        let (mut names, mut counts_calls) = (all.map(str::to_owned).to_vec(), false);
        while let Some(arg) = args.next() {
            match &*arg {
                "--quick" => (common.rounds, common.span) = (1, Duration::from_millis(500)),
                "--situations" => names = list(&arg, &mut args)?,
                "--calls" => counts_calls = true,
                _ if common.take(&arg, &mut args)? => {}
                _ => return Err(format!("unknown: {arg}")),
            }
        }
        common.check(&SUBJECTS)?;
        known("situation", &names, &all)?;
        let has_before = common.subjects.iter().any(|name| name == "before");
        match (&common.before, has_before) {
            (None, true) => return Err("the subject `before` needs --before GATEWAY".to_owned()),
            (Some(_), false) => common.subjects.insert(1, "before".to_owned()),
            _ => {}
        }
        let situations =
            SITUATIONS.iter().filter(|situation| names.iter().any(|name| name == situation.name));
        Ok(Options { common, situations: situations.collect(), counts_calls })
    }
}
