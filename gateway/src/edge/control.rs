//! Relays requests to the control plane. A body is read whole first and the head is written anew: no client's bytes get
//! there unread. Few requests are relayed at a time: a control plane that hangs leaves workers to functions.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http1::forward::{Cause, End, Limits, Transfer, Upload};
use http1::{ClientConfig, Connection, Endpoint, Error, Exchange, HeadWriter, Length, Phase, ResponseHead};
use kit::Deadline;

use super::body::whole_body;
use crate::caller::{self, Caller};
use crate::failure::Failure;

/// How long a request may take in all. The control plane waits for the engine for less than this.
pub(super) const TIME: Duration = Duration::from_secs(15);

/// The most requests at a time. Fewer workers than twice as many allow half their number.
const MAX_REQUESTS: usize = 16;

/// The control plane, as the edge sees it.
pub(crate) trait ControlPlane: Send + Sync {
    /// Where the control plane listens, and a number that is new after each start.
    ///
    /// # Errors
    /// Why the control plane does not listen.
    fn socket(&self) -> Result<(PathBuf, u64), String>;

    /// The control plane cannot be reached, or ended during a request.
    fn is_gone(&self, number: u64);

    /// The control plane did not answer in time.
    fn hangs(&self, number: u64);
}

/// The way there.
pub(crate) struct Door {
    plane: Box<dyn ControlPlane>,
    /// The largest body.
    max_body: usize,
    max_requests: usize,
    requests: AtomicUsize,
}

/// One request that is counted.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Door {
    /// A door for as many requests at a time as leave half of the workers to functions.
    pub(crate) fn new(plane: Box<dyn ControlPlane>, max_body: usize, workers: usize) -> Door {
        let max_requests = (workers / 2).clamp(1, MAX_REQUESTS);
        Door { plane, max_body, max_requests, requests: AtomicUsize::new(0) }
    }

    /// Serves a request for `/system` or `/ui` that was let in.
    pub(super) fn serve(&self, exchange: &mut Exchange<'_>, caller: &Caller<'_>) -> Result<(), Failure> {
        if exchange.is_draining() {
            return Err(Failure::Draining);
        }
        let head = to_plane(exchange, caller)?;
        let place = self.enter()?;
        let deadline = Deadline::after(TIME);
        // The control plane gets only a body whose length is known and right.
        let too_large = Failure::ControlBodyTooLarge(self.max_body);
        let body = whole_body(exchange, (self.max_body, too_large), deadline)?;
        let (socket, number) = self.plane.socket().map_err(Failure::ControlDown)?;
        let mut connection = self.connect(socket, number, deadline)?;
        let length = if body.is_empty() { Length::None } else { Length::Known(body.len() as u64) };
        connection.start(head, length);
        let config = exchange.config();
        let (read_stall, write_stall) = (config.body_stall_timeout, config.write_stall_timeout);
        let limits =
            Limits { deadline, total: deadline, silence: None, read_stall, write_stall, idle: write_stall };
        let transfer = Transfer::new(connection, Upload::of(body), limits);
        let (end, connection, _) = transfer.run(exchange, &mut to_client);
        drop(connection);
        drop(place);
        match end {
            End::Done(_) => Ok(()),
            End::Broken(cause) => {
                self.failure(cause, number); // the answer was broken off; nothing can be said any more
                Ok(())
            }
            End::Failed(cause) | End::Again(cause) => Err(self.failure(cause, number)),
        }
    }

    fn enter(&self) -> Result<Place<'_>, Failure> {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.requests);
        if before < self.max_requests { Ok(place) } else { Err(Failure::ControlBusy(self.max_requests)) }
    }

    fn connect(&self, socket: PathBuf, number: u64, deadline: Deadline) -> Result<Box<Connection>, Failure> {
        let endpoint = Endpoint::Unix(socket);
        match Connection::open(&endpoint, ClientConfig::default(), deadline) {
            // Another process may have put its socket into the directory: it gets no request.
            Ok(connection) if !connection.is_to_itself().unwrap_or(false) => {
                self.plane.is_gone(number);
                Err(Failure::ControlDown("another process listens on its socket".to_owned()))
            }
            Ok(connection) => Ok(Box::new(connection)),
            Err(Error::Connect { source, .. }) => {
                self.plane.is_gone(number);
                Err(Failure::ControlDown(source.to_string()))
            }
            Err(error) => Err(Failure::ControlDown(error.to_string())),
        }
    }

    fn failure(&self, cause: Cause, number: u64) -> Failure {
        match cause {
            // No body is checked on the way to the control plane: `Unproven` does not happen.
            Cause::ClientGone | Cause::ClientStalls | Cause::Unproven => Failure::ClientGone,
            Cause::Refused(refusal) => Failure::Refused(refusal),
            Cause::Timeout(Phase::FirstByte) => {
                self.plane.hangs(number);
                Failure::ControlTimeout(TIME)
            }
            Cause::Timeout(_) => Failure::ControlTimeout(TIME),
            Cause::Closed | Cause::Unreachable(_) => {
                self.plane.is_gone(number);
                Failure::ControlDown("it closed the connection".to_owned())
            }
            Cause::Invalid(refusal) => {
                self.plane.is_gone(number);
                Failure::ControlDown(format!("its answer is not valid HTTP: {refusal}"))
            }
        }
    }
}

/// The head for the control plane: the method, the path and the query of the client's head. A password is not for the
/// control plane, and its server may stumble over other fields.
fn to_plane(exchange: &Exchange<'_>, caller: &Caller<'_>) -> Result<HeadWriter, Failure> {
    let request = exchange.request();
    let mut target = request.path().to_vec();
    if let Some(query) = request.query() {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    // The control plane's server takes ASCII only, and has no other path.
    if !target.is_ascii() {
        return Err(Failure::NoRoute);
    }
    let mut head = HeadWriter::request(request.method(), &target);
    // A connection that is kept would belong to a server that may be gone by the next request.
    head.text("Host", "localhost").text("Connection", "close").text(caller::HEADER, &caller.to_string());
    Ok(head)
}

/// The head that goes back.
fn to_client(response: &ResponseHead) -> HeadWriter {
    let mut head = HeadWriter::response(response.status());
    head.forward(response.headers(), &|name| name.eq_ignore_ascii_case(b"server"));
    head
}
