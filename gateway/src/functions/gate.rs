//! The limit of a function's calls at once, label `faas.concurrency`: who has a place, who is next, and who is to be told
//! when a place becomes free.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Hook;

/// How long a refusal is the answer to further calls. Behind that they wait for another try.
const REFUSAL_TIME: Duration = Duration::from_secs(2);

/// What the calls of one function have to pass; it stays when the function is replaced by a newer form of itself.
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Arc<Hook>,
    /// Why its first replica could not be asked for, in the words of whoever refused, and when.
    refusal: Mutex<Option<(String, Instant)>>,
}

#[derive(Default)]
struct State {
    inside: usize,
    /// The tickets of those that wait, and the next one.
    line: BTreeSet<u64>,
    next: u64,
}

impl Gate {
    pub(super) fn new(changed: Arc<Hook>) -> Gate {
        Gate { state: Mutex::default(), changed, refusal: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among at most `limit`, if one is free and nobody came earlier. Else the call is in line, as of the first
    /// time, whichever thread it waits with.
    pub(crate) fn enter(self: &Arc<Self>, limit: usize, ticket: &mut Option<Ticket>) -> Option<Inside> {
        let mut state = self.state();
        let is_next = match ticket {
            Some(ticket) => state.line.first() == Some(&ticket.number),
            None => state.line.is_empty(),
        };
        if !is_next || state.inside >= limit {
            ticket.get_or_insert_with(|| self.ticket(&mut state));
            return None;
        }
        state.inside += 1;
        if let Some(ticket) = ticket {
            state.line.remove(&ticket.number);
        }
        let is_next_too = state.inside < limit && !state.line.is_empty();
        drop(state);
        *ticket = None;
        if is_next_too {
            self.changed.call(); // the one behind may wait with another thread
        }
        Some(Inside(Arc::clone(self)))
    }

    /// Has a call wait in line for a place, if it does not yet.
    pub(crate) fn join(self: &Arc<Self>, ticket: &mut Option<Ticket>) {
        ticket.get_or_insert_with(|| self.ticket(&mut self.state()));
    }

    fn ticket(self: &Arc<Self>, state: &mut State) -> Ticket {
        let number = state.next;
        state.next += 1;
        state.line.insert(number);
        Ticket { gate: Arc::clone(self), number }
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

/// A place that is taken as long as this lives.
pub(crate) struct Inside(Arc<Gate>);

impl Drop for Inside {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.inside -= 1;
        let is_awaited = !state.line.is_empty();
        drop(state);
        if is_awaited {
            self.0.changed.call();
        }
    }
}

/// A place in line, which is left when this ends.
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        let was_next = state.line.first() == Some(&self.number);
        state.line.remove(&self.number);
        let is_awaited = was_next && !state.line.is_empty();
        drop(state);
        if is_awaited {
            self.gate.changed.call();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    fn gate() -> (Arc<Gate>, Arc<AtomicUsize>) {
        let told = Arc::new(AtomicUsize::new(0));
        let hook = Arc::new(Hook::default());
        let counter = Arc::clone(&told);
        hook.set(move || _ = counter.fetch_add(1, SeqCst));
        (Arc::new(Gate::new(hook)), told)
    }

    #[test]
    fn no_more_than_the_limit_are_inside_and_who_leaves_tells_who_waits() {
        let (gate, told) = gate();
        let mut none = None;
        let first = gate.enter(2, &mut none).unwrap();
        let second = gate.enter(2, &mut none).unwrap();
        drop(first);
        assert_eq!(told.load(SeqCst), 0, "nobody waits");
        let third = gate.enter(2, &mut none).unwrap();
        assert!(none.is_none());
        let mut ticket = None;
        assert!(gate.enter(2, &mut ticket).is_none() && ticket.is_some());
        drop(second);
        assert_eq!(told.load(SeqCst), 1);
        assert!(gate.enter(1, &mut ticket).is_none(), "the limit became less");
        drop(third);
        assert!(gate.enter(1, &mut ticket).is_some() && ticket.is_none());
        gate.set_refusal(Some("why".to_owned()));
        assert_eq!((gate.refusal().as_deref(), told.load(SeqCst)), (Some("why"), 3));
    }

    #[test]
    fn who_came_first_is_next_and_who_has_just_come_is_last() {
        let (gate, told) = gate();
        let inside = gate.enter(1, &mut None).unwrap();
        let mut tickets = [const { None }; 4];
        gate.join(&mut tickets[0]);
        gate.join(&mut tickets[0]);
        tickets[1..].iter_mut().for_each(|ticket| assert!(gate.enter(1, ticket).is_none()));
        drop(inside);
        let [first, second, third, last] = &mut tickets;
        assert!(gate.enter(1, &mut None).is_none(), "nobody passes those that wait");
        assert!(gate.enter(1, second).is_none());
        let told_before = told.load(SeqCst);
        *first = None;
        assert_eq!(told.load(SeqCst), told_before + 1, "it is the turn of the next one");
        *third = None;
        assert_eq!(told.load(SeqCst), told_before + 1);
        assert!(gate.enter(2, last).is_none());
        let inside = gate.enter(2, second).unwrap();
        assert_eq!(told.load(SeqCst), told_before + 2, "there is room for one more");
        assert!(gate.enter(2, last).is_some() && last.is_none());
        drop(inside);
        assert_eq!(told.load(SeqCst), told_before + 2, "nobody waits");
    }
}
