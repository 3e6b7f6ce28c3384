//! Who may use the control plane: no page of another site, and with a password whoever has it.

use http1::Exchange;

use super::auth::Credentials;
use super::browser;
use super::failure::Failure;

/// What lets requests for `/system` and `/ui` in.
pub(crate) struct Guard {
    /// Whose requests are let in; everybody's where there are none.
    pub(crate) credentials: Option<Credentials>,
    /// The names that a browser may know the gateway by where there is no password.
    pub(crate) trusted_hosts: Vec<String>,
}

impl Guard {
    /// Lets a request for the control plane in, or says why not.
    pub(super) fn admit(&self, exchange: &Exchange<'_>) -> Result<(), Failure> {
        let request = exchange.request();
        let Some(credentials) = &self.credentials else {
            return browser::check(request, Some(&self.trusted_hosts));
        };
        browser::check(request, None)?;
        match credentials.admit(request.headers()) {
            true => Ok(()),
            false => Err(Failure::Unauthorized),
        }
    }
}
