//! The limit on a function's calls in flight, label `faas.concurrency`: which calls have a slot, in which order calls wait
//! for one, and when waiting calls should check again.
//!
//! While no call waits, calls enter and leave by one atomic step. Once a call waits, all of them go through the line.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use kit::Guarded;

use super::hook::Hook;

/// How long further calls get the same refusal. After that, calls wait for another try.
const REFUSAL_TIME: Duration = Duration::from_secs(2);

/// Gives in the word of a gate that calls are in line, or that a thread is changing the line: ask the line then.
const IN_LINE: usize = 1;

/// Adds a call inside to the word of a gate.
const ONE: usize = 2;

/// The gate that calls of a function pass. A function that changes keeps its gate.
pub(crate) struct Gate {
    /// The most calls inside; 0 means no limit. A call may hold an older form of the function than this limit.
    limit: AtomicUsize,
    /// The number of calls inside times [`ONE`], and [`IN_LINE`].
    word: AtomicUsize,
    line: Guarded<Line>,
    changed: Arc<Hook>,
    /// Why the provider refused to start a first replica, and when.
    refusal: Guarded<Option<(String, Instant)>>,
}

/// The state of a gate: values only, so that the tests can explore every order of calls. A call that may go on is never in
/// line, even if the limit has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Line {
    inside: usize,
    /// The tickets of waiting calls, and the next ticket.
    tickets: BTreeSet<u64>,
    next: u64,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Standing {
    /// It has no slot and does not wait.
    #[default]
    Outside,
    /// It has no slot and has stopped waiting, but keeps its ticket. Tickets are in order of arrival, as are the calls on
    /// each poller, which asks for its first call only.
    Aside(u64),
    /// It waits with this ticket.
    Waiting(u64),
    /// It has a slot.
    Inside,
}

/// Whether waiting calls should check again.
type Wakes = bool;

/// The word after a call has entered; `None` if the line must decide. The limit may be an old one: a call enters at most
/// where it could have entered a moment before, and no call waits that would have to be woken.
fn entered(word: usize, limit: usize) -> Option<usize> {
    (word & IN_LINE == 0 && word / ONE < limit).then_some(word + ONE)
}

/// The word after a call inside has left; `None` if calls are in line, of which one must be woken.
fn left(word: usize) -> Option<usize> {
    (word & IN_LINE == 0).then(|| word - ONE)
}

impl Line {
    /// The word of a gate with this line.
    fn word(&self) -> usize {
        (self.inside * ONE) | if self.tickets.is_empty() { 0 } else { IN_LINE }
    }

    /// Lets a call go on if fewer than `limit` calls are inside and no call came earlier. Otherwise the call joins the
    /// line. 0 means no limit.
    fn pass(&mut self, limit: usize, standing: &mut Standing) -> (bool, Wakes) {
        if limit == 0 {
            return (true, self.leave_line(standing));
        }
        let is_next = match standing {
            Standing::Inside => return (true, false),
            Standing::Waiting(ticket) => self.tickets.first() == Some(ticket),
            Standing::Aside(ticket) => self.tickets.first().is_none_or(|first| *ticket < *first),
            Standing::Outside => self.tickets.is_empty(),
        };
        if !is_next || self.inside >= limit {
            self.join(standing);
            return (false, false);
        }
        self.leave_line(standing);
        *standing = Standing::Inside;
        self.inside += 1;
        (true, self.inside < limit && !self.tickets.is_empty())
    }

    /// Has a call wait for a slot, unless it waits already or has a slot.
    fn join(&mut self, standing: &mut Standing) {
        let ticket = match *standing {
            Standing::Outside => {
                self.next += 1;
                self.next - 1
            }
            Standing::Aside(ticket) => ticket,
            Standing::Waiting(_) | Standing::Inside => return,
        };
        self.tickets.insert(ticket);
        *standing = Standing::Waiting(ticket);
    }

    /// Has a call stop waiting.
    fn leave_line(&mut self, standing: &mut Standing) -> Wakes {
        let Standing::Waiting(ticket) = *standing else { return false };
        *standing = Standing::Aside(ticket);
        let was_next = self.tickets.first() == Some(&ticket);
        self.tickets.remove(&ticket);
        was_next && !self.tickets.is_empty()
    }

    /// Has a call leave its slot or the line.
    fn leave(&mut self, standing: &mut Standing) -> Wakes {
        if *standing != Standing::Inside {
            return self.leave_line(standing);
        }
        *standing = Standing::Outside;
        self.inside -= 1;
        !self.tickets.is_empty()
    }
}

impl Gate {
    pub(super) fn new(changed: Arc<Hook>) -> Gate {
        let (limit, word) = Default::default();
        Gate { limit, word, line: Guarded::default(), changed, refusal: Guarded::default() }
    }

    /// Sets the limit. The caller must wake waiting calls after that.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, SeqCst);
    }

    /// The most calls inside; 0 means no limit.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(SeqCst)
    }

    /// Whether a call may go on. Otherwise the call is in line, and the hook tells when to ask again.
    pub(crate) fn lets(self: &Arc<Self>, pass: &mut Pass) -> bool {
        let limit = self.limit();
        match pass.standing {
            Standing::Inside => return true,
            Standing::Outside | Standing::Aside(_) if limit == 0 => return true,
            Standing::Outside | Standing::Aside(_) if self.step(|word| entered(word, limit)) => {
                pass.standing = Standing::Inside;
                pass.gate = Some(Arc::clone(self));
                return true;
            }
            Standing::Outside | Standing::Aside(_) | Standing::Waiting(_) => {}
        }
        // Read the limit again with the line locked: a call that joins under an old limit could miss its wake.
        pass.change(self, |line, standing| line.pass(self.limit(), standing))
    }

    fn step(&self, step: impl FnMut(usize) -> Option<usize>) -> bool {
        self.word.fetch_update(SeqCst, SeqCst, step).is_ok()
    }

    /// Has a call wait for a slot, if it does not yet.
    pub(crate) fn join(self: &Arc<Self>, pass: &mut Pass) {
        pass.change(self, |line, standing| {
            line.join(standing);
            ((), false)
        });
    }

    /// Remembers the provider's answer about a first replica.
    pub(crate) fn set_refusal(&self, refusal: Option<String>) {
        let has_one = refusal.is_some();
        let refusal = refusal.map(|why| (why, Instant::now()));
        *self.refusal.lock() = refusal;
        if has_one {
            self.changed.call(); // waiting calls get the refusal
        }
    }

    /// The provider's refusal, if it is recent.
    pub(crate) fn refusal(&self) -> Option<String> {
        let refusal = self.refusal.lock();
        let (why, since) = refusal.as_ref()?;
        (since.elapsed() < REFUSAL_TIME).then(|| why.clone())
    }
}

/// A call's standing at a gate. Dropping it leaves the gate.
#[derive(Default)]
pub(crate) struct Pass {
    /// The gate of a call that is in line or inside.
    gate: Option<Arc<Gate>>,
    standing: Standing,
}

impl Pass {
    fn change<T>(
        &mut self,
        gate: &Arc<Gate>,
        change: impl FnOnce(&mut Line, &mut Standing) -> (T, Wakes),
    ) -> T {
        let mut line = gate.line.lock();
        // With the mark no call enters or leaves by itself, until the new word is stored.
        line.inside = gate.word.fetch_or(IN_LINE, SeqCst) / ONE;
        let (result, wakes) = change(&mut line, &mut self.standing);
        gate.word.store(line.word(), SeqCst);
        drop(line);
        let is_known = matches!(self.standing, Standing::Waiting(_) | Standing::Inside);
        self.gate = is_known.then(|| Arc::clone(gate));
        if wakes {
            gate.changed.call(); // the next call may wait on another poller
        }
        result
    }

    /// Has the call stop waiting; a slot stays.
    pub(crate) fn leave_line(&mut self) {
        if let Some(gate) = self.gate.take() {
            self.change(&gate, |line, standing| ((), line.leave_line(standing)));
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Some(gate) = self.gate.take() else { return };
        if self.standing != Standing::Inside || !gate.step(left) {
            self.change(&gate, |line, standing| ((), line.leave(standing)));
        }
    }
}

#[cfg(test)]
mod explore;

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(limit: usize) -> (Arc<Gate>, Arc<AtomicUsize>) {
        let told = Arc::new(AtomicUsize::new(0));
        let hook = Arc::new(Hook::default());
        let counter = Arc::clone(&told);
        hook.set(move || _ = counter.fetch_add(1, SeqCst));
        let gate = Gate::new(hook);
        gate.set_limit(limit);
        (Arc::new(gate), told)
    }

    #[test]
    fn at_most_the_limit_are_inside_and_a_call_that_ends_wakes_waiting_calls() {
        let (gate, told) = gate(2);
        let [mut first, mut second, mut third, mut waits]: [Pass; 4] = Default::default();
        assert!(gate.lets(&mut first) && gate.lets(&mut second));
        drop(first);
        assert_eq!(told.load(SeqCst), 0, "nobody waits");
        assert!(gate.lets(&mut third) && !gate.lets(&mut waits));
        drop(second);
        assert_eq!(told.load(SeqCst), 1);
        gate.set_limit(1);
        assert!(!gate.lets(&mut waits), "the limit became less");
        drop(third);
        assert!(gate.lets(&mut waits));
        gate.set_refusal(Some("why".to_owned()));
        assert_eq!((gate.refusal().as_deref(), told.load(SeqCst)), (Some("why"), 3));
    }

    #[test]
    fn waiting_calls_enter_in_order_of_arrival() {
        let (gate, told) = gate(1);
        let mut inside = Pass::default();
        assert!(gate.lets(&mut inside));
        let mut passes: [Pass; 4] = Default::default();
        gate.join(&mut passes[0]);
        gate.join(&mut passes[0]);
        passes[1..].iter_mut().for_each(|pass| assert!(!gate.lets(pass)));
        drop(inside);
        let [first, second, third, last] = &mut passes;
        assert!(!gate.lets(&mut Pass::default()), "nobody passes those that wait");
        assert!(!gate.lets(second));
        let told_before = told.load(SeqCst);
        first.leave_line();
        assert_eq!(told.load(SeqCst), told_before + 1, "it is the turn of the next one");
        *third = Pass::default();
        assert_eq!(told.load(SeqCst), told_before + 1);
        gate.set_limit(2);
        assert!(!gate.lets(last) && gate.lets(second));
        assert_eq!(told.load(SeqCst), told_before + 2, "there is room for one more");
        assert!(gate.lets(last));
        *second = Pass::default();
        assert_eq!(told.load(SeqCst), told_before + 2, "nobody waits");
    }

    #[test]
    fn a_call_that_steps_aside_keeps_its_ticket_and_delays_no_other() {
        let (gate, _) = gate(1);
        let mut inside = Pass::default();
        assert!(gate.lets(&mut inside));
        let mut passes: [Pass; 3] = Default::default();
        passes.iter_mut().for_each(|pass| assert!(!gate.lets(pass)));
        let [first, second, third] = &mut passes;
        first.leave_line();
        drop(inside);
        assert!(gate.lets(second), "the first does not hold it up");
        assert!(!gate.lets(first) && !gate.lets(third));
        *second = Pass::default();
        assert!(!gate.lets(third), "the first came earlier");
        assert!(gate.lets(first));
    }

    #[test]
    fn without_a_limit_no_call_is_in_line() {
        let (gate, told) = gate(1);
        let mut passes: [Pass; 3] = Default::default();
        let [first, second, third] = &mut passes;
        assert!(gate.lets(first) && !gate.lets(second) && !gate.lets(third));
        gate.set_limit(0);
        assert!(gate.lets(second));
        assert_eq!(told.load(SeqCst), 1, "it is the turn of the third");
        *first = Pass::default();
        gate.set_limit(1);
        assert!(gate.lets(third), "the second one is not counted, and not waited for");
    }
}
