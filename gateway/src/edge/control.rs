//! The way to the control plane: as to a function, but for a body that is read whole, a new head,
//! and few at a time, so that no client's bytes get there unread and a control plane that hangs holds up nothing else.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http1::forward::{Cause, End, Limits, Transfer, Upload};
use http1::{ClientConfig, Connection, Endpoint, Error, Exchange, HeadWriter, Length, Phase, ResponseHead};
use kit::Deadline;

use super::body::whole_body;
use crate::caller::{self, Caller};
use crate::failure::Failure;

/// How long a request may take in all. The control plane waits for the engine, within less than this.
pub(super) const TIME: Duration = Duration::from_secs(15);

/// Requests at a time, where there are as many workers twice.
const MAX_REQUESTS: usize = 16;

/// The control plane, as the edge sees it.
pub(crate) trait ControlPlane: Send + Sync {
    /// Where it listens, and a number that is new whenever it was started again.
    ///
    /// # Errors
    /// Why it does not.
    fn socket(&self) -> Result<(PathBuf, u64), String>;

    /// It cannot be reached, or ended with a request in hand.
    fn is_gone(&self, number: u64);

    /// It did not answer in time.
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
        // The control plane gets only what has a length that is right.
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
            // Whoever may write to the directory may have put another socket there: it gets no request.
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
            // Its body was not checked on the way.
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

/// The head that goes to the control plane. Of the client's it has the method, the path and the query: a password is
/// not for it, and neither is anything that its server may stumble over.
fn to_plane(exchange: &Exchange<'_>, caller: &Caller<'_>) -> Result<HeadWriter, Failure> {
    let request = exchange.request();
    let mut target = request.path().to_vec();
    if let Some(query) = request.query() {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    // There is no such path, and its server takes ASCII only.
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
