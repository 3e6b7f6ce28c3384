//! The one question to the Docker Hub, and its failures.

use std::fmt;
use std::io;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

use crate::config::Config;
use crate::name::Name;

/// Head and body of an answer are about 1 KiB each; the body is a page with one entry.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_BODY_BYTES: u64 = 64 * 1024;

/// The hub has redirected within itself before.
const MAX_REDIRECTS: u32 = 3;

const USER_AGENT: &str = concat!("hubstats/", env!("CARGO_PKG_VERSION"));

/// Why there is no count. The text is for the caller, the cause for the log.
#[derive(Debug)]
pub(crate) enum Error {
    /// The hub cannot be reached, or the connection broke.
    Unreachable(ureq::Error),
    /// The timeout passed.
    Timeout(Duration),
    /// The hub's certificate is not trusted.
    Untrusted(ureq::Error),
    /// The hub limits the rate of requests.
    RateLimited,
    /// The answer has an unexpected status.
    Status(u16),
    /// Too many redirects, or a redirect out of TLS.
    Redirects(ureq::Error),
    /// The answer has no count.
    NoCount(String),
}

impl Error {
    fn from(error: ureq::Error, timeout: Duration) -> Error {
        match error {
            ureq::Error::Timeout(_) => Error::Timeout(timeout),
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) => Error::Untrusted(error),
            // rustls reports the reason of a failed handshake through the socket's errors.
            ureq::Error::Io(ref source) if source.kind() == io::ErrorKind::InvalidData => {
                Error::Untrusted(error)
            }
            ureq::Error::TooManyRedirects
            | ureq::Error::RedirectFailed
            | ureq::Error::RequireHttpsOnly(_) => Error::Redirects(error),
            ureq::Error::BodyExceedsLimit(limit) => Error::NoCount(format!("it is over {limit} bytes")),
            ureq::Error::Protocol(_) | ureq::Error::Http(_) | ureq::Error::LargeResponseHeader(..) => {
                Error::NoCount(error.to_string())
            }
            error => Error::Unreachable(error),
        }
    }

    /// The underlying error.
    pub(crate) fn cause(&self) -> Option<&dyn fmt::Display> {
        match self {
            Error::Unreachable(cause) | Error::Untrusted(cause) | Error::Redirects(cause) => Some(cause),
            Error::NoCount(cause) => Some(cause),
            Error::Timeout(_) | Error::RateLimited | Error::Status(_) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreachable(_) => f.write_str("the Docker hub cannot be reached, see hub_url"),
            Error::Timeout(span) => write!(f, "the Docker hub did not answer within {span:?}"),
            Error::Untrusted(_) => f.write_str("no trusted connection to the Docker hub can be made"),
            Error::RateLimited => f.write_str("the Docker hub limits the rate of requests, try again later"),
            Error::Status(status) => write!(f, "the Docker hub answered with status {status}"),
            Error::Redirects(_) => f.write_str("the Docker hub sent the request elsewhere"),
            Error::NoCount(_) => f.write_str("the Docker hub's answer has no count"),
        }
    }
}

/// The hub at its address.
pub(crate) struct Hub {
    agent: Agent,
    url: String,
    timeout: Duration,
}

impl Hub {
    /// The configured hub, with the compiled-in roots as trust.
    pub(crate) fn new(config: &Config) -> Hub {
        Hub::trusting(config, RootCerts::WebPki)
    }

    fn trusting(config: &Config, roots: RootCerts) -> Hub {
        let tls = TlsConfig::builder().provider(TlsProvider::Rustls).root_certs(roots).build();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect must not leave TLS either.
            .https_only(config.hub_url.starts_with("https://"))
            .tls_config(tls)
            // The environment contains the caller's headers, so proxies named there are not used.
            .proxy(None)
            .max_redirects(MAX_REDIRECTS)
            .max_redirects_will_error(true)
            .max_response_header_size(MAX_HEAD_BYTES)
            .max_idle_connections(0)
            .user_agent(USER_AGENT)
            .accept("application/json")
            // One timeout for all: the name, the connect, TLS, every redirect, the last byte.
            .timeout_global(Some(config.hub_timeout))
            .build()
            .new_agent();
        Hub { agent, url: config.hub_url.clone(), timeout: config.hub_timeout }
    }

    /// How many repositories of `name` are visible; `None` if the hub does not know the name.
    ///
    /// # Errors
    /// When the hub does not answer the question.
    pub(crate) fn count(&self, name: &Name) -> Result<Option<u64>, Error> {
        let failed = |error| Error::from(error, self.timeout);
        let url = format!("{}/v2/repositories/{name}/?page_size=1", self.url);
        let mut response = self.agent.get(url).call().map_err(failed)?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            429 => return Err(Error::RateLimited),
            status => return Err(Error::Status(status)),
        }
        let body = response.body_mut().with_config().limit(MAX_BODY_BYTES).read_to_vec().map_err(failed)?;
        let document: Value =
            serde_json::from_slice(&body).map_err(|error| Error::NoCount(error.to_string()))?;
        let count = document["count"].as_u64();
        count.map(Some).ok_or_else(|| Error::NoCount("expected a whole number in `count`".to_owned()))
    }
}

#[cfg(test)]
mod tests;
