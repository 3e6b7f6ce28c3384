//! A second reader of the Prometheus text format 0.0.4, strict where Prometheus is generous: every family
//! has its `# HELP` and `# TYPE`, in one block, without repeated series, histograms add up.

use std::collections::BTreeMap;

/// The labels of one series.
type Labels = BTreeMap<String, String>;

/// A kind of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Any value.
    Gauge,
    /// Any value, under a name that would be a mistake for a gauge.
    Untyped,
    /// `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// One family: what is between a `# HELP` and the next.
#[derive(Clone, Debug)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Its series: name (with `_bucket` and the like), labels, value.
    pub series: Vec<(String, Labels, f64)>,
}

/// A whole exposition.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// The families in their order.
    pub families: Vec<Family>,
}

impl Metrics {
    /// Reads and checks an exposition.
    ///
    /// # Panics
    /// When anything about it is wrong, with the line.
    #[must_use]
    #[track_caller]
    pub fn read(text: &str) -> Metrics {
        Metrics::parse(text).unwrap_or_else(|e| panic!("{e}\nin\n{text}"))
    }

    /// Reads and checks an exposition.
    ///
    /// # Errors
    /// What is wrong, with the line.
    pub fn parse(text: &str) -> Result<Metrics, String> {
        if !text.is_empty() && !text.ends_with('\n') {
            return Err("the last line has no end".to_owned());
        }
        let mut metrics = Metrics::default();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let family = family(rest, lines.next().unwrap_or_default())?;
                if metrics.families.iter().any(|have| have.name == family.name) {
                    return Err(format!("{} comes twice", family.name));
                }
                metrics.families.push(family);
            } else {
                let family =
                    metrics.families.last_mut().ok_or_else(|| format!("`{line}` before any # HELP"))?;
                family.add(line)?;
            }
        }
        metrics
            .families
            .iter()
            .filter(|family| family.kind == Kind::Histogram)
            .try_for_each(Family::adds_up)?;
        Ok(metrics)
    }

    /// The value of the series with exactly these labels.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut all = self.families.iter().flat_map(|family| &family.series);
        all.find(|(have, labels, _)| have == name && *labels == wanted).map(|(_, _, value)| *value)
    }

    /// The sum over all series of a name that have these labels among theirs; 0 when there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let all = self.families.iter().flat_map(|family| &family.series);
        let has =
            |have: &Labels| labels.iter().all(|(name, value)| have.get(*name).is_some_and(|v| v == value));
        all.filter(|(have, labels, _)| have == name && has(labels)).map(|(_, _, value)| value).sum()
    }

    /// A family by its name.
    #[must_use]
    pub fn family(&self, name: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.name == name)
    }
}

fn family(help: &str, type_line: &str) -> Result<Family, String> {
    let (name, text) = help.split_once(' ').ok_or_else(|| format!("# HELP without a text: `{help}`"))?;
    let kind = match type_line.strip_prefix(&format!("# TYPE {name} ")) {
        Some("counter") => Kind::Counter,
        Some("gauge") => Kind::Gauge,
        Some("histogram") => Kind::Histogram,
        Some("untyped") => Kind::Untyped,
        _ => return Err(format!("no # TYPE of {name} after its # HELP, but `{type_line}`")),
    };
    if !is_name(name) || text.trim().is_empty() {
        return Err(format!("# HELP `{help}`"));
    }
    Ok(Family { name: name.to_owned(), kind, series: vec![] })
}

impl Family {
    fn add(&mut self, line: &str) -> Result<(), String> {
        let bad = |what: &str| Err(format!("{what}: `{line}`"));
        let name: String =
            line.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':')).collect();
        let suffix = match (name.strip_prefix(&self.name), self.kind) {
            (Some(suffix @ ("_bucket" | "_sum" | "_count")), Kind::Histogram) => suffix,
            (Some(""), Kind::Counter | Kind::Gauge | Kind::Untyped) => "",
            _ => return bad(&format!("not a series of {}", self.name)),
        };
        let mut rest = &line[name.len()..];
        let labels = if rest.starts_with('{') {
            labels(&mut rest).ok_or(format!("labels: `{line}`"))?
        } else {
            Labels::new()
        };
        let value = match rest.strip_prefix(' ') {
            Some("+Inf") => f64::INFINITY,
            Some("NaN") => f64::NAN,
            Some(text) if !text.contains(' ') => text.parse().map_err(|e| format!("value: {e}: `{line}`"))?,
            _ => return bad("no value after one space"),
        };
        if labels.contains_key("le") != (suffix == "_bucket") {
            return bad("`le` belongs to buckets");
        }
        if !matches!(self.kind, Kind::Gauge | Kind::Untyped) && (value.is_nan() || value < 0.0) {
            return bad("a count below zero");
        }
        if self.series.iter().any(|(have, with, _)| *have == name && *with == labels) {
            return bad("the same series twice");
        }
        self.series.push((name, labels, value));
        Ok(())
    }

    /// Buckets ascend, in `le` and in value, to `+Inf`, which equals the count; there is a sum.
    fn adds_up(&self) -> Result<(), String> {
        let mut groups: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        for (_, labels, value) in self.series.iter().filter(|(name, ..)| name.ends_with("_bucket")) {
            let mut others = labels.clone();
            let le = others.remove("le").unwrap_or_default();
            let bound = if le == "+Inf" {
                f64::INFINITY
            } else {
                le.parse().map_err(|e| format!("le=`{le}`: {e}"))?
            };
            groups.entry(others).or_default().push((bound, *value));
        }
        let one = |suffix: &str, labels: &Labels| {
            let name = format!("{}{suffix}", self.name);
            let found = self.series.iter().find(|(have, with, _)| *have == name && with == labels);
            found.map(|(_, _, value)| *value).ok_or(format!("no {name} of {labels:?}"))
        };
        for (labels, buckets) in &groups {
            let ascend = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
            let last = buckets[buckets.len() - 1]; // a group has at least one
            one("_sum", labels)?;
            if !ascend || last != (f64::INFINITY, one("_count", labels)?) {
                return Err(format!("buckets of {} {labels:?} do not add up: {buckets:?}", self.name));
            }
        }
        let counts = self.series.iter().filter(|(name, ..)| name.ends_with("_count")).count();
        if counts == groups.len() { Ok(()) } else { Err(format!("{} has counts without buckets", self.name)) }
    }
}

/// Takes `{name="value",…}` off the start of `rest`.
fn labels(rest: &mut &str) -> Option<Labels> {
    let mut labels = Labels::new();
    *rest = rest.strip_prefix('{')?;
    loop {
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (place, '"') => break place,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    _ => return None,
                }),
                (_, c) => value.push(c),
            }
        };
        if !is_name(name) || name.contains(':') || labels.insert(name.to_owned(), value).is_some() {
            return None;
        }
        *rest = &after[end + 1..];
        if let Some(after) = rest.strip_prefix('}') {
            *rest = after;
            return Some(labels);
        }
        *rest = rest.strip_prefix(',')?;
    }
}

fn is_name(name: &str) -> bool {
    let is_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    name.starts_with(|c: char| !c.is_ascii_digit()) && name.chars().all(is_char)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
# HELP calls_total Calls so far.
# TYPE calls_total counter
calls_total{code=\"200\",name=\"a\\\"b\\\\c\\nd\"} 5
calls_total{code=\"500\",name=\"x\"} 1.5
# HELP up Whether it is up.
# TYPE up gauge
up -1
# HELP took_seconds How long.
# TYPE took_seconds histogram
took_seconds_bucket{le=\"0.1\"} 1
took_seconds_bucket{le=\"+Inf\"} 2
took_seconds_sum 0.5
took_seconds_count 2
";

    #[test]
    fn values_are_found() {
        let metrics = Metrics::read(GOOD);
        assert_eq!(metrics.value("calls_total", &[("name", "a\"b\\c\nd"), ("code", "200")]), Some(5.0));
        assert_eq!(metrics.value("calls_total", &[("code", "200")]), None);
        assert!((metrics.sum("calls_total", &[]) - 6.5).abs() < 1e-9);
        assert!((metrics.sum("calls_total", &[("code", "500")]) - 1.5).abs() < 1e-9);
        assert_eq!(metrics.value("up", &[]), Some(-1.0));
        assert_eq!(metrics.family("took_seconds").unwrap().kind, Kind::Histogram);
        assert_eq!(metrics.value("took_seconds_bucket", &[("le", "+Inf")]), Some(2.0));
    }

    #[test]
    fn mistakes_are_told() {
        let edits = [
            ("# HELP up Whether it is up.\n", "", "not a series of calls_total"),
            ("# TYPE up gauge\n", "", "no # TYPE of up"),
            ("# TYPE up gauge", "# TYPE up summary", "no # TYPE of up"),
            ("# HELP up Whether it is up.", "# HELP up ", "# HELP"),
            ("up -1\n", "up -1\nup 2\n", "the same series twice"),
            ("up -1\n", "up  -1\n", "value"),
            ("up -1\n", "up -1 1234\n", "no value"),
            ("up -1\n", "down -1\n", "not a series of up"),
            ("} 5\n", "} -5\n", "a count below zero"),
            ("code=\"500\"", "code=\"5\\00\"", "labels"),
            ("code=\"500\"", "code=500", "labels"),
            ("took_seconds_count 2\n", "took_seconds_count 3\n", "do not add up"),
            ("{le=\"0.1\"} 1", "{le=\"0.1\"} 3", "do not add up"),
            ("took_seconds_bucket{le=\"+Inf\"} 2\n", "", "do not add up"),
            ("took_seconds_sum 0.5\n", "", "no took_seconds_sum"),
            ("took_seconds_count 2\n", "took_seconds_count 2", "no end"),
            (
                "# HELP took_seconds How long.\n# TYPE took_seconds",
                "# HELP up x\n# TYPE up",
                "up comes twice",
            ),
        ];
        for (from, to, want) in edits {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let error = Metrics::parse(&text).expect_err(&text);
            assert!(error.contains(want), "{want}: {error}");
        }
    }
}
