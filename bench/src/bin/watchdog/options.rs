//! The command line.

use std::time::Duration;

use bench::options::{Common, list};

use crate::PARTS;
use crate::starts;

pub(crate) struct Options {
    pub(crate) common: Common,
    pub(crate) clients: Vec<usize>,
    pub(crate) parts: Vec<String>,
}

impl Options {
    pub(crate) fn read(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let subjects = starts::SUBJECTS.map(str::to_owned).to_vec();
        let mut common = Common { rounds: 5, span: Duration::from_millis(700), subjects, before: None };
        let (mut clients, mut parts) = (vec![1, 4, 32], Vec::new());
        while let Some(arg) = args.next() {
            match &*arg {
                "--quick" => (common.rounds, common.span) = (3, Duration::from_millis(300)),
                "--clients" => clients = list(&arg, &mut args)?,
                part if PARTS.contains(&part) => parts.push(arg),
                _ if common.take(&arg, &mut args)? => {}
                _ => return Err(format!("unknown: {arg}")),
            }
        }
        common.check(&starts::SUBJECTS)?;
        if parts.is_empty() {
            parts = PARTS.map(str::to_owned).to_vec();
        }
        if clients.contains(&0) {
            return Err("clients must be more than 0".to_owned());
        }
        Ok(Options { common, clients, parts })
    }
}
