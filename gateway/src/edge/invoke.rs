//! The life of one invocation: a replica is chosen, or waited for; the call is relayed, if need be to
//! another; one answer goes out and one observation is made.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http1::forward::{Cause, End, Forward, Limits, Upload};
use http1::{Connection, Error, Exchange, Length, ResponseHead};
use kit::Deadline;

use super::failure::{CLIENT_GONE, Failure, Phase, TimeLimit};
use super::{Edge, headers};
use crate::balance::{self, Standing};
use crate::functions::{Function, Replica, Use};
use crate::metrics::Retry;

/// How long is waited between two rounds over replicas that all refuse, unless the table changes.
const ROUND_PAUSE: Duration = Duration::from_millis(50);

/// How long the provider may take to say whether replicas that all refuse are still there.
const LOOK_TIME: Duration = Duration::from_secs(5);

/// Tries of one call on connections that broke; connects that fail are not counted.
const MAX_TRIES: usize = 3;

/// What is called.
pub(super) struct Invocation {
    pub(super) function: Arc<Function>,
    /// The request target that the function sees.
    pub(super) target: Vec<u8>,
    /// The body, as far as it was read.
    pub(super) upload: Upload,
    /// The length of the body.
    pub(super) length: Length,
}

/// Serves one invocation: exactly one answer, exactly one observation.
pub(super) fn invoke(edge: &Edge, exchange: &mut Exchange<'_>, mut invocation: Invocation) {
    let started = Instant::now();
    let series = Arc::clone(&invocation.function.series);
    let in_flight = series.inflight.hold();
    let id = headers::call_id(exchange.request());
    let mut total = TimeLimit { span: edge.limits.upstream_timeout, name: "upstream_timeout" };
    if let Some(span) = headers::timeout(exchange.request()).filter(|theirs| *theirs < total.span) {
        total = TimeLimit { span, name: headers::X_TIMEOUT };
    }
    let deadline = Deadline::at(started + total.span);
    let mut call = Call {
        edge,
        started,
        total,
        limits: Limits { deadline, stall: edge.limits.body_stall_timeout },
        id: &id,
        tried: Vec::new(),
        tries: 0,
        broke_with: None,
        waits_since: None,
        cold_start: None,
        has_made_room: false,
    };
    let code = match call.run(exchange, &mut invocation) {
        Ok(status) => status,
        Err(failure) => {
            log::debug!("call {id}: {}", failure.line(Some(invocation.function.name.as_str())).trim_end());
            answer(exchange, &failure, &invocation.function, (&id, started.elapsed()));
            edge.count(&failure);
            failure.status()
        }
    };
    drop(in_flight); // before it is observed, so that a reader never sees it twice
    series.observe(code, started.elapsed());
}

fn answer(exchange: &mut Exchange<'_>, failure: &Failure, function: &Function, own: (&str, Duration)) {
    if *failure == Failure::ClientGone || exchange.is_started() {
        return exchange.abort();
    }
    let mut head = failure.head();
    headers::own(&mut head, own.0, own.1);
    let line = failure.line(Some(function.name.as_str()));
    let _ = exchange.respond(head, line.as_bytes()); // an error means that nobody is left to be told
}

struct Call<'a> {
    edge: &'a Edge,
    started: Instant,
    /// What the deadline was made of, for messages.
    total: TimeLimit,
    limits: Limits,
    id: &'a str,
    /// Replicas that could not be connected to in this round.
    tried: Vec<SocketAddr>,
    tries: usize,
    /// The replica whose connection broke in the last try.
    broke_with: Option<SocketAddr>,
    waits_since: Option<Instant>,
    /// How long it waited for a first replica, if it did.
    cold_start: Option<Duration>,
    /// Whether kept connections were closed for it.
    has_made_room: bool,
}

impl Call<'_> {
    /// The status under which it counts: of an answer that went out, or was broken off.
    fn run(&mut self, exchange: &mut Exchange<'_>, invocation: &mut Invocation) -> Result<u16, Failure> {
        loop {
            let (in_use, connection) = self.connect(exchange, invocation)?;
            let address = in_use.replica().address();
            let function = Arc::clone(&invocation.function);
            if let Some(since) = self.waits_since.take() {
                self.cold_start = Some(since.elapsed());
                function.series.observe_cold_start(since.elapsed());
            }
            match self.relay(exchange, invocation, (&in_use, connection)) {
                End::Done(status) => return Ok(status),
                End::Broken(Cause::ClientGone) => return Ok(CLIENT_GONE),
                End::Broken(cause) => {
                    let failure = self.failure(cause, address);
                    log::debug!("call {}: {failure}", self.id);
                    return Ok(failure.status());
                }
                End::Again(cause) if self.tries < MAX_TRIES => {
                    log::debug!("call {}: {}; sending it once more", self.id, self.failure(cause, address));
                    function.series.count_retry(Retry::Stale);
                    self.broke_with = Some(address);
                }
                End::Again(cause) | End::Failed(cause) => return Err(self.failure(cause, address)),
            }
        }
    }

    fn failure(&self, cause: Cause, address: SocketAddr) -> Failure {
        match cause {
            Cause::Refused(refusal) => Failure::Refused(refusal),
            Cause::ClientGone => Failure::ClientGone,
            Cause::Closed => Failure::Closed(address),
            Cause::Invalid(refusal) => Failure::Invalid(refusal),
            Cause::Timeout(http1::Phase::Body) => Failure::Timeout(Phase::Body, self.total),
            Cause::Timeout(_) => Failure::Timeout(Phase::FirstByte, self.total),
        }
    }

    fn relay(
        &mut self,
        exchange: &mut Exchange<'_>,
        invocation: &mut Invocation,
        (in_use, mut connection): (&Use, Connection),
    ) -> End {
        self.tries += 1;
        let address = in_use.replica().address();
        let call = headers::Call {
            id: self.id,
            target: &invocation.target,
            peer: exchange.peer(),
            address,
            left: self.limits.deadline.remaining().unwrap_or(self.total.span),
        };
        connection.start(headers::to_function(exchange.request(), &call), invocation.length);
        let (id, started, cold_start) = (self.id, self.started, self.cold_start);
        let mut head = |head: &ResponseHead| headers::to_client(head, id, started.elapsed(), cold_start);
        let upload = &mut invocation.upload;
        let end = Forward::new(exchange, &mut connection, upload, (self.limits, &mut head)).run();
        in_use.replica().pool().put(connection); // which closes it unless all of it went well
        end
    }

    /// A connection to a replica: a kept one at the first try, or a new one. Replicas that refuse are left for
    /// others, and tried again until it is clear that they are down.
    fn connect(
        &mut self,
        exchange: &Exchange<'_>,
        invocation: &mut Invocation,
    ) -> Result<(Use, Connection), Failure> {
        let mut last_error = None;
        loop {
            let version = self.edge.table.version();
            let name = invocation.function.name.as_str();
            let function =
                self.edge.table.find(name).ok_or_else(|| Failure::UnknownFunction(name.to_owned()))?;
            invocation.function = Arc::clone(&function);
            if function.replicas.is_empty() {
                self.waits_since.get_or_insert_with(Instant::now);
                self.wait_for_replica(exchange, &function, version)?;
                continue;
            }
            let Some(replica) = self.pick(&function) else {
                self.pause(&function, version, last_error.take())?;
                continue;
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
                    self.edge.table.close_idle();
                }
                Err(error) => {
                    self.tried.push(replica.address());
                    replica.failed(Instant::now());
                    function.series.count_retry(Retry::Connect);
                    self.edge.provider.nudge();
                    last_error = Some(reason(replica, &error));
                }
            }
            if self.limits.deadline.has_passed() {
                return Err(Failure::Timeout(Phase::Connect, self.total));
            }
        }
    }

    fn pick<'f>(&self, function: &'f Function) -> Option<&'f Arc<Replica>> {
        let now = Instant::now();
        let standing = |replica: &Arc<Replica>| match replica {
            _ if self.tried.contains(&replica.address()) => Standing::Excluded,
            _ if replica.is_avoided(now) || self.broke_with == Some(replica.address()) => Standing::Outlier,
            _ => Standing::Usable,
        };
        let load = |replica: &Arc<Replica>| replica.in_flight();
        balance::pick(&function.replicas, self.edge.dice.roll(), load, standing)
            .map(|place| &function.replicas[place])
    }

    /// All replicas refused in this round. Another follows after a moment, unless all of them have refused
    /// for as long as one connect may take, and the provider has looked since and still names them: a replica
    /// that was replaced just now is not a reason to fail.
    fn pause(&mut self, function: &Function, version: u64, error: Option<String>) -> Result<(), Failure> {
        let now = Instant::now();
        let window = self.edge.limits.connect_timeout;
        if function.replicas.iter().all(|replica| replica.has_failed_for(window, now)) {
            self.edge.provider.look_again(self.limits.deadline.within(LOOK_TIME));
            if self.edge.table.version() == version {
                return Err(Failure::Connect(error.unwrap_or_else(|| "all connects failed".to_owned())));
            }
        }
        if self.limits.deadline.has_passed() {
            return Err(Failure::Timeout(Phase::Connect, self.total));
        }
        self.tried.clear();
        self.edge.table.wait_after(version, self.limits.deadline.within(ROUND_PAUSE));
        Ok(())
    }

    /// There is no replica: it is waited for where one is on its way.
    fn wait_for_replica(
        &self,
        exchange: &Exchange<'_>,
        function: &Function,
        version: u64,
    ) -> Result<(), Failure> {
        if function.wanted == 0 {
            return Err(Failure::ScaledToZero);
        }
        if let Some(problem) = &function.problem {
            return Err(Failure::CannotStart(problem.clone()));
        }
        let limit = self.edge.limits.max_waiting;
        let waiting = function.series.waiting.hold();
        if function.series.waiting.get() > limit {
            return Err(Failure::TooManyWaiting(limit));
        }
        // The table is looked at between waits, and so is the client.
        let changed = self.edge.table.wait_after(version, self.limits.deadline.within(ROUND_PAUSE));
        drop(waiting);
        if !changed && self.limits.deadline.has_passed() {
            return Err(Failure::Timeout(Phase::Replica, self.total));
        }
        if exchange.is_client_gone() {
            return Err(Failure::ClientGone);
        }
        Ok(())
    }
}

/// Whether this process, or the system, has no file left to open (EMFILE, ENFILE).
fn is_for_want_of_files(error: &Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error, Error::Connect { source, .. } if matches!(source.raw_os_error(), Some(ENFILE | EMFILE)))
}

fn reason(replica: &Replica, error: &Error) -> String {
    let address = replica.address().to_string();
    match error {
        Error::Connect { source, .. } => connect_error(&address, source),
        other => format!("{address}: {other}"),
    }
}

/// An error of connecting, in a few words.
fn connect_error(address: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => format!("{address} does not answer"),
        io::ErrorKind::ConnectionRefused => format!("{address} refused the connection"),
        _ => format!("{address}: {error}"),
    }
}
