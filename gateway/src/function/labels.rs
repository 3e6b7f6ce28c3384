//! The labels of a function, on its service or in the functions file, as typed values.
//!
//! A value that cannot be used is reported and replaced by its default. It is never fatal: a typo on a service must not
//! take a running function away.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kit::duration;

use crate::function::floor::Note;

pub(crate) const LABEL_FUNCTION: &str = "function";
pub(crate) const LABEL_SCALE_MIN: &str = "com.openfaas.scale.min";
pub(crate) const LABEL_SCALE_MAX: &str = "com.openfaas.scale.max";
pub(crate) const LABEL_SCALE_FACTOR: &str = "com.openfaas.scale.factor";
pub(crate) const LABEL_SCALE_TARGET: &str = "com.openfaas.scale.target";
pub(crate) const LABEL_SCALE_ZERO: &str = "com.openfaas.scale.zero";
pub(crate) const LABEL_ZERO_DURATION: &str = "com.openfaas.scale.zero-duration";
pub(crate) const LABEL_PORT: &str = "faas.port";
pub(crate) const LABEL_CONCURRENCY: &str = "faas.concurrency";
pub(crate) const LABEL_TIMEOUT: &str = "faas.timeout";
pub(crate) const LABEL_WAIT: &str = "faas.wait";
pub(crate) const LABEL_AUTH: &str = "faas.auth";
pub(crate) const LABEL_HMAC: &str = "faas.hmac";
/// The gateway writes this label, see [`Note`].
pub(crate) const LABEL_FLOOR: &str = "faas.scale.floor";

const KNOWN: [&str; 14] = [
    LABEL_FUNCTION,
    LABEL_SCALE_MIN,
    LABEL_SCALE_MAX,
    LABEL_SCALE_FACTOR,
    LABEL_SCALE_TARGET,
    LABEL_SCALE_ZERO,
    LABEL_ZERO_DURATION,
    LABEL_PORT,
    LABEL_CONCURRENCY,
    LABEL_TIMEOUT,
    LABEL_WAIT,
    LABEL_AUTH,
    LABEL_HMAC,
    LABEL_FLOOR,
];

/// The form of a secret's name, for messages.
const EXPECTED_SECRET_NAME: &str = "the name of a secret: 1 to 64 letters, digits, `-`, `_` and `.` that begins and ends with a letter or digit";

/// The prefixes of labels for a gateway: this one, and those of platforms that functions may come from.
const OURS: [&str; 3] = ["com.faas.", "com.openfaas.", "faas."];

/// The prefix of labels that are notes for people and tools.
pub(crate) const ANNOTATION: &str = "com.openfaas.annotations.";

/// The most unknown labels of one function that a warning names.
const MAX_UNKNOWN: usize = 8;

/// The most replicas that a label may ask for: far above what a small Swarm can place.
pub(crate) const MAX_REPLICAS: u32 = 1000;

/// The most replicas without a label.
const DEFAULT_MAX: u32 = 20;

/// The most calls at once that a label may name, per replica.
const MAX_CALLS: u32 = 1_000_000;

/// The longest name of a secret (docker secret create).
const MAX_SECRET_NAME_BYTES: usize = 64;

/// The largest step of scaling, in percent of `scale.max`.
const MAX_FACTOR: u32 = 100;

/// What a label demands of callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Nothing: the label is not there.
    #[default]
    Open,
    /// The content of the secret with this name.
    Secret(Arc<str>),
    /// The label's value is no name of a secret: every call is denied.
    Closed,
}

/// The labels that the gateway understands, each with a usable value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Labels {
    /// Whether the service is labelled as a function; `None` without the label.
    pub(crate) function: Option<bool>,
    /// Replicas: at least 1 and not above [`Labels::max`].
    pub(crate) scale_min: Option<u32>,
    pub(crate) scale_max: Option<u32>,
    /// Step of scaling in percent of `scale_max`; 0 switches scaling off.
    pub(crate) scale_factor: u32,
    /// The calls in flight per replica that scaling aims at.
    pub(crate) scale_target: u32,
    /// Whether the function is scaled to zero after `zero_duration` without a call.
    pub(crate) scale_zero: bool,
    pub(crate) zero_duration: Duration,
    /// The port that the function listens on.
    pub(crate) port: u16,
    /// The most calls in flight at each replica; 0 means no limit.
    pub(crate) concurrency: u32,
    /// How long a call may take in all; replaces `upstream_timeout`.
    pub(crate) timeout: Option<Duration>,
    /// Whether a first replica gets calls only after its health check passed. Otherwise it gets calls as soon as it
    /// listens.
    pub(crate) waits_for_health: bool,
    /// The secret with passwords or a token.
    pub(crate) auth: Lock,
    /// The secret with the key of signatures.
    pub(crate) hmac: Lock,
    /// The gateway's note of the last change of replicas.
    pub(crate) floor: Option<Note>,
}

impl Default for Labels {
    fn default() -> Labels {
        Labels {
            function: None,
            scale_min: None,
            scale_max: None,
            scale_factor: 20,
            scale_target: 50,
            scale_zero: false,
            zero_duration: Duration::from_secs(15 * 60),
            port: 8080,
            concurrency: 0,
            timeout: None,
            waits_for_health: false,
            auth: Lock::Open,
            hmac: Lock::Open,
            floor: None,
        }
    }
}

/// A label that is not used. `Display` is one line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    pub(crate) label: String,
    /// The expected and the found value.
    pub(crate) problem: String,
    /// What happens instead.
    instead: &'static str,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "label {}: {}; {}", self.label, self.problem, self.instead)
    }
}

impl Labels {
    /// Reads the labels among `pairs`; of a repeated label the last value counts. There is a warning for each value
    /// that cannot be used, and one warning for all unknown names with a gateway's prefix. Other labels are ignored.
    pub(crate) fn from_map<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> (Labels, Vec<Warning>) {
        let mut values = Values { found: pairs.into_iter().collect(), warnings: Vec::new() };
        let default = Labels::default();
        let mut labels = Labels {
            function: values.boolean(LABEL_FUNCTION),
            scale_min: values.integer(LABEL_SCALE_MIN, 1, MAX_REPLICAS),
            scale_max: values.integer(LABEL_SCALE_MAX, 1, MAX_REPLICAS),
            scale_factor: values.integer(LABEL_SCALE_FACTOR, 0, MAX_FACTOR).unwrap_or(default.scale_factor),
            scale_target: values.integer(LABEL_SCALE_TARGET, 1, MAX_CALLS).unwrap_or(default.scale_target),
            scale_zero: values.boolean(LABEL_SCALE_ZERO).unwrap_or(default.scale_zero),
            zero_duration: values.span(LABEL_ZERO_DURATION).unwrap_or(default.zero_duration),
            port: values.integer(LABEL_PORT, 1, u16::MAX).unwrap_or(default.port),
            concurrency: values.integer(LABEL_CONCURRENCY, 0, MAX_CALLS).unwrap_or(default.concurrency),
            timeout: values.span(LABEL_TIMEOUT),
            waits_for_health: values.waits_for_health().unwrap_or(default.waits_for_health),
            auth: values.lock(LABEL_AUTH),
            hmac: values.lock(LABEL_HMAC),
            floor: values.parsed(LABEL_FLOOR, Note::EXPECTED, Note::parse),
        };
        if let Some(min) = labels.scale_min.filter(|min| *min > labels.max()) {
            let expected = format!("at most {LABEL_SCALE_MAX} ({})", labels.max());
            values.refuse(LABEL_SCALE_MIN, &expected, &min.to_string());
            labels.scale_min = None;
        }
        values.refuse_unknown();
        (labels, values.warnings)
    }

    /// The most replicas that scaling asks for, at least 1.
    pub(crate) fn max(&self) -> u32 {
        self.scale_max.unwrap_or(DEFAULT_MAX)
    }
}

/// The labels of a function, and the warnings so far.
struct Values<'a> {
    found: HashMap<&'a str, &'a str>,
    warnings: Vec<Warning>,
}

impl Values<'_> {
    fn parsed<T>(
        &mut self,
        label: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.found.get(label)?.trim();
        let value = parse(text);
        if value.is_none() {
            let text = text.to_owned();
            self.refuse(label, expected, &text);
        }
        value
    }

    fn refuse(&mut self, label: &'static str, expected: &str, text: &str) {
        let problem = format!("expected {expected}, got `{}`", text.escape_debug());
        let instead = match label {
            LABEL_AUTH | LABEL_HMAC => "nobody can call the function",
            _ => "its default is used",
        };
        self.warnings.push(Warning { label: label.to_owned(), problem, instead });
    }

    fn refuse_unknown(&mut self) {
        let is_ours = |name: &str| {
            let begins = |begin: &&str| name.starts_with(*begin);
            OURS.iter().any(begins) && !begins(&ANNOTATION) && !KNOWN.contains(&name)
        };
        let mut unknown: Vec<_> = self.found.keys().filter(|name| is_ours(name)).collect();
        unknown.sort_unstable();
        let mut names: Vec<_> =
            unknown.iter().take(MAX_UNKNOWN).map(|name| name.escape_debug().to_string()).collect();
        if names.is_empty() {
            return;
        }
        if unknown.len() > names.len() {
            names.push(format!("{} more", unknown.len() - names.len()));
        }
        self.warnings.push(Warning {
            label: names.join(", "),
            problem: format!("is unknown: expected one of {}", KNOWN.join(", ")),
            instead: "it has no effect",
        });
    }

    fn boolean(&mut self, label: &'static str) -> Option<bool> {
        self.parsed(label, "true, false, 1 or 0", |text| match text {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        })
    }

    fn integer<T>(&mut self, label: &'static str, min: T, max: T) -> Option<T>
    where
        T: TryFrom<u64> + PartialOrd + Copy + fmt::Display,
    {
        self.parsed(label, &format!("an integer from {min} to {max}"), |text| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit()); // `parse` alone would take `+5`
            let number = T::try_from(text.parse::<u64>().ok().filter(|_| digits)?).ok()?;
            (min..=max).contains(&number).then_some(number)
        })
    }

    fn waits_for_health(&mut self) -> Option<bool> {
        self.parsed(LABEL_WAIT, "healthy or listening", |text| match text {
            "healthy" => Some(true),
            "listening" => Some(false),
            _ => None,
        })
    }

    /// A value that is no name of a secret closes the function: a default would open it.
    fn lock(&mut self, label: &'static str) -> Lock {
        let Some(text) = self.found.get(label).map(|text| text.trim().to_owned()) else { return Lock::Open };
        if is_secret_name(&text) {
            return Lock::Secret(text.into());
        }
        self.refuse(label, EXPECTED_SECRET_NAME, &text);
        Lock::Closed
    }

    fn span(&mut self, label: &'static str) -> Option<Duration> {
        self.parsed(label, &format!("more than zero: {}", duration::EXPECTED), |text| {
            duration::parse(text).filter(|span| !span.is_zero())
        })
    }
}

/// Whether the text is a valid name of a secret (docker secret create). Such a name cannot leave a directory.
fn is_secret_name(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let ends = is_end(text.bytes().next()) && is_end(text.bytes().next_back());
    ends && text.len() <= MAX_SECRET_NAME_BYTES && text.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The given labels must read like the defaults after `change`, with these warnings.
    fn check(pairs: &[(&str, &str)], warnings: &[&str], change: impl Fn(&mut Labels)) {
        let mut want = Labels::default();
        change(&mut want);
        let (got, said) = Labels::from_map(pairs.iter().copied());
        assert_eq!(got, want, "{pairs:?}");
        assert_eq!(said.iter().map(Warning::to_string).collect::<Vec<_>>(), warnings, "{pairs:?}");
    }

    #[test]
    fn defaults_are_as_documented() {
        check(&[], &[], |labels| {
            *labels = Labels {
                function: None,
                scale_min: None,
                scale_max: None,
                scale_factor: 20,
                scale_target: 50,
                scale_zero: false,
                zero_duration: Duration::from_secs(900),
                port: 8080,
                concurrency: 0,
                timeout: None,
                waits_for_health: false,
                auth: Lock::Open,
                hmac: Lock::Open,
                floor: None,
            };
        });
        check(&[("com.docker.stack.namespace", "x"), ("com.openfaas", "9")], &[], |_| {});
        check(&[("com.openfaas.annotations.topic", "a")], &[], |_| {});
    }

    #[test]
    fn every_label_is_read() {
        let pairs = [
            ("function", "true"),
            ("com.openfaas.scale.min", "2"),
            ("com.openfaas.scale.max", " 5 "),
            ("com.openfaas.scale.factor", "0"),
            ("com.openfaas.scale.target", "7"),
            ("com.openfaas.scale.zero", "1"),
            ("com.openfaas.scale.zero-duration", "1m30s"),
            ("faas.port", "3000"),
            ("faas.concurrency", "100"),
            ("faas.timeout", "5m"),
            ("faas.wait", "healthy"),
            ("faas.auth", "users-1"),
            ("faas.hmac", " github.key_2 "),
            ("faas.scale.floor", "3/4"),
        ];
        check(&pairs, &[], |labels| {
            *labels = Labels {
                function: Some(true),
                scale_min: Some(2),
                scale_max: Some(5),
                scale_factor: 0,
                scale_target: 7,
                scale_zero: true,
                zero_duration: Duration::from_secs(90),
                port: 3000,
                concurrency: 100,
                timeout: Some(Duration::from_secs(300)),
                waits_for_health: true,
                auth: Lock::Secret("users-1".into()),
                hmac: Lock::Secret("github.key_2".into()),
                floor: Some(Note { asked: 3, set: 4 }),
            };
        });
    }

    #[test]
    fn the_label_function_is_true_false_or_missing() {
        check(&[("function", "false")], &[], |labels| labels.function = Some(false));
        check(&[("function", "0")], &[], |labels| labels.function = Some(false));
        check(&[("function", "1")], &[], |labels| labels.function = Some(true));
        let refused = "label function: expected true, false, 1 or 0, got `yes`; its default is used";
        check(&[("function", "yes")], &[refused], |_| {});
    }

    #[test]
    fn values_out_of_range_are_reported_and_replaced_by_defaults() {
        let cases = [
            ("com.openfaas.scale.min", "0", "an integer from 1 to 1000"),
            ("com.openfaas.scale.max", "1001", "an integer from 1 to 1000"),
            ("com.openfaas.scale.max", "+5", "an integer from 1 to 1000"),
            ("com.openfaas.scale.max", "", "an integer from 1 to 1000"),
            ("com.openfaas.scale.max", "-1", "an integer from 1 to 1000"),
            ("com.openfaas.scale.max", "99999999999999999999", "an integer from 1 to 1000"),
            ("com.openfaas.scale.factor", "101", "an integer from 0 to 100"),
            ("com.openfaas.scale.target", "0", "an integer from 1 to 1000000"),
            ("faas.port", "0", "an integer from 1 to 65535"),
            ("faas.port", "65536", "an integer from 1 to 65535"),
            ("faas.concurrency", "1000001", "an integer from 0 to 1000000"),
            ("com.openfaas.scale.zero", "on", "true, false, 1 or 0"),
            ("faas.wait", "running", "healthy or listening"),
        ];
        for (label, value, expected) in cases {
            let warning = format!("label {label}: expected {expected}, got `{value}`; its default is used");
            check(&[(label, value)], &[&warning], |_| {});
        }
        for value in ["0", "5x"] {
            let (labels, warnings) = Labels::from_map([(LABEL_ZERO_DURATION, value)]);
            assert_eq!((labels, warnings.len()), (Labels::default(), 1));
        }
        check(&[("faas.port", "65535")], &[], |labels| labels.port = 65535);
        check(&[("com.openfaas.scale.max", "1000")], &[], |labels| labels.scale_max = Some(1000));
    }

    #[test]
    fn a_label_that_names_no_secret_closes_the_function() {
        let long = "x".repeat(MAX_SECRET_NAME_BYTES);
        for name in ["x", "0", "a.b", "a-_b", &long] {
            check(&[("faas.auth", name)], &[], |labels| labels.auth = Lock::Secret(name.into()));
        }
        let longer = format!("{long}x");
        for name in
            ["", ".", "..", "../x", "a/b", "/etc/passwd", "a b", "-a", "a-", ".a", "a.", "\u{e4}", &longer]
        {
            let warning = format!(
                "label faas.hmac: expected {EXPECTED_SECRET_NAME}, got `{name}`; nobody can call the function"
            );
            check(&[("faas.hmac", name)], &[&warning], |labels| labels.hmac = Lock::Closed);
        }
    }

    #[test]
    fn unknown_names_with_a_gateways_prefix_are_reported() {
        let warning = format!(
            "label com.openfaas.scale.mni: is unknown: expected one of {}; it has no effect",
            KNOWN.join(", ")
        );
        check(
            &[("com.openfaas.scale.mni", "2"), ("com.example.faas.x", ""), ("faas", "")],
            &[&warning],
            |_| {},
        );
        let (_, warnings) = Labels::from_map([("faas.x", "1"), ("faas.port", "0"), ("faas.a", "")]);
        let labels: Vec<_> = warnings.iter().map(|warning| &*warning.label).collect();
        assert_eq!(labels, ["faas.port", "faas.a, faas.x"]);
        let old = [("com.faas.max_replicas", "5"), ("com.openfaas.uid", "1")];
        let (_, warnings) = Labels::from_map(old);
        let labels: Vec<_> = warnings.iter().map(|warning| &*warning.label).collect();
        assert_eq!(labels, ["com.faas.max_replicas, com.openfaas.uid"]);
    }

    #[test]
    fn a_warning_names_a_bounded_number_of_unknown_labels() {
        let names: Vec<_> = (0..MAX_UNKNOWN + 1).map(|number| format!("faas.{number}")).collect();
        let told = |count: usize| {
            let pairs = names[..count].iter().map(|name| (name.as_str(), ""));
            Labels::from_map(pairs).1.remove(0).label
        };
        assert_eq!(told(MAX_UNKNOWN), names[..MAX_UNKNOWN].join(", "));
        assert_eq!(told(MAX_UNKNOWN + 1), format!("{}, 1 more", names[..MAX_UNKNOWN].join(", ")));
    }

    #[test]
    fn the_minimum_stays_below_the_maximum() {
        let warning = "label com.openfaas.scale.min: expected at most com.openfaas.scale.max (20), got `21`; \
                       its default is used";
        check(&[(LABEL_SCALE_MIN, "21")], &[warning], |_| {});
        check(&[(LABEL_SCALE_MIN, "20")], &[], |labels| labels.scale_min = Some(20));
        check(&[(LABEL_SCALE_MIN, "21"), (LABEL_SCALE_MAX, "21")], &[], |labels| {
            labels.scale_min = Some(21);
            labels.scale_max = Some(21);
        });
    }

    #[test]
    fn a_warning_is_one_line() {
        let (_, warnings) = Labels::from_map([(LABEL_PORT, "8080\nforged")]);
        assert!(warnings[0].to_string().contains("`8080\\nforged`"));
    }
}
