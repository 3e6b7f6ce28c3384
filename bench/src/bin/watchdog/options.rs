//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::PARTS;
use crate::starts;

pub(crate) struct Options {
    pub(crate) rounds: usize,
    /// How long one subject is loaded in one round.
    pub(crate) span: Duration,
    pub(crate) clients: Vec<usize>,
    pub(crate) subjects: Vec<String>,
    /// Another fwatchdog, for a comparison.
    pub(crate) before: Option<PathBuf>,
    pub(crate) parts: Vec<String>,
}

impl Options {
    pub(crate) fn read(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            rounds: 5,
            span: Duration::from_millis(700),
            clients: vec![1, 4, 32],
            subjects: starts::SUBJECTS.map(str::to_owned).to_vec(),
            before: None,
            parts: Vec::new(),
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} takes a value"));
            match &*arg {
                "--quick" => (options.rounds, options.span) = (3, Duration::from_millis(300)),
                "--rounds" => options.rounds = number(&value()?)?,
                "--seconds" => {
                    let seconds: f64 = number(&value()?)?;
                    options.span = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
                }
                "--clients" => options.clients = value()?.split(',').map(number).collect::<Result<_, _>>()?,
                "--subjects" => options.subjects = value()?.split(',').map(str::to_owned).collect(),
                // From here on it is started in other directories.
                "--before" => {
                    options.before = Some(std::path::absolute(value()?).map_err(|error| error.to_string())?);
                }
                part if PARTS.contains(&part) => options.parts.push(arg),
                _ => return Err(format!("unknown: {arg}")),
            }
        }
        let unknown = options.subjects.iter().find(|name| !starts::SUBJECTS.contains(&name.as_str()));
        if let Some(name) = unknown {
            return Err(format!("unknown subject: {name}, there are {}", starts::SUBJECTS.join(", ")));
        }
        if options.parts.is_empty() {
            options.parts = PARTS.map(str::to_owned).to_vec();
        }
        let is_sound = options.rounds > 0 && !options.span.is_zero() && !options.clients.contains(&0);
        if is_sound { Ok(options) } else { Err("rounds, seconds and clients must be more than 0".to_owned()) }
    }
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("expected a number, got `{text}`"))
}
