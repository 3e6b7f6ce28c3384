//! Who may use the control plane: no page of another site, and with a password whoever has it. Metrics may ask for that
//! password too.

use http1::Exchange;

use super::browser;
use super::guesses::Watch;
use crate::access::Credentials;
use crate::caller::Caller;
use crate::failure::Failure;
use crate::proxies::Proxies;

/// What lets requests for `/system` and `/ui` in.
pub(crate) struct Guard {
    /// Whose requests are let in; everybody's where there are none.
    credentials: Option<Credentials>,
    /// The names that a browser may know the gateway by where there is no password.
    trusted_hosts: Vec<String>,
    /// Whether metrics ask for the password.
    metrics_auth: bool,
    /// Whose word on the address of a client counts.
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

    /// Lets a request for the control plane in, or says why not.
    pub(super) fn admit(&self, exchange: &Exchange<'_>) -> Result<Caller<'_>, Failure> {
        let names = self.credentials.is_none().then_some(&self.trusted_hosts[..]);
        browser::check(exchange.request(), names)?;
        self.ask_password(exchange)
    }

    /// Lets a request for the metrics in, or says why not.
    pub(super) fn admit_to_metrics(&self, exchange: &Exchange<'_>) -> Result<(), Failure> {
        if self.metrics_auth { self.ask_password(exchange).map(drop) } else { Ok(()) }
    }

    /// Looks at the password, if one is asked for.
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
        self.guesses.check(&(), client)?; // even a right one means nothing behind too many wrong ones
        Ok(Caller { user: Some(credentials.user()), client })
    }
}
