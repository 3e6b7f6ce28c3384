//! The life of one invocation: a replica is chosen, or waited for; the call is relayed, if need be to
//! another; one answer goes out and one observation is made.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http1::forward::{self, Cause, End, Limits, Transfer, Upload};
use http1::server::{Course, Relay, Waiting};
use http1::{Connection, Error, Exchange, HeadWriter, Length, ResponseHead};
use kit::Deadline;
use kit::sys::limits::random;

use super::times::Times;
use super::waits::Place;
use super::{Calls, admission, headers};
use crate::balance::{self, Standing};
use crate::failure::{CLIENT_GONE, Failure, Phase, TimeLimit};
use crate::functions::{Function, Pass, Replica, Use};
use crate::metrics::{self, InFlight, Retry};
use crate::route::Below;

/// How long is waited between two rounds over replicas that all refuse, unless the table changes.
const ROUND_PAUSE: Duration = Duration::from_millis(50);

/// Tries of one call on connections that broke; connects that fail are not counted.
const MAX_TRIES: usize = 3;

/// What is called.
pub(crate) struct Invocation {
    pub(crate) function: Arc<Function>,
    /// What the function sees of the request's target.
    pub(crate) target: Below,
    /// The length of the body.
    pub(crate) length: Length,
}

/// Serves one invocation on this thread: exactly one answer, exactly one observation. `upload` is the body, as far
/// as it was read.
pub(crate) fn serve(calls: &Arc<Calls>, exchange: &mut Exchange<'_>, invocation: Invocation, upload: Upload) {
    Call::new(calls, exchange, invocation).run(calls, exchange, upload);
}

/// Begins an invocation on a poller: it is moved by that one, or waits for its turn there.
pub(crate) fn begin(calls: Arc<Calls>, exchange: &Exchange<'_>, invocation: Invocation) -> Course {
    let mut call = Call::new(&calls, exchange, invocation);
    match call.is_ready(&calls) {
        Ok(true) => call.begin(calls, exchange, Upload::default()),
        Ok(false) => Course::Wait(Box::new(Parked::new(calls, call, Upload::default()))),
        Err(_) => Course::GoOn(Box::new(Parked::new(calls, call, Upload::default()))),
    }
}

/// An invocation that waits: for a replica, for its turn, or for the next round over replicas that all refused.
struct Parked {
    calls: Arc<Calls>,
    call: Call,
    upload: Upload,
    /// The table's version over which all replicas refused, and when to try them again.
    round: Option<(u64, Instant)>,
}

impl Parked {
    fn new(calls: Arc<Calls>, call: Call, upload: Upload) -> Parked {
        Parked { calls, call, upload, round: None }
    }
}

impl Waiting for Parked {
    fn key(&self) -> usize {
        let function = Arc::as_ptr(&self.call.function.gate) as usize;
        function + usize::from(self.round.is_some()) // the gate is larger than that
    }

    fn until(&self) -> Instant {
        let deadline = self.call.started + self.call.times.answer.span;
        self.round.map_or(deadline, |(_, next)| next.min(deadline))
    }

    fn time_is_up(&mut self) {
        if self.call.limits.deadline.has_passed() {
            self.call.pass.leave_line(); // until it is told so others go on
        }
    }

    fn step_aside(&mut self) {
        self.call.pass.leave_line();
    }

    fn look(mut self: Box<Self>, exchange: &Exchange<'_>) -> Course {
        if self.round.is_some_and(|(version, _)| self.calls.table.version() == version) {
            return Course::Wait(self);
        }
        self.round = None;
        let table = Arc::clone(&self.calls.table);
        let Some(function) = table.find(self.call.function.known.name.as_str()) else {
            return Course::GoOn(self);
        };
        self.call.renew(function);
        match self.call.is_ready(&self.calls) {
            // The place may be that of a call that was broken off: this one would be, too.
            Ok(true) if exchange.is_stopping() => Course::Wait(self),
            Ok(true) => {
                let Parked { calls, call, upload, .. } = *self;
                call.begin(calls, exchange, upload)
            }
            Ok(false) => Course::Wait(self),
            Err(_) => Course::GoOn(self), // it finds the same there, and can tell the client
        }
    }

    fn go_on(self: Box<Self>, exchange: &mut Exchange<'_>) {
        let Parked { calls, call, upload, .. } = *self;
        call.run(&calls, exchange, upload);
    }

    fn ended(self: Box<Self>, cause: Cause) {
        let code = match cause {
            Cause::Refused(refusal) => refusal.status(),
            _ => CLIENT_GONE,
        };
        self.call.observe(code);
    }
}

/// An invocation on a poller.
struct Begun {
    calls: Arc<Calls>,
    call: Call,
    in_use: Use,
}

impl Relay for Begun {
    fn head(&mut self, response: &ResponseHead) -> HeadWriter {
        self.call.head(response)
    }

    fn ended(self: Box<Self>, end: End, connection: Box<Connection>) {
        let Begun { call, in_use, .. } = *self;
        if connection.has_peer() {
            in_use.replica().works();
        }
        take_leave(in_use.replica(), &connection);
        let code = match end {
            End::Done(status) => status,
            End::Failed(cause) | End::Again(cause) | End::Broken(cause) => {
                call.broken(cause, in_use.replica().address())
            }
        };
        in_use.replica().pool().put(connection); // which closes it unless all of it went well
        drop(in_use);
        call.observe(code);
    }

    fn go_on(
        self: Box<Self>,
        exchange: &mut Exchange<'_>,
        (end, connection, upload): (End, Box<Connection>, Upload),
    ) {
        let Begun { calls, mut call, in_use } = *self;
        in_use.replica().pool().put(connection); // which closes it
        let result = match end {
            End::Again(Cause::Unreachable(code)) => {
                call.tries -= 1;
                let error = io::Error::from_raw_os_error(code);
                call.unreachable(&calls, in_use.replica(), connect_error(in_use.replica().address(), &error));
                None
            }
            end => call.ended(end, in_use.replica().address()),
        };
        drop(in_use);
        match result {
            None => call.run(&calls, exchange, upload),
            Some(result) => call.settle(&calls, exchange, result),
        }
    }
}

struct Call {
    function: Arc<Function>,
    target: Below,
    length: Length,
    started: Instant,
    times: Times,
    limits: Limits,
    id: headers::CallId,
    /// Replicas that could not be connected to in this round.
    tried: Vec<SocketAddr>,
    /// Why the last of them could not.
    last_error: Option<String>,
    tries: usize,
    /// The replica whose connection broke in the last try.
    broke_with: Option<SocketAddr>,
    /// Since when it would know whether replicas that all refuse are still there.
    asks_since: Option<Instant>,
    waits_since: Option<Instant>,
    /// Counts it while it waits, for a replica or for its turn.
    wait: Option<metrics::Waiting>,
    /// Its place among all calls that wait, or try replicas that refuse once more.
    place: Option<Place>,
    has_waited: bool,
    /// Where it stands before the function's limit of calls.
    pass: Pass,
    /// How long it waited for a first replica, if it did.
    cold_start: Option<Duration>,
    /// Whether kept connections were closed for it.
    has_made_room: bool,
    /// Observes it at its end, also when serving it panics: behind all that it holds, and so the last field.
    in_flight: InFlight,
}

impl Call {
    fn new(calls: &Calls, exchange: &Exchange<'_>, invocation: Invocation) -> Call {
        let started = Instant::now();
        let request = exchange.request();
        let label = invocation.function.known.labels.timeout;
        let times = Times::new(calls.limits.upstream_timeout, label, headers::timeout(request));
        Call {
            in_flight: invocation.function.series.begin_call(started),
            function: invocation.function,
            target: invocation.target,
            length: invocation.length,
            started,
            times,
            limits: Limits {
                deadline: Deadline::at(started + times.answer.span),
                total: times.total.map_or(Deadline::NEVER, |total| Deadline::at(started + total.span)),
                silence: Some(calls.limits.idle_timeout),
                read_stall: calls.limits.body_stall_timeout,
                write_stall: calls.limits.body_stall_timeout,
                idle: calls.limits.idle_timeout,
            },
            id: headers::call_id(request, random),
            tried: Vec::new(),
            last_error: None,
            tries: 0,
            broke_with: None,
            asks_since: None,
            waits_since: None,
            wait: None,
            place: None,
            has_waited: false,
            pass: Pass::default(),
            cold_start: None,
            has_made_room: false,
        }
    }

    /// Goes on with the newest form of its function. Where that was removed and added again, it is another one: only what
    /// is counted there has a replica started.
    fn renew(&mut self, function: Arc<Function>) {
        if !Arc::ptr_eq(&function.series, &self.function.series) {
            self.in_flight.move_to(&function.series);
            (self.wait, self.pass) = (None, Pass::default());
        }
        self.function = function;
    }

    /// Tries until it has an answer, and settles it.
    fn run(mut self, calls: &Arc<Calls>, exchange: &mut Exchange<'_>, mut upload: Upload) {
        let result = loop {
            let (in_use, connection) = match self.connect(calls) {
                Ok(connected) => connected,
                Err(Stop::Failed(failure)) => break Err(failure),
                Err(Stop::Waits(round)) => {
                    let calls = Arc::clone(calls);
                    return exchange.wait(Box::new(Parked { calls, call: self, upload, round }));
                }
            };
            let upload_now = (mem::take(&mut upload), Instant::now());
            let transfer = self.transfer((calls, exchange), (&in_use, connection), upload_now);
            let (end, connection, rest) = transfer.run(exchange, &mut |response| self.head(response));
            take_leave(in_use.replica(), &connection);
            in_use.replica().pool().put(connection); // which closes it unless all of it went well
            upload = rest;
            if let Some(result) = self.ended(end, in_use.replica().address()) {
                break result;
            }
        };
        self.settle(calls, exchange, result);
    }

    /// Answers a failure, where there is somebody to be told, and observes the call.
    fn settle(self, calls: &Calls, exchange: &mut Exchange<'_>, result: Result<u16, Failure>) {
        let code = match result {
            Ok(status) => status,
            Err(failure) => {
                let name = Some(self.function.known.name.as_str());
                log::debug!("call {}: {}", self.id, failure.line(name).trim_end());
                self.answer(exchange, &failure);
                failure.rejection().into_iter().for_each(|rejection| calls.rejected.count(rejection));
                failure.status()
            }
        };
        self.observe(code);
    }

    fn observe(self, code: u16) {
        drop((self.wait, self.pass)); // before it is observed, so that a reader never sees it twice
        self.in_flight.end(code);
    }

    fn answer(&self, exchange: &mut Exchange<'_>, failure: &Failure) {
        if *failure == Failure::ClientGone || exchange.is_started() {
            return exchange.abort();
        }
        let mut head = failure.head();
        headers::own(&mut head, &self.id, self.started.elapsed());
        let line = failure.line(Some(self.function.known.name.as_str()));
        let _ = exchange.respond(head, line.as_bytes()); // an error means that nobody is left to be told
    }

    fn head(&self, response: &ResponseHead) -> HeadWriter {
        headers::to_client(response, &self.id, self.started.elapsed(), self.cold_start)
    }

    /// The status under which it counts: of an answer that went out, or was broken off. `None` where it is to be
    /// sent once more.
    fn ended(&mut self, end: End, address: SocketAddr) -> Option<Result<u16, Failure>> {
        match end {
            End::Done(status) => Some(Ok(status)),
            End::Broken(cause) => Some(Ok(self.broken(cause, address))),
            End::Again(cause) if self.tries < MAX_TRIES => {
                log::debug!("call {}: {}; sending it once more", self.id, self.failure(cause, address));
                self.function.series.count_retry(Retry::Stale);
                self.broke_with = Some(address);
                None
            }
            End::Again(cause) | End::Failed(cause) => Some(Err(self.failure(cause, address))),
        }
    }

    /// The status under which a call counts whose answer was broken off.
    fn broken(&self, cause: Cause, address: SocketAddr) -> u16 {
        match cause {
            Cause::ClientGone => return CLIENT_GONE,
            Cause::ClientStalls => {
                log::debug!("call {}: the client neither reads nor sends, see body_stall_timeout", self.id);
                return CLIENT_GONE;
            }
            _ => {}
        }
        let failure = self.failure(cause, address);
        log::debug!("call {}: {failure}", self.id);
        failure.status()
    }

    fn failure(&self, cause: Cause, address: SocketAddr) -> Failure {
        match cause {
            Cause::Refused(refusal) => Failure::Refused(refusal),
            Cause::ClientGone | Cause::ClientStalls => Failure::ClientGone,
            Cause::Unproven => Failure::BadSignature(Failure::NOT_OF_THE_BODY),
            Cause::Closed => Failure::Closed(address),
            Cause::Invalid(refusal) => Failure::Invalid(refusal),
            Cause::Timeout(http1::Phase::Body) => {
                let total = self.times.total.filter(|_| self.limits.total.has_passed());
                let silence = TimeLimit { span: self.limits.idle, name: "idle_timeout" };
                Failure::Timeout(Phase::Body, total.unwrap_or(silence))
            }
            Cause::Timeout(_) => Failure::Timeout(Phase::FirstByte, self.times.answer),
            Cause::Unreachable(code) => {
                Failure::Connect(connect_error(address, &io::Error::from_raw_os_error(code)))
            }
        }
    }

    /// One try on one connection.
    fn transfer(
        &mut self,
        (calls, exchange): (&Calls, &Exchange<'_>),
        (in_use, mut connection): (&Use, Box<Connection>),
        (upload, now): (Upload, Instant),
    ) -> Transfer {
        self.tries += 1;
        let call = headers::Call {
            id: &self.id,
            target: &self.target.of(exchange.request().target()),
            peer: exchange.peer(),
            proxies: &calls.proxies,
            keeps_underscores: calls.keeps_underscores,
            address: in_use.replica().address(),
            left: self.limits.total.left(now),
            takes_authorization: self.function.takes_authorization(),
        };
        connection.start(headers::to_function(exchange.request(), &call), self.length);
        Transfer::new(connection, upload, self.limits)
    }

    /// Whether there is a replica and, where the function has a limit, a place for this call; false where it has to
    /// wait for that, and is counted so. A call that fails waits no more: others go on before it is told.
    fn is_ready(&mut self, calls: &Calls) -> Result<bool, Failure> {
        let is_ready = self.may_go_on(calls);
        is_ready.inspect_err(|_| self.pass.leave_line())
    }

    fn may_go_on(&mut self, calls: &Calls) -> Result<bool, Failure> {
        if self.function.replicas.is_empty() {
            if let Some(failure) = admission::cannot_start(&self.function) {
                return Err(failure);
            }
            self.waits_since.get_or_insert_with(Instant::now);
            self.function.gate.join(&mut self.pass);
            self.begin_wait(calls, Failure::TooManyWaiting(calls.waits.of_one))?;
            return Ok(false);
        }
        if !self.function.gate.lets(&mut self.pass) {
            self.begin_wait(calls, admission::too_many(&self.function))?;
            return Ok(false);
        }
        self.has_waited |= self.wait.take().is_some();
        self.place = None;
        if let Some(since) = self.waits_since.take() {
            self.cold_start = Some(since.elapsed());
            self.function.series.observe_cold_start(since.elapsed());
        }
        Ok(true)
    }

    /// Counts it as waiting, if it is not yet; the failure where too many wait.
    fn begin_wait(&mut self, calls: &Calls, too_many: Failure) -> Result<(), Failure> {
        if self.wait.is_some() {
            return Ok(());
        }
        let wait = self.function.series.begin_wait(calls.waits.of_one).ok_or(too_many)?;
        self.take_place(calls)?;
        self.wait = Some(wait);
        if self.function.replicas.is_empty() {
            calls.upkeep.wants_replica();
            calls.table.touch();
        }
        Ok(())
    }

    fn take_place(&mut self, calls: &Calls) -> Result<(), Failure> {
        if self.place.is_none() {
            let place = calls.waits.enter();
            self.place = Some(place.ok_or(Failure::NoRoomToWait(calls.waits.of_all))?);
        }
        Ok(())
    }

    /// Has the poller move it, on a kept connection or one that it makes. What has to be tried once more is for a
    /// worker.
    fn begin(mut self, calls: Arc<Calls>, exchange: &Exchange<'_>, upload: Upload) -> Course {
        let replica =
            balanced(&self.function, |_| Standing::Usable).filter(|_| self.tries == 0).map(Arc::clone);
        let connected = replica.and_then(|replica| {
            let connection = forward::connection(replica.pool(), exchange, self.limits.deadline)?;
            Some((Use::of(&replica), connection))
        });
        let Some((in_use, connection)) = connected else {
            return Course::GoOn(Box::new(Parked::new(calls, self, upload)));
        };
        let now = if self.has_waited { Instant::now() } else { self.started };
        let transfer = self.transfer((&calls, exchange), (&in_use, connection), (upload, now));
        Course::Relay(transfer, Box::new(Begun { calls, call: self, in_use }))
    }

    /// A connection to a replica: a kept one at the first try, or a new one. Replicas that refuse are left for
    /// others, and tried again until it is clear that they are down.
    fn connect(&mut self, calls: &Calls) -> Result<(Use, Box<Connection>), Stop> {
        loop {
            let version = calls.table.version();
            let name = self.function.known.name.as_str();
            let function = calls.table.find(name);
            self.renew(function.ok_or_else(|| Failure::UnknownFunction(name.to_owned()))?);
            let function = Arc::clone(&self.function);
            // Whoever waited until the deadline takes no place any more: nobody would wait for the answer.
            let is_late = self.wait.is_some() && self.limits.deadline.has_passed();
            if is_late || !self.is_ready(calls)? {
                let is_over = is_late || self.limits.deadline.has_passed();
                return Err(if is_over { self.waited_in_vain().into() } else { Stop::Waits(None) });
            }
            let Some(replica) = balanced(&function, |replica| self.standing(replica)) else {
                return Err(self.pause(calls, version)?);
            };
            let in_use = Use::of(replica);
            // Where one kept connection was stale the others may be too, and more of them than there are tries.
            if self.tries == 0
                && let Some(connection) = replica.pool().take()
            {
                return Ok((in_use, connection));
            }
            match replica.pool().connect(self.limits.deadline) {
                Ok(connection) => {
                    replica.works();
                    return Ok((in_use, connection));
                }
                Err(error) if is_for_want_of_files(&error) && !self.has_made_room => {
                    self.has_made_room = true;
                    calls.table.close_idle();
                }
                Err(error) => self.unreachable(calls, replica, reason(replica.address(), &error)),
            }
            if self.limits.deadline.has_passed() {
                return Err(Failure::Timeout(Phase::Connect, self.times.answer).into());
            }
        }
    }

    /// The failure of a call that waited until its deadline.
    fn waited_in_vain(&self) -> Failure {
        let has_replicas = !self.function.replicas.is_empty();
        let over_share = Some(admission::too_many(&self.function)).filter(|_| has_replicas);
        if let Some(failure @ Failure::TooManyOfFunction(1..)) = over_share {
            return failure;
        }
        let runs = self.function.known.endpoints.first();
        let phase = match runs {
            _ if has_replicas && self.function.known.labels.concurrency > 0 => Phase::Turn,
            Some(endpoint) => Phase::Listen(endpoint.address),
            None => Phase::Replica,
        };
        Failure::Timeout(phase, self.times.answer)
    }

    /// A replica could not be connected to.
    fn unreachable(&mut self, calls: &Calls, replica: &Replica, why: String) {
        self.tried.push(replica.address());
        replica.failed(Instant::now());
        self.function.series.count_retry(Retry::Connect);
        calls.upkeep.replica_refused();
        self.last_error = Some(why);
    }

    fn standing(&self, replica: &Replica) -> Standing {
        match replica.address() {
            address if self.tried.contains(&address) => Standing::Excluded,
            address if self.broke_with == Some(address) => Standing::Outlier,
            _ => Standing::Usable,
        }
    }

    /// All replicas refused in this round. Another follows after a moment, unless all of them have refused
    /// for as long as one connect may take, none is starting, and the provider has looked since and still names them: a
    /// replica that was replaced just now is not a reason to fail.
    fn pause(&mut self, calls: &Calls, version: u64) -> Result<Stop, Failure> {
        let error = self.last_error.take();
        let now = Instant::now();
        let window = calls.limits.connect_timeout;
        let are_down = self.function.replicas.iter().all(|replica| replica.has_failed_for(window, now));
        if are_down && self.function.starting.is_empty() {
            let asked = *self.asks_since.get_or_insert(now);
            let has_looked = calls.looks.ask(&*calls.upkeep, asked, self.limits.deadline);
            if calls.table.version() != version {
                self.asks_since = None;
            } else if has_looked {
                return Err(Failure::Connect(error.unwrap_or_else(|| "all connects failed".to_owned())));
            }
        } else {
            self.asks_since = None;
        }
        if self.limits.deadline.has_passed() {
            return Err(Failure::Timeout(Phase::Connect, self.times.answer));
        }
        self.take_place(calls)?;
        self.tried.clear();
        Ok(Stop::Waits(Some((version, Instant::now() + ROUND_PAUSE))))
    }
}

/// Why a worker does not go on with a call.
enum Stop {
    Failed(Failure),
    /// It has to wait; where all replicas refused, as of which version of the table and until when.
    Waits(Option<(u64, Instant)>),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

/// The replica that has less in hand of two, of those that `standing` allows, that are healthy and did not fail lately.
fn balanced(function: &Function, standing: impl Fn(&Replica) -> Standing) -> Option<&Arc<Replica>> {
    let is_avoided = |replica: &Replica| replica.has_failed() && replica.is_avoided(Instant::now());
    let limit = function.known.labels.concurrency as usize;
    let is_full = |replica: &Replica| limit > 0 && replica.in_flight() >= limit;
    let standing = |replica: &Arc<Replica>| match standing(replica) {
        Standing::Usable if replica.is_unhealthy() || is_avoided(replica) || is_full(replica) => {
            Standing::Outlier
        }
        other => other,
    };
    let load = |replica: &Arc<Replica>| replica.in_flight();
    balance::pick(&function.replicas, random(), load, standing).map(|place| &function.replicas[place])
}

/// A replica that ends its connections, as fwatchdog does when it is told to end, is left to do so.
fn take_leave(replica: &Replica, connection: &Connection) {
    if connection.is_told_to_close() {
        replica.leaves(Instant::now());
    }
}

/// Whether this process, or the system, has no file left to open (EMFILE, ENFILE).
fn is_for_want_of_files(error: &Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error, Error::Connect { source, .. } if matches!(source.raw_os_error(), Some(ENFILE | EMFILE)))
}

/// An error of making a connection, in a few words.
fn reason(address: SocketAddr, error: &Error) -> String {
    match error {
        Error::Connect { source, .. } => connect_error(address, source),
        other => format!("{address}: {other}"),
    }
}

/// What the system says of it, in a few words.
fn connect_error(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => format!("{address} does not answer"),
        io::ErrorKind::ConnectionRefused => format!("{address} refused the connection"),
        _ => format!("{address}: {error}"),
    }
}
