//! Finds a replica for a try and a connection to it, and decides when replicas that all refuse are down.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http1::forward;
use http1::{Connection, Error, Exchange};
use kit::sys::limits::random;

use super::invocation::Call;
use super::stage::Round;
use crate::balance::{self, Standing};
use crate::failure::{Failure, Phase};
use crate::functions::{Function, Replica, Use};
use crate::metrics::Retry;

/// The pause between two rounds over replicas that all refuse, unless the table changes.
const ROUND_PAUSE: Duration = Duration::from_millis(50);

/// What came of a call's tries so far.
#[derive(Default)]
pub(super) struct Tries {
    /// Tries on connections.
    pub(super) count: usize,
    /// Replicas that refused a connection in this round.
    refused: Vec<Refused>,
    /// The replica whose connection broke in the last try.
    pub(super) broke_with: Option<SocketAddr>,
    /// Since when the call wants to know whether replicas that all refuse are still there.
    asks_since: Option<Instant>,
    /// Whether idle connections were closed for this call.
    has_made_room: bool,
}

/// A replica that refused a connection.
struct Refused {
    address: SocketAddr,
    why: String,
}

/// A replica, and a connection to it.
pub(super) struct Reached {
    pub(super) in_use: Use,
    pub(super) connection: Box<Connection>,
}

/// Why no replica was reached.
pub(super) enum Stop {
    Failed(Failure),
    /// The call has to wait.
    Waits,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

impl Call {
    /// A replica and a connection, kept or still being made, for the first try of a call on a poller. Further tries may
    /// block, and are for a worker.
    pub(super) fn reach_at_once(&self, exchange: &Exchange<'_>) -> Option<Reached> {
        if self.tries.count > 0 {
            return None;
        }
        let replica = balanced(&self.function, |_| Standing::Usable)?;
        let connection = forward::connection(replica.pool(), exchange, self.facts.limits.deadline)?;
        Some(Reached { in_use: Use::of(replica), connection })
    }

    /// A replica and a connection: a kept one at the first try, else a new one. Replicas that refuse are left for
    /// others, and tried again until it is clear that they are down.
    pub(super) fn reach(&mut self) -> Result<Reached, Stop> {
        let deadline = self.facts.limits.deadline;
        loop {
            let version = self.calls.table.version();
            let name = self.function.known.name.as_str();
            let function = self.calls.table.find(name);
            self.renew(function.ok_or_else(|| Failure::UnknownFunction(name.to_owned()))?);
            let function = Arc::clone(&self.function);
            // A call that waited until the deadline takes no place any more: nobody would wait for the answer.
            let is_late = self.stage.is_for_turn() && deadline.has_passed();
            if is_late || !self.is_ready()? {
                let is_over = is_late || deadline.has_passed();
                return Err(if is_over { self.waited_in_vain().into() } else { Stop::Waits });
            }
            let Some(replica) = balanced(&function, |replica| self.standing(replica)) else {
                self.pause(version)?;
                return Err(Stop::Waits);
            };
            let in_use = Use::of(replica);
            // Where one kept connection was stale the others may be too, and more of them than there are tries.
            if self.tries.count == 0
                && let Some(connection) = replica.pool().take()
            {
                return Ok(Reached { in_use, connection });
            }
            match replica.pool().connect(deadline) {
                Ok(connection) => {
                    replica.works();
                    return Ok(Reached { in_use, connection });
                }
                Err(error) if is_for_want_of_files(&error) && !self.tries.has_made_room => {
                    self.tries.has_made_room = true;
                    self.calls.table.close_idle();
                }
                Err(error) => self.refused(replica, reason(replica.address(), &error)),
            }
            if deadline.has_passed() {
                return Err(Failure::Timeout(Phase::Connect, self.facts.times.answer).into());
            }
        }
    }

    /// The failure of a call that waited until its deadline.
    fn waited_in_vain(&self) -> Failure {
        let has_replicas = !self.function.replicas.is_empty();
        let over_share = Some(super::admission::too_many(&self.function)).filter(|_| has_replicas);
        if let Some(failure @ Failure::TooManyOfFunction(1..)) = over_share {
            return failure;
        }
        let runs = self.function.known.endpoints.first();
        let phase = match runs {
            _ if has_replicas && self.function.known.labels.concurrency > 0 => Phase::Turn,
            Some(endpoint) => Phase::Listen(endpoint.address),
            None => Phase::Replica,
        };
        Failure::Timeout(phase, self.facts.times.answer)
    }

    /// Remembers that a replica refused a connection.
    pub(super) fn refused(&mut self, replica: &Replica, why: String) {
        self.tries.refused.push(Refused { address: replica.address(), why });
        replica.failed(Instant::now());
        self.function.series.count_retry(Retry::Connect);
        self.calls.upkeep.replica_refused(self.function.known.name.as_str());
    }

    fn standing(&self, replica: &Replica) -> Standing {
        let address = replica.address();
        match &self.tries {
            tries if tries.refused.iter().any(|refused| refused.address == address) => Standing::Excluded,
            tries if tries.broke_with == Some(address) => Standing::Outlier,
            _ => Standing::Usable,
        }
    }

    /// Ends a round in which all replicas refused. The call waits for the next round, unless all replicas have refused
    /// for as long as one connect may take, none is starting, and the provider has looked since and still names them: a
    /// replica that was replaced just now is not a reason to fail.
    fn pause(&mut self, version: u64) -> Result<(), Failure> {
        let refused = std::mem::take(&mut self.tries.refused);
        let deadline = self.facts.limits.deadline;
        let now = Instant::now();
        let window = self.calls.limits.connect_timeout;
        let are_down = self.function.replicas.iter().all(|replica| replica.has_failed_for(window, now));
        if are_down && self.function.starting.is_empty() {
            let asked = *self.tries.asks_since.get_or_insert(now);
            let has_looked = self.calls.looks.ask(&*self.calls.upkeep, asked, deadline);
            if self.calls.table.version() != version {
                self.tries.asks_since = None;
            } else if has_looked {
                let why = refused.into_iter().next_back().map(|refused| refused.why);
                return Err(Failure::Connect(why.unwrap_or_else(|| "all connects failed".to_owned())));
            }
        } else {
            self.tries.asks_since = None;
        }
        if deadline.has_passed() {
            return Err(Failure::Timeout(Phase::Connect, self.facts.times.answer));
        }
        self.wait_for_round(Round { version, next: Instant::now() + ROUND_PAUSE })
    }
}

/// The less busy of two random replicas, of those that `standing` allows, that are healthy and did not fail lately.
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
    balance::pick(&function.replicas, random, load, standing).map(|place| &function.replicas[place])
}

/// Has a replica avoided that ends its connections, as fwatchdog does when it is told to end.
pub(super) fn take_leave(replica: &Replica, connection: &Connection) {
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

/// Why a connection was not made, in a few words.
fn reason(address: SocketAddr, error: &Error) -> String {
    match error {
        Error::Connect { source, .. } => connect_error(address, source),
        other => format!("{address}: {other}"),
    }
}

/// The system's error of a connect, in a few words.
pub(super) fn connect_error(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => format!("{address} does not answer"),
        io::ErrorKind::ConnectionRefused => format!("{address} refused the connection"),
        _ => format!("{address}: {error}"),
    }
}
