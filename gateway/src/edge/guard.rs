//! Who may use the control plane: no page of another site and, where there is a password, only clients that send it.
//! Metrics may ask for that password too.

use http1::Exchange;

use super::browser;
use super::guesses::Watch;
use crate::access::Credentials;
use crate::caller::Caller;
use crate::failure::Failure;
use crate::proxies::Proxies;

/// Admits requests for `/system` and `/ui`.
pub(crate) struct Guard {
    /// The user and password that requests must have. `None` admits all.
    credentials: Option<Credentials>,
    /// The names of the gateway that a browser may use where there is no password.
    trusted_hosts: Vec<String>,
    /// Whether metrics ask for the password.
    metrics_auth: bool,
    /// The proxies that are believed about the address of a client.
    proxies: Proxies,
    guesses: Watch,
}

impl Guard {
    pub(crate) fn new(
        credentials: Option<Credentials>,
        trusted_hosts: Vec<String>,
        metrics_auth: bool,
        proxies: Proxies,
    ) -> Guard {
        Guard { credentials, trusted_hosts, metrics_auth, proxies, guesses: Watch::new("basic_auth") }
    }

    /// Admits a request for the control plane.
    ///
    /// # Errors
    /// Why the request is refused.
    pub(super) fn admit(&self, exchange: &Exchange<'_>) -> Result<Caller<'_>, Failure> {
        let names = self.credentials.is_none().then_some(&self.trusted_hosts[..]);
        browser::check(exchange.request(), names)?;
        self.ask_password(exchange)
    }

    /// Admits a request for the metrics.
    ///
    /// # Errors
    /// Why the request is refused.
    pub(super) fn admit_to_metrics(&self, exchange: &Exchange<'_>) -> Result<(), Failure> {
        if self.metrics_auth { self.ask_password(exchange).map(drop) } else { Ok(()) }
    }

    /// Checks the password, if there is one.
    fn ask_password(&self, exchange: &Exchange<'_>) -> Result<Caller<'_>, Failure> {
        let headers = exchange.request().headers();
        let client = self.proxies.client(exchange.peer().ip(), headers);
        let Some(credentials) = &self.credentials else { return Ok(Caller { user: None, client }) };
        // A browser asks once without a password, to be told that there is one.
        if headers.get("authorization").is_none() {
            return Err(Failure::Unauthorized);
        }
        let is_right = credentials.admit(headers);
        if !is_right {
            self.guesses.wrong(&(), client, &"wrong user or password")?;
            return Err(Failure::Unauthorized);
        }
        self.guesses.check(&(), client)?; // after too many wrong passwords a right one does not count
        Ok(Caller { user: Some(credentials.user()), client })
    }
}
