//! How long a call may take: what the setting says and what the caller has left.

use std::time::Duration;

use http1::Headers;
use kit::call::{self, TIMEOUT};

/// The setting that limits every call, as [`TimeLimit::name`] has it.
pub(crate) const EXEC_TIMEOUT: &str = "exec_timeout";

/// A limit of a call's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimeLimit {
    /// The setting or the header that says so.
    pub(crate) name: &'static str,
    pub(crate) span: Duration,
}

/// The smaller of the setting and of what the caller has left.
pub(super) fn time_limit(exec_timeout: Duration, headers: Headers<'_>) -> Option<TimeLimit> {
    let own = Some(exec_timeout).filter(|span| !span.is_zero());
    let callers = headers.get(TIMEOUT).and_then(call::time_limit);
    match (own, callers) {
        (Some(own), callers) if callers.is_none_or(|callers| callers >= own) => {
            Some(TimeLimit { name: EXEC_TIMEOUT, span: own })
        }
        (_, callers) => callers.map(|span| TimeLimit { name: TIMEOUT, span }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http1::RequestHead;

    #[test]
    fn the_smaller_time_limit_counts() {
        let ms = Duration::from_millis;
        let cases = [
            (ms(0), "X-A: 1", None),
            (ms(2000), "X-A: 1", Some(("exec_timeout", ms(2000)))),
            (ms(2000), "X-Timeout: 500ms", Some((TIMEOUT, ms(500)))),
            (ms(2000), "x-timeout: 3s", Some(("exec_timeout", ms(2000)))),
            (ms(2000), "X-Timeout: soon", Some(("exec_timeout", ms(2000)))),
            (ms(0), "X-Timeout: 4812ms", Some((TIMEOUT, ms(4812)))),
            (ms(2000), "X-Timeout: 0", Some(("exec_timeout", ms(2000)))),
            (ms(0), "X-Timeout: 0ms", None),
            (ms(0), "X-Timeout: -1s", None),
        ];
        for (setting, field, want) in cases {
            let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n");
            let head = RequestHead::parse(head.into(), 9).unwrap();
            let want = want.map(|(name, span)| TimeLimit { name, span });
            assert_eq!(time_limit(setting, head.headers()), want, "{} {field}", setting.as_millis());
        }
    }
}
