//! The settings, from the environment.

use std::time::Duration;

const ENV_HUB_URL: &str = "hub_url";
const ENV_HUB_TIMEOUT: &str = "hub_timeout";

const DEFAULT_HUB_URL: &str = "https://hub.docker.com";
const DEFAULT_HUB_TIMEOUT: Duration = Duration::from_secs(10);

/// The gateway does not wait longer by default.
const MAX_HUB_TIMEOUT: Duration = Duration::from_secs(60);

/// The settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Scheme and host of the hub, without a slash at the end.
    pub(crate) hub_url: String,
    /// Time limit of the whole question.
    pub(crate) hub_timeout: Duration,
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// The variable, what was expected and what was found.
    pub(crate) fn read() -> Result<Config, String> {
        Config::from(&variable)
    }

    fn from(variable: &dyn Fn(&str) -> Option<String>) -> Result<Config, String> {
        let url = variable(ENV_HUB_URL).unwrap_or_else(|| DEFAULT_HUB_URL.to_owned());
        let timeout = match variable(ENV_HUB_TIMEOUT) {
            None => DEFAULT_HUB_TIMEOUT,
            Some(text) => duration(&text).ok_or_else(|| {
                let limit = MAX_HUB_TIMEOUT.as_secs();
                format!("{ENV_HUB_TIMEOUT}: expected 1ms to {limit}s as `500ms`, `2s` or `2`, got `{text}`")
            })?,
        };
        Ok(Config { hub_url: base(&url)?, hub_timeout: timeout })
    }
}

#[allow(clippy::disallowed_methods)] // the one place
fn variable(name: &str) -> Option<String> {
    // A value that is not UTF-8 is refused later, not taken for absent.
    let text = std::env::var_os(name)?.to_string_lossy().into_owned();
    (!text.is_empty()).then_some(text)
}

/// `http://HOST` or `https://HOST`, perhaps with a port and a path.
fn base(url: &str) -> Result<String, String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let is_base = rest.is_some_and(|rest| {
        let is_plain =
            rest.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'@'));
        is_plain && !rest.is_empty() && !rest.starts_with(['/', ':'])
    });
    if !is_base {
        return Err(format!("{ENV_HUB_URL}: expected an http or https URL without query, got `{url}`"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// `500ms`, `2s`, or a plain number of seconds.
fn duration(text: &str) -> Option<Duration> {
    let number =
        |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?;
    let span = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(digits), _) => Duration::from_millis(number(digits)?),
        (None, Some(digits)) => Duration::from_secs(number(digits)?),
        (None, None) => Duration::from_secs(number(text)?),
    };
    (!span.is_zero() && span <= MAX_HUB_TIMEOUT).then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: Option<&str>, timeout: Option<&str>) -> Result<Config, String> {
        Config::from(&|name| match name {
            ENV_HUB_URL => url.map(str::to_owned),
            _ => timeout.map(str::to_owned),
        })
    }

    #[test]
    fn urls_that_cannot_be_a_base_are_refused() {
        let good = [
            (None, "https://hub.docker.com"),
            (Some("http://127.0.0.1:1/"), "http://127.0.0.1:1"),
            (Some("https://[::1]:8443"), "https://[::1]:8443"),
            (Some("https://mirror.example/hub/"), "https://mirror.example/hub"),
        ];
        for (url, want) in good {
            assert_eq!(read(url, None).map(|config| config.hub_url).as_deref(), Ok(want));
        }
        for url in [
            "hub.docker.com",
            "ftp://x",
            "https://",
            "http:///x",
            "http://:80",
            "http://a b",
            "http://u@h",
            "http://h?x",
        ] {
            let want = format!("hub_url: expected an http or https URL without query, got `{url}`");
            assert_eq!(read(Some(url), None), Err(want));
        }
    }

    #[test]
    fn timeouts_have_a_lower_and_an_upper_bound() {
        let good =
            [(None, 10_000), (Some("1ms"), 1), (Some("2s"), 2000), (Some("3"), 3000), (Some("60s"), 60_000)];
        for (text, want) in good {
            assert_eq!(read(None, text).map(|config| config.hub_timeout), Ok(Duration::from_millis(want)));
        }
        for text in
            ["0", "0ms", "60001ms", "61", "", "s", "ms", "-1", "+1", "1.5s", "1m", "99999999999999999999s"]
        {
            let error = read(None, Some(text)).expect_err("it is refused");
            assert_eq!(
                error,
                format!("hub_timeout: expected 1ms to 60s as `500ms`, `2s` or `2`, got `{text}`")
            );
        }
    }
}
