//! The metrics page: families in a fixed order, functions by name. The page is made of atomics and of values that
//! the caller hands in.

use std::sync::Arc;

use kit::exposition::{self, Labels, Observed, Value};

use super::histogram::Reading;
use super::series::{FunctionSeries, Gauge, Rejected};
use crate::function::FunctionName;

/// The value of `Content-Type` for the page.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the page is made of.
pub(crate) struct Snapshot<'a> {
    pub(crate) version: &'a str,
    /// The known functions, in any order.
    pub(crate) functions: &'a [(FunctionName, Arc<FunctionSeries>)],
    pub(crate) rejected: &'a Rejected,
    /// Clients' connections by state.
    pub(crate) connections: &'a [(&'static str, usize)],
    /// Workers by state.
    pub(crate) workers: &'a [(&'static str, usize)],
    /// Whether the provider's engine can be reached.
    pub(crate) provider_up: bool,
}

/// Appends the gateway's families to `page`.
pub(crate) fn write(snapshot: &Snapshot<'_>, page: &mut String) {
    let mut functions: Vec<_> =
        snapshot.functions.iter().map(|(name, series)| (name.as_str(), &**series)).collect();
    functions.sort_unstable_by_key(|(name, _)| *name);
    let mut page = Page { text: page, functions: &functions };
    page.invocations();
    page.replicas();
    page.cold_starts();
    page.retries();
    page.gateway(snapshot);
}

const FUNCTION_NAME: &str = "function_name";

struct Page<'a> {
    text: &'a mut String,
    functions: &'a [(&'a str, &'a FunctionSeries)],
}

impl Page<'_> {
    fn invocations(&mut self) {
        let readings: Vec<_> =
            self.functions.iter().map(|(function, series)| (function, series.seconds())).collect();
        let by_code =
            || readings.iter().flat_map(|(function, codes)| codes.iter().map(move |of| (**function, of)));
        let name = "gateway_function_invocation_total";
        self.family(name, "counter", "Invocations by function and by the status that the client got.");
        for (function, (code, reading)) in by_code() {
            self.sample(name, &[(FUNCTION_NAME, function), ("code", &code.to_string())], reading.count);
        }
        // A counter by nature. Its name, which dashboards know, lacks the suffix of one, and only an untyped family may
        // have it without being called a mistake.
        let name = "gateway_function_invocation_started";
        self.family(name, "untyped", "Invocations that were begun.");
        for (function, series) in self.functions {
            self.sample(name, &[(FUNCTION_NAME, function)], series.started());
        }
        let name = "gateway_functions_seconds";
        self.family(name, "histogram", "Time from the head of a request to the end of its answer.");
        for (function, (code, reading)) in by_code() {
            self.histogram(name, &[(FUNCTION_NAME, function), ("code", &code.to_string())], reading);
        }
        let help = "Invocations that are being served.";
        self.gauge("gateway_function_inflight", help, |series| &series.inflight);
        let help = "Invocations that wait for a replica or for their turn.";
        self.gauge("gateway_function_waiting", help, |series| &series.waiting);
    }

    fn replicas(&mut self) {
        // A gauge by nature. The suffix is reserved for histograms (which the name, public since 2017,
        // could not know), and only an untyped family may have it without being called a mistake.
        let name = "gateway_service_count";
        self.family(name, "untyped", "Replicas that should run.");
        for (function, series) in self.functions {
            self.sample(name, &[(FUNCTION_NAME, function)], series.wanted.get() as u64);
        }
        self.gauge("gateway_service_ready", "Replicas that can be called.", |series| &series.ready);
    }

    fn cold_starts(&mut self) {
        let name = "gateway_cold_start_seconds";
        self.family(name, "histogram", "Time that calls waited for a first replica.");
        for (function, series) in self.functions {
            if let Some(reading) = series.cold_starts() {
                self.histogram(name, &[(FUNCTION_NAME, function)], &reading);
            }
        }
    }

    fn retries(&mut self) {
        let name = "gateway_upstream_retries_total";
        self.family(name, "counter", "Calls sent to a replica once more, by reason.");
        for (function, series) in self.functions {
            for (reason, count) in series.retries() {
                self.sample(name, &[(FUNCTION_NAME, function), ("reason", reason)], count);
            }
        }
    }

    fn gateway(&mut self, snapshot: &Snapshot<'_>) {
        let name = "gateway_rejected_total";
        self.family(name, "counter", "Requests that reached no function, by reason.");
        for (reason, count) in snapshot.rejected.read() {
            self.sample(name, &[("reason", reason)], count);
        }
        let help = "Connections of clients by state.";
        self.states("gateway_connections", help, snapshot.connections);
        self.states(
            "gateway_workers",
            "Calls that are served (busy) or wait (queued), and worker threads without one (idle).",
            snapshot.workers,
        );
        let name = "gateway_provider_up";
        self.family(name, "gauge", "Whether the provider's engine can be reached.");
        self.sample(name, &[], u64::from(snapshot.provider_up));
        let name = "gateway_build_info";
        self.family(name, "gauge", "Constant 1, with the version.");
        self.sample(name, &[("version", snapshot.version)], 1);
    }

    fn gauge(&mut self, name: &str, help: &str, of: fn(&FunctionSeries) -> &Gauge) {
        self.family(name, "gauge", help);
        for (function, series) in self.functions {
            self.sample(name, &[(FUNCTION_NAME, function)], of(series).get() as u64);
        }
    }

    fn states(&mut self, name: &str, help: &str, states: &[(&str, usize)]) {
        self.family(name, "gauge", help);
        for (state, number) in states {
            self.sample(name, &[("state", state)], *number as u64);
        }
    }

    fn histogram(&mut self, name: &str, labels: Labels<'_>, reading: &Reading) {
        let sum = Value::ShortSeconds(reading.sum);
        let observed = Observed { buckets: &reading.buckets, count: reading.count, sum };
        exposition::histogram(self.text, name, labels, &observed);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        exposition::family(self.text, [name, kind, help]);
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: u64) {
        exposition::sample(self.text, name, labels, Value::Count(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::metrics::series::Retry;
    use std::collections::{HashMap, HashSet};
    use std::time::Duration;

    fn page(version: &str, functions: &[(FunctionName, Arc<FunctionSeries>)]) -> String {
        let rejected = Rejected::default();
        rejected.count(Kind::Http(http1::Refusal::ContentLength));
        rejected.count(Kind::UnknownFunction);
        let mut page = String::new();
        let snapshot = Snapshot {
            version,
            functions,
            rejected: &rejected,
            connections: &[("idle", 5), ("active", 1)],
            workers: &[("busy", 1), ("idle", 0)],
            provider_up: true,
        };
        write(&snapshot, &mut page);
        page
    }

    /// Two functions out of order, one of which was never called.
    fn usual_page() -> String {
        let busy = FunctionSeries::default();
        for (code, ms) in [(502, 10_001), (200, 3), (200, 5), (200, 7), (404, 30)] {
            busy.observe(code, Duration::from_millis(ms));
        }
        busy.observe_cold_start(Duration::from_micros(1_234_567));
        busy.count_retry(Retry::Connect);
        let busy = Arc::new(busy);
        busy.enter();
        for (gauge, value) in [(&busy.wanted, 3), (&busy.ready, 2), (&busy.inflight, 7), (&busy.waiting, 1)] {
            gauge.set(value);
        }
        let name = |text: &str| FunctionName::parse(text.as_bytes()).unwrap();
        page("1.2.3", &[(name("echo"), busy), (name("cat.service_1"), Arc::default())])
    }

    #[test]
    fn the_page_byte_for_byte() {
        let got = usual_page();
        assert!(got == include_str!("page.golden"), "page.golden differs from:\n{got}");
    }

    #[test]
    fn every_family_is_documented() {
        let document = include_str!("../../../docs/metrics.md");
        let page = usual_page();
        let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let missing: Vec<_> = families
            .filter(|family| {
                let (name, kind) = family.split_once(' ').unwrap();
                !document.contains(&format!("| `{name}` | {kind} |"))
            })
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn a_second_parser_reads_the_same() {
        let parsed = Parsed::of(&usual_page());
        let value = |sample: &str| parsed.samples.get(sample).copied().unwrap_or_else(|| panic!("{sample}"));
        assert_eq!(value("gateway_function_invocation_total|function_name=echo|code=200"), 3.0);
        assert_eq!(value("gateway_function_invocation_started|function_name=echo"), 1.0);
        assert_eq!(value("gateway_functions_seconds_bucket|function_name=echo|code=200|le=0.005"), 2.0);
        assert_eq!(value("gateway_functions_seconds_bucket|function_name=echo|code=200|le=+Inf"), 3.0);
        assert_eq!(value("gateway_functions_seconds_sum|function_name=echo|code=502"), 10.001);
        assert_eq!(value("gateway_rejected_total|reason=unknown_function"), 1.0);
        assert_eq!(value("gateway_connections|state=idle"), 5.0);
        assert_eq!(value("gateway_provider_up"), 1.0);
        assert_eq!(parsed.families.len(), 14);
        Parsed::of(&page("1.2.3", &[]));
    }

    #[test]
    fn the_figures_of_the_process_fit_behind_the_page() {
        let mut text = usual_page();
        kit::process::write_metrics(&mut text);
        let parsed = Parsed::of(&text);
        for name in ["process_resident_memory_bytes", "process_start_time_seconds", "process_max_fds"] {
            assert!(parsed.samples[name] > 0.0, "{name}");
        }
    }

    #[test]
    fn labels_survive_the_way_through_the_parser() {
        for version in ["", "a\"b", "a\\b", "a\nb", "\\n\"\\", "é{},="] {
            let sample = format!("gateway_build_info|version={version}");
            assert_eq!(Parsed::of(&page(version, &[])).samples.get(&sample), Some(&1.0), "{version:?}");
        }
    }

    #[test]
    fn promtool_finds_nothing_to_say() {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let promtool = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn();
        let Ok(mut promtool) = promtool else {
            eprintln!("skipped: promtool is not installed");
            return;
        };
        let mut stdin = promtool.stdin.take().unwrap();
        let mut text = usual_page();
        kit::process::write_metrics(&mut text);
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin); // its end is what promtool waits for
        assert!(promtool.wait().unwrap().success());
    }

    /// A page as a strict reader of the format takes it: samples by `name|label=value|…`.
    struct Parsed {
        families: HashMap<String, String>,
        samples: HashMap<String, f64>,
    }

    impl Parsed {
        fn of(text: &str) -> Parsed {
            assert!(text.ends_with('\n'), "the last line must end too");
            let mut page = Parsed { families: HashMap::new(), samples: HashMap::new() };
            let mut family = String::new();
            let mut lines = text.lines();
            while let Some(line) = lines.next() {
                if let Some(help) = line.strip_prefix("# HELP ") {
                    family = help.split_once(' ').expect("a help text").0.to_owned();
                    let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {family} ")));
                    let kind = kind.expect("a type after the help text").to_owned();
                    assert!(["counter", "gauge", "histogram", "untyped"].contains(&kind.as_str()), "{kind}");
                    assert_eq!(page.families.insert(family.clone(), kind), None, "{family} is there twice");
                } else {
                    page.sample(line, &family);
                }
            }
            page.check_histograms();
            page
        }

        fn sample(&mut self, line: &str, family: &str) {
            let end = line.find(['{', ' ']).expect("a name");
            let (name, mut rest) = line.split_at(end);
            let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{name} is not of {family}"));
            let is_histogram = self.families[family] == "histogram";
            assert_eq!(["_bucket", "_sum", "_count"].contains(&suffix), is_histogram, "{line}");
            assert!(is_histogram || suffix.is_empty(), "{line}");
            let mut key = name.to_owned();
            let mut labels = HashSet::new();
            if let Some(inner) = rest.strip_prefix('{') {
                rest = inner;
                loop {
                    let (label, quoted) = rest.split_once("=\"").expect("a label");
                    assert!(label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
                    assert!(labels.insert(label), "{label} is there twice");
                    let (value, after) = unquoted(quoted);
                    key += &format!("|{label}={value}");
                    if let Some(after) = after.strip_prefix('}') {
                        rest = after;
                        break;
                    }
                    rest = after.strip_prefix(',').expect("another label");
                }
            }
            let value =
                rest.strip_prefix(' ').expect("one space before the value").parse().expect("a number");
            assert!(self.samples.insert(key, value).is_none(), "twice: {line}");
        }

        /// Buckets never fall, and the last one is the count.
        fn check_histograms(&self) {
            for (count, number) in &self.samples {
                let Some((name, labels)) = count.split_once("_count|") else {
                    continue;
                };
                if self.families.get(name).is_none_or(|kind| kind != "histogram") {
                    continue;
                }
                let prefix = format!("{name}_bucket|{labels}|le=");
                let buckets = self.samples.iter().filter_map(|(key, count)| {
                    Some((key.strip_prefix(&prefix)?.parse::<f64>().expect("a bound"), *count))
                });
                let mut buckets: Vec<_> = buckets.collect();
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{buckets:?}");
                assert_eq!(buckets.last(), Some(&(f64::INFINITY, *number)), "{count}");
                assert!(self.samples.contains_key(&format!("{name}_sum|{labels}")), "{count}");
            }
        }
    }

    /// The text up to the closing quote without its escapes, and what follows the quote.
    fn unquoted(text: &str) -> (String, &str) {
        let mut value = String::new();
        let mut characters = text.char_indices();
        while let Some((place, character)) = characters.next() {
            match character {
                '"' => return (value, &text[place + 1..]),
                '\\' => match characters.next().expect("something escaped").1 {
                    'n' => value.push('\n'),
                    escaped @ ('\\' | '"') => value.push(escaped),
                    other => panic!("unknown escape {other}"),
                },
                other => value.push(other),
            }
        }
        panic!("no closing quote in {text}");
    }
}
