//! Who may call a function that asks for a password or a signature, see [`crate::access`]. A small body that is signed
//! is read and judged before anything is done for its call. Of a larger body the end is held back.

use std::net::IpAddr;
use std::time::SystemTime;

use http1::forward::{Check as _, MAX_KEPT_BYTES, Upload};
use http1::{Exchange, Length};
use kit::Deadline;

use super::Edge;
use super::body::{body_failure, is_longer};
use crate::access::{Denial, Signature};
use crate::failure::Failure;
use crate::functions::Function;
use crate::route::Route;
use crate::{alexa, call};

impl Edge {
    /// Whether a request becomes a call once its body comes. A request for the control plane does not: few of these are
    /// served at a time, and briefly.
    pub(super) fn admits(&self, exchange: &Exchange<'_>) -> bool {
        let request = exchange.request();
        if exchange.is_draining() || !self.listeners.serve_functions(exchange.listener()) {
            return false;
        }
        match Route::of_request(request) {
            Route::Function { name, .. } => self.calls.table.find(name).is_some_and(|function| {
                let access = function.access.as_ref();
                let is_denied = access.is_some_and(|it| it.judge(request, SystemTime::now()).is_err());
                !is_denied && call::cannot_start(&function).is_none()
            }),
            Route::Root { .. } => !is_longer(exchange, alexa::MAX_BODY_BYTES),
            _ => false,
        }
    }

    /// Whether what has arrived of a call is enough to admit it. Else a worker reads on, or says why not.
    pub(super) fn is_admitted(&self, function: &Function, exchange: &Exchange<'_>) -> bool {
        let Some(access) = &function.access else { return true };
        if self.check_guesses(function, exchange).is_err() {
            return false;
        }
        match access.judge(exchange.request(), SystemTime::now()) {
            Ok(None) => true,
            Ok(Some(signature)) => exchange.body_in_hand().is_some_and(|body| agrees(signature, body)),
            Err(_) => false,
        }
    }

    /// Admits a call, with what was read of its body. `whole` is the body, where it was read already.
    pub(super) fn admit(
        &self,
        exchange: &mut Exchange<'_>,
        function: &Function,
        whole: Option<Vec<u8>>,
    ) -> Result<Upload, Failure> {
        self.check_guesses(function, exchange)?;
        let judged =
            function.access.as_ref().map(|access| access.judge(exchange.request(), SystemTime::now()));
        let mut signature = match judged {
            Some(Ok(Some(signature))) => signature,
            None | Some(Ok(None)) => return Ok(whole.map_or_else(Upload::default, Upload::of)),
            Some(Err(Denial::Closed(label))) => return Err(Failure::NoSecret(label)),
            Some(Err(Denial::Credentials(scheme))) => {
                self.count_guess(function, exchange)?;
                return Err(Failure::NoCredentials(scheme, function.known.name.clone()));
            }
            Some(Err(Denial::Signature(why))) => return Err(Failure::BadSignature(why)),
        };
        let (body, is_whole) = match whole {
            Some(body) => (body, true),
            None => self.begin_of_body(exchange, function)?,
        };
        if !is_whole {
            signature.update(&body);
            return Ok(Upload::checked(body, Box::new(signature)));
        }
        match agrees(signature, &body) {
            true => Ok(Upload::of(body)),
            false => Err(Failure::BadSignature(Failure::NOT_OF_THE_BODY)),
        }
    }

    /// Refuses a client that has sent too many wrong passwords for this function, before anything is judged.
    fn check_guesses(&self, function: &Function, exchange: &Exchange<'_>) -> Result<(), Failure> {
        let Some(client) = self.guesser(function, exchange) else { return Ok(()) };
        self.guesses.check(&function.known.name, client)
    }

    fn count_guess(&self, function: &Function, exchange: &Exchange<'_>) -> Result<(), Failure> {
        let Some(client) = self.guesser(function, exchange) else { return Ok(()) };
        let name = &function.known.name;
        self.guesses.wrong(name, client, &format_args!("function `{name}`: wrong password or token"))
    }

    /// The address of a client that has sent a password, where the function asks for one. A client without
    /// a password guesses nothing.
    fn guesser(&self, function: &Function, exchange: &Exchange<'_>) -> Option<IpAddr> {
        let headers = exchange.request().headers();
        let has_sent = function.takes_authorization() && headers.get("authorization").is_some();
        has_sent.then(|| self.calls.proxies.client(exchange.peer().ip(), headers))
    }

    /// A small body, or nothing or the first bytes of a larger one; and whether that is the whole body.
    fn begin_of_body(
        &self,
        exchange: &mut Exchange<'_>,
        function: &Function,
    ) -> Result<(Vec<u8>, bool), Failure> {
        let time = function.known.labels.timeout.unwrap_or(self.calls.limits.upstream_timeout);
        let enough = match exchange.body_length() {
            Length::Known(length) if length > MAX_KEPT_BYTES as u64 => 0,
            _ => MAX_KEPT_BYTES + 1,
        };
        exchange.read_ahead(enough, Deadline::after(time)).map_err(body_failure)
    }
}

fn agrees(mut signature: Signature, body: &[u8]) -> bool {
    signature.update(body);
    Box::new(signature).is_right()
}
