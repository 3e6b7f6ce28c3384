//! The Prometheus text format 0.0.4: every metrics page of the binaries is written here.

use std::time::Duration;

use crate::number::{push_decimal, push_seconds, push_short_seconds};

/// The labels of a sample: names and values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// A sample's value.
#[derive(Clone, Copy)]
pub enum Value {
    /// A whole number.
    Count(u64),
    /// Seconds with three or six decimals.
    Seconds(Duration),
    /// Seconds to the nanosecond, without trailing zeros.
    ShortSeconds(Duration),
}

/// What a histogram has observed.
pub struct Observed<'a> {
    /// Ascending upper bounds with the number of observations up to each.
    pub buckets: &'a [(Duration, u64)],
    /// All observations.
    pub count: u64,
    /// The sum of all observations.
    pub sum: Value,
}

impl Value {
    fn push_to(self, page: &mut String) {
        match self {
            Value::Count(number) => push_decimal(page, number, 1),
            Value::Seconds(time) => push_seconds(page, time),
            Value::ShortSeconds(time) => push_short_seconds(page, time),
        }
    }
}

/// Appends the two lines with which a family begins.
pub fn family(page: &mut String, [name, kind, help]: [&str; 3]) {
    push_all(page, &["# HELP ", name, " "]);
    push_escaped(page, help, false);
    push_all(page, &["\n# TYPE ", name, " ", kind, "\n"]);
}

/// Appends a sample. Label values may hold any text.
pub fn sample(page: &mut String, name: &str, labels: Labels<'_>, value: Value) {
    line(page, [name, ""], [labels, &[]], value);
}

/// Appends a family of one sample without labels.
pub fn single(page: &mut String, about: [&str; 3], value: Value) {
    family(page, about);
    sample(page, about[0], &[], value);
}

/// Appends the samples of one histogram.
pub fn histogram(page: &mut String, name: &str, labels: Labels<'_>, observed: &Observed<'_>) {
    let mut bucket = |le: &str, count| {
        line(page, [name, "_bucket"], [labels, &[("le", le)]], Value::Count(count));
    };
    for (bound, count) in observed.buckets {
        let mut le = String::new();
        push_short_seconds(&mut le, *bound);
        bucket(&le, *count);
    }
    bucket("+Inf", observed.count);
    line(page, [name, "_sum"], [labels, &[]], observed.sum);
    line(page, [name, "_count"], [labels, &[]], Value::Count(observed.count));
}

fn line(page: &mut String, name: [&str; 2], labels: [Labels<'_>; 2], value: Value) {
    push_all(page, &name);
    let mut before = "{";
    for (label, text) in labels.into_iter().flatten() {
        push_all(page, &[before, label, "=\""]);
        push_escaped(page, text, true);
        page.push('"');
        before = ",";
    }
    page.push_str(if before == "{" { " " } else { "} " });
    value.push_to(page);
    page.push('\n');
}

fn push_all(page: &mut String, parts: &[&str]) {
    for part in parts {
        page.push_str(part);
    }
}

/// Quotes are escaped in labels only.
fn push_escaped(page: &mut String, text: &str, is_label: bool) {
    for character in text.chars() {
        match character {
            '\\' => page.push_str("\\\\"),
            '\n' => page.push_str("\\n"),
            '"' if is_label => page.push_str("\\\""),
            other => page.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_byte_for_byte() {
        let mut page = String::new();
        single(
            &mut page,
            ["up_seconds", "gauge", "A \"b\"\\\n."],
            Value::Seconds(Duration::from_millis(1500)),
        );
        family(&mut page, ["calls_total", "counter", "Calls."]);
        sample(
            &mut page,
            "calls_total",
            &[("code", "200"), ("name", "a\"b\\\nc{},=\u{e9}")],
            Value::Count(7),
        );
        family(&mut page, ["took", "histogram", "Time."]);
        let ms = Duration::from_millis;
        let buckets = [(ms(5), 1), (ms(1000), 2)];
        let observed = Observed { buckets: &buckets, count: 3, sum: Value::ShortSeconds(ms(2500)) };
        histogram(&mut page, "took", &[("a", "b")], &observed);
        histogram(&mut page, "took", &[], &Observed { buckets: &[], count: 0, sum: Value::Count(0) });
        let want = r#"# HELP up_seconds A "b"\\\n.
# TYPE up_seconds gauge
up_seconds 1.500
# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{code="200",name="a\"b\\\nc{},=é"} 7
# HELP took Time.
# TYPE took histogram
took_bucket{a="b",le="0.005"} 1
took_bucket{a="b",le="1"} 2
took_bucket{a="b",le="+Inf"} 3
took_sum{a="b"} 2.5
took_count{a="b"} 3
took_bucket{le="+Inf"} 0
took_sum 0
took_count 0
"#;
        assert_eq!(page, want);
    }
}
