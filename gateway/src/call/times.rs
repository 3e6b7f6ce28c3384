//! How long one call may take, and which setting, label or header says so.

use std::time::Duration;

use kit::call;

use crate::failure::TimeLimit;
use crate::function::labels::LABEL_TIMEOUT;

/// How long one call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// Until the answer begins.
    pub(super) answer: TimeLimit,
    /// In all, where the function's label or the caller limits it. Else an answer may stream for ever, with no pause
    /// longer than `idle_timeout`.
    pub(super) total: Option<TimeLimit>,
}

impl Times {
    /// From the setting, the function's label and the caller's header. The label replaces the setting. Of the rest the
    /// shortest counts.
    pub(super) fn new(setting: Duration, label: Option<Duration>, header: Option<Duration>) -> Times {
        let setting = TimeLimit { span: setting, name: "upstream_timeout" };
        let label = label.map(|span| TimeLimit { span, name: LABEL_TIMEOUT });
        let header = header.map(|span| TimeLimit { span, name: call::TIMEOUT });
        let shorter = |a: TimeLimit, b: TimeLimit| if b.span < a.span { b } else { a };
        let total = match (label, header) {
            (Some(label), Some(header)) => Some(shorter(label, header)),
            (one, other) => one.or(other),
        };
        let base = label.unwrap_or(setting);
        Times { answer: total.map_or(base, |total| shorter(base, total)), total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_stands_for_the_setting_and_the_shortest_time_counts() {
        const SETTING: &str = "upstream_timeout";
        let cases = [
            ((None, None), (60, SETTING), None),
            ((Some(90), None), (90, LABEL_TIMEOUT), Some((90, LABEL_TIMEOUT))),
            ((None, Some(5)), (5, call::TIMEOUT), Some((5, call::TIMEOUT))),
            ((None, Some(90)), (60, SETTING), Some((90, call::TIMEOUT))),
            ((Some(90), Some(70)), (70, call::TIMEOUT), Some((70, call::TIMEOUT))),
            ((Some(9), Some(70)), (9, LABEL_TIMEOUT), Some((9, LABEL_TIMEOUT))),
        ];
        let limit = |(seconds, name)| TimeLimit { span: Duration::from_secs(seconds), name };
        for ((label, header), answer, total) in cases {
            let [label, header] = [label, header].map(|seconds| seconds.map(Duration::from_secs));
            let want = Times { answer: limit(answer), total: total.map(limit) };
            assert_eq!(Times::new(Duration::from_secs(60), label, header), want);
        }
    }
}
