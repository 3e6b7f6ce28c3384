//! The limit of a function's calls at once, label `faas.concurrency`: who has a place, who is next, and who is to be told
//! when a place becomes free.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::hook::Hook;

/// How long a refusal is the answer to further calls. Behind that they wait for another try.
const REFUSAL_TIME: Duration = Duration::from_secs(2);

/// What the calls of one function have to pass; it stays when the function is replaced by a newer form of itself.
pub(crate) struct Gate {
    /// The most calls inside; 0 is no limit. It is the newest, which a call's own form of the function need not know.
    limit: AtomicUsize,
    line: Mutex<Line>,
    changed: Arc<Hook>,
    /// Why its first replica could not be asked for, in the words of whoever refused, and when.
    refusal: Mutex<Option<(String, Instant)>>,
}

/// What a gate decides by: values only, so that every order of calls can be tried (see the tests).
/// A call that may go on is never in line, whatever became of the limit meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Line {
    inside: usize,
    /// The tickets of the calls that wait, and the next one.
    tickets: BTreeSet<u64>,
    next: u64,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Standing {
    /// It has no place, and waits for none.
    #[default]
    Outside,
    /// The same, and it has waited with this ticket, which it keeps: tickets are in the order in which calls came, and so
    /// are the calls on each poller, which asks for the first of them only.
    Aside(u64),
    /// It waits, with this ticket.
    Waiting(u64),
    /// It has one of the places.
    Inside,
}

/// Whether calls that wait are to look again.
type Wakes = bool;

impl Line {
    /// Has a call go on, if at most `limit` calls are inside then, and nobody came earlier. Else the call is in line, as
    /// of the first time. 0 is no limit.
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

    /// Has a call wait for a place, unless it does, or has one.
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

    /// Has a call wait no more.
    fn leave_line(&mut self, standing: &mut Standing) -> Wakes {
        let Standing::Waiting(ticket) = *standing else { return false };
        *standing = Standing::Aside(ticket);
        let was_next = self.tickets.first() == Some(&ticket);
        self.tickets.remove(&ticket);
        was_next && !self.tickets.is_empty()
    }

    /// Has a call leave its place, or the line.
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
        Gate { limit: AtomicUsize::new(0), line: Mutex::default(), changed, refusal: Mutex::default() }
    }

    /// From now on this is the limit. Those that wait are to be woken behind that.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, SeqCst);
    }

    /// The most calls inside; 0 is no limit.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(SeqCst)
    }

    /// Whether a call may go on. Else it is in line, whichever thread it waits with, and the hook tells when to ask
    /// again.
    pub(crate) fn lets(self: &Arc<Self>, pass: &mut Pass) -> bool {
        match pass.standing {
            Standing::Inside => return true,
            Standing::Outside | Standing::Aside(_) if self.limit() == 0 => return true,
            Standing::Outside | Standing::Aside(_) | Standing::Waiting(_) => {}
        }
        // The limit is read with the line locked: who goes in by an older one would wake nobody.
        pass.change(self, |line, standing| line.pass(self.limit(), standing))
    }

    /// Has a call wait in line for a place, if it does not yet.
    pub(crate) fn join(self: &Arc<Self>, pass: &mut Pass) {
        pass.change(self, |line, standing| {
            line.join(standing);
            ((), false)
        });
    }

    /// Remembers what came of asking for a first replica.
    pub(crate) fn set_refusal(&self, refusal: Option<String>) {
        let has_one = refusal.is_some();
        let refusal = refusal.map(|why| (why, Instant::now()));
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
        if has_one {
            self.changed.call(); // those that wait are to be told
        }
    }

    /// What came of it, if that was a refusal and not long ago.
    pub(crate) fn refusal(&self) -> Option<String> {
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        let (why, since) = refusal.as_ref()?;
        (since.elapsed() < REFUSAL_TIME).then(|| why.clone())
    }
}

/// Where a call stands before a gate, which it leaves when this ends.
#[derive(Default)]
pub(crate) struct Pass {
    /// Of a call that is in line, or inside.
    gate: Option<Arc<Gate>>,
    standing: Standing,
}

impl Pass {
    fn change<T>(
        &mut self,
        gate: &Arc<Gate>,
        change: impl FnOnce(&mut Line, &mut Standing) -> (T, Wakes),
    ) -> T {
        let mut line = gate.line.lock().unwrap_or_else(PoisonError::into_inner);
        let (result, wakes) = change(&mut line, &mut self.standing);
        drop(line);
        let is_known = matches!(self.standing, Standing::Waiting(_) | Standing::Inside);
        self.gate = is_known.then(|| Arc::clone(gate));
        if wakes {
            gate.changed.call(); // the next one may wait with another thread
        }
        result
    }

    /// Has it wait no more; a place that it has stays.
    pub(crate) fn leave_line(&mut self) {
        if let Some(gate) = self.gate.take() {
            self.change(&gate, |line, standing| ((), line.leave_line(standing)));
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
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
    fn no_more_than_the_limit_are_inside_and_who_leaves_tells_who_waits() {
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
    fn who_came_first_is_next_and_who_has_just_come_is_last() {
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
    fn who_steps_aside_holds_nobody_up_and_keeps_its_ticket() {
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
    fn without_a_limit_nobody_is_in_line() {
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
