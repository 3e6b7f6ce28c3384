//! Where a call stands: whether it waits for a first replica, for its turn under the function's limit, or for the next
//! round over replicas that all refuse.
//!
//! ```text
//! Ready ──► ForTurn ──► Ready         there is a replica, and a free place
//! Ready ──► ForRound ──► Ready        the table changed, or the pause is over
//!           ForRound ──► ForTurn      meanwhile there is no replica, or no free place
//! Ready ──► Relayed ──► Ready         the try failed, and a worker goes on
//! ```

use std::mem;
use std::time::{Duration, Instant};

use super::admission;
use super::invocation::Call;
use super::waits::Slot;
use crate::failure::Failure;
use crate::functions::Use;
use crate::metrics;

/// Where a call stands.
pub(super) enum Stage {
    Ready,
    /// The call waits for a replica or a turn. The function's metrics count the call meanwhile.
    ForTurn {
        _counted: metrics::Waiting,
        slot: Slot,
    },
    ForRound {
        round: Round,
        slot: Slot,
    },
    /// A poller relays the call with this replica.
    Relayed(Use),
}

/// When replicas that all refused are tried again.
#[derive(Clone, Copy)]
pub(super) struct Round {
    /// The table's version as of the last round: a newer one ends the pause.
    pub(super) version: u64,
    pub(super) next: Instant,
}

impl Stage {
    pub(super) fn is_for_turn(&self) -> bool {
        matches!(self, Stage::ForTurn { .. })
    }

    /// Ends the part of a poller in the call, and returns the replica that it was relayed with.
    pub(super) fn take_use(&mut self) -> Option<Use> {
        match mem::replace(self, Stage::Ready) {
            Stage::Relayed(in_use) => Some(in_use),
            other => {
                *self = other;
                None
            }
        }
    }

    pub(super) fn round(&self) -> Option<Round> {
        if let Stage::ForRound { round, .. } = self { Some(*round) } else { None }
    }
}

/// The wait for a function's first replica.
pub(super) enum ColdStart {
    No,
    Since(Instant),
    Took(Duration),
}

impl ColdStart {
    pub(super) fn took(&self) -> Option<Duration> {
        if let ColdStart::Took(took) = self { Some(*took) } else { None }
    }
}

impl Call {
    /// Whether there is a replica and, where the function has a limit, a place for this call. Else the call waits, and
    /// is counted so. A call that fails leaves the line at once: others go on before its client is told.
    pub(super) fn is_ready(&mut self) -> Result<bool, Failure> {
        let is_ready = self.may_go_on();
        is_ready.inspect_err(|_| self.pass.leave_line())
    }

    fn may_go_on(&mut self) -> Result<bool, Failure> {
        if self.function.replicas.is_empty() {
            if let Some(failure) = admission::cannot_start(&self.function) {
                return Err(failure);
            }
            if !matches!(self.cold_start, ColdStart::Since(_)) {
                self.cold_start = ColdStart::Since(Instant::now());
            }
            self.function.gate.join(&mut self.pass);
            self.wait_for_turn(Failure::TooManyWaiting(self.calls.waits.of_one))?;
            return Ok(false);
        }
        if !self.function.gate.lets(&mut self.pass) {
            self.wait_for_turn(admission::too_many(&self.function))?;
            return Ok(false);
        }
        self.stage = Stage::Ready;
        if let ColdStart::Since(since) = self.cold_start {
            let took = since.elapsed();
            self.cold_start = ColdStart::Took(took);
            self.function.series.observe_cold_start(took);
        }
        Ok(true)
    }

    fn wait_for_turn(&mut self, too_many: Failure) -> Result<(), Failure> {
        if self.stage.is_for_turn() {
            return Ok(());
        }
        let counted = self.function.series.begin_wait(self.calls.waits.of_one).ok_or(too_many)?;
        let slot = self.slot()?;
        self.stage = Stage::ForTurn { _counted: counted, slot };
        if self.function.replicas.is_empty() {
            self.calls.upkeep.wants_replica();
            self.calls.table.touch();
        }
        Ok(())
    }

    /// Has the call wait for its next round.
    pub(super) fn wait_for_round(&mut self, round: Round) -> Result<(), Failure> {
        let slot = self.slot()?;
        self.stage = Stage::ForRound { round, slot };
        Ok(())
    }

    /// The slot that the call has already, or a new one.
    fn slot(&mut self) -> Result<Slot, Failure> {
        match mem::replace(&mut self.stage, Stage::Ready) {
            Stage::ForTurn { slot, .. } | Stage::ForRound { slot, .. } => Ok(slot),
            Stage::Ready | Stage::Relayed(_) => {
                self.calls.waits.enter().ok_or(Failure::NoRoomToWait(self.calls.waits.of_all))
            }
        }
    }
}
