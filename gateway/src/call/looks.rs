//! Looks of the provider for calls whose replicas all refuse. One look at a time serves all calls that asked before the
//! look began: an engine that hangs holds one worker and no more.

use std::time::{Duration, Instant};

use kit::{Deadline, Guarded};

use super::upkeep::Upkeep;

/// How long the provider may take to say whether replicas that all refuse are still there.
const LOOK_TIME: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(crate) struct Looks(Guarded<State>);

#[derive(Default)]
struct State {
    is_looking: bool,
    /// When the last whole look began.
    last: Option<Instant>,
}

impl Looks {
    /// Whether the provider has looked since `asked`. If not, it looks now. False while another call's look runs, and
    /// where the deadline cuts this look short.
    pub(super) fn ask(&self, upkeep: &dyn Upkeep, asked: Instant, deadline: Deadline) -> bool {
        self.have_looked_since(asked, || {
            upkeep.look_again(deadline.within(LOOK_TIME));
            !deadline.has_passed()
        })
    }

    fn have_looked_since(&self, asked: Instant, look: impl FnOnce() -> bool) -> bool {
        let mut state = self.0.lock();
        if state.last.is_some_and(|began| began >= asked) {
            return true;
        }
        if state.is_looking {
            return false;
        }
        state.is_looking = true;
        let last = state.last;
        drop(state);
        let mut looking = Looking(self, last);
        let began = Instant::now();
        let is_whole = look();
        if is_whole {
            looking.1 = Some(began);
        }
        is_whole
    }
}

/// One look, and when the last whole look began as of this look's end.
struct Looking<'a>(&'a Looks, Option<Instant>);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        *self.0.0.lock() = State { is_looking: false, last: self.1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_is_for_all_that_asked_before_it() {
        let looks = Looks::default();
        let before = Instant::now();
        assert!(!looks.have_looked_since(before, || false), "it was cut short");
        assert!(looks.have_looked_since(before, || {
            !looks.have_looked_since(before, || unreachable!("somebody else looks"))
        }));
        assert!(looks.have_looked_since(before, || unreachable!("it was looked since")));
        assert!(!looks.have_looked_since(Instant::now(), || false), "that was before");
    }
}
