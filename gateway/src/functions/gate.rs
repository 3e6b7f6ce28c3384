//! The limit of a function's calls at once, label `faas.concurrency`: who has a place, and who is to be told when one
//! becomes free.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Hook;
use crate::metrics::FunctionSeries;

/// How long a refusal is the answer to further calls. Behind that they wait for another try.
const REFUSAL_TIME: Duration = Duration::from_secs(2);

/// What the calls of one function have to pass; it stays when the function is replaced by a newer form of itself.
pub(crate) struct Gate {
    inside: AtomicUsize,
    series: Arc<FunctionSeries>,
    changed: Arc<Hook>,
    /// Why its first replica could not be asked for, in the words of whoever refused, and when.
    refusal: Mutex<Option<(String, Instant)>>,
}

impl Gate {
    pub(super) fn new(series: Arc<FunctionSeries>, changed: Arc<Hook>) -> Gate {
        Gate { inside: AtomicUsize::new(0), series, changed, refusal: Mutex::default() }
    }

    /// A place among at most `limit`, if one is free.
    pub(crate) fn enter(self: &Arc<Self>, limit: usize) -> Option<Inside> {
        let more = |inside: usize| (inside < limit).then_some(inside + 1);
        self.inside.fetch_update(SeqCst, SeqCst, more).ok()?;
        Some(Inside(Arc::clone(self)))
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
        self.0.inside.fetch_sub(1, SeqCst);
        if self.0.series.waiting.get() > 0 {
            self.0.changed.call();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_are_inside_and_who_leaves_tells_who_waits() {
        let told = Arc::new(AtomicUsize::new(0));
        let series = Arc::new(FunctionSeries::default());
        let hook = Arc::new(Hook::default());
        let counter = Arc::clone(&told);
        hook.set(move || _ = counter.fetch_add(1, SeqCst));
        let gate = Arc::new(Gate::new(Arc::clone(&series), hook));
        let first = gate.enter(2).unwrap();
        let second = gate.enter(2).unwrap();
        assert!(gate.enter(2).is_none());
        drop(first);
        assert_eq!(told.load(SeqCst), 0, "nobody waits");
        let waits = series.begin_wait();
        let third = gate.enter(2).unwrap();
        assert!(gate.enter(1).is_none(), "the limit became less");
        drop((second, third));
        assert_eq!(told.load(SeqCst), 2);
        drop(waits);
        gate.set_refusal(Some("why".to_owned()));
        assert_eq!((gate.refusal().as_deref(), told.load(SeqCst)), (Some("why"), 3));
    }
}
