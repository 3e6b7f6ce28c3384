//! Why a function has no replica, by what the engine remembers of its tasks: one question in [`ASK_INTERVAL`] at most.
//!
//! A task that ends once is an accident: another takes its place, and calls wait for that one. Only tasks count that
//! ended since the function last had a replica, and since its service was last written, as scaling from zero does.

use std::time::{Duration, Instant};

use docker_sock::Task;

use super::select::is_over;
use crate::function::Known;

/// Between two questions about one function. The answer has some five tasks for each replica.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// So many ends in a row are no accident.
const MANY: usize = 2;

/// The engine's words for a task that ended with the exit code of a bad configuration.
const BAD_CONFIGURATION: &str = "non-zero exit (2)";

/// Why one function has no replica.
#[derive(Debug, Default)]
pub(super) struct Reason {
    /// The version of the Swarm up to which nothing counts; `None` before the first look.
    since: Option<u64>,
    /// What the last question has found.
    found: Option<Box<str>>,
    /// When the next question may be asked.
    next: Option<Instant>,
}

/// What one look at a function has found.
pub(super) struct Seen<'a> {
    /// Its tasks that are meant to run.
    pub(super) tasks: &'a [Task],
    /// The newest version of the Swarm that was seen in any task.
    pub(super) newest: u64,
    /// Whether a replica takes calls.
    pub(super) has_replica: bool,
}

impl Reason {
    /// Adds the reason that is known to a function without a replica of which no task is on its way up. Answers whether
    /// the tasks that ended are to be asked for, and handed to [`Reason::learn`].
    pub(super) fn explain(&mut self, function: &mut Known, seen: &Seen<'_>, now: Instant) -> bool {
        if seen.has_replica || self.since.is_none() {
            self.since = Some(seen.newest);
        }
        let lacks = function.endpoints.is_empty() && function.wanted > 0 && function.problem.is_none();
        if !lacks || seen.tasks.iter().any(is_under_way) {
            return false;
        }
        function.problem = self.found.as_deref().map(str::to_owned);
        let is_due = self.next.is_none_or(|next| next <= now);
        if is_due {
            self.next = Some(now + ASK_INTERVAL);
        }
        is_due
    }

    /// Reads the reason from all tasks of the function's service, also those that ended. The service was written in this
    /// version.
    pub(super) fn learn(&mut self, function: &mut Known, tasks: &[Task], version: u64) {
        let since = self.since.unwrap_or_default().max(version);
        self.found = refusal(tasks, version, since).map(String::into_boxed_str);
        function.problem = self.found.as_deref().map(str::to_owned);
    }
}

/// Whether a container is being made of it, or runs.
fn is_under_way(task: &Task) -> bool {
    matches!(task.state.as_str(), "preparing" | "starting" | "running")
}

/// Why a service's tasks do not start, in the engine's words for the last one that ended: where one was rejected, some
/// have failed, or one has ended and none is to follow.
fn refusal(tasks: &[Task], version: u64, since: u64) -> Option<String> {
    let ended = |since: u64| {
        tasks.iter().filter(move |task| task.version > since && is_over(task) && has_reason(task))
    };
    let newest = |since: u64| ended(since).max_by_key(|task| task.version);
    let is_last = !tasks.iter().any(|task| matches!(task.desired_state.as_str(), "running" | "ready"));
    let last = match newest(since) {
        Some(last) if last.state == "rejected" || ended(since).count() >= MANY => last,
        _ if is_last => newest(version)?,
        _ => return None,
    };
    Some(match last.error.as_str() {
        "" => "the process ended by itself with code 0".to_owned(),
        error if error.contains(BAD_CONFIGURATION) => {
            format!("{error}: a setting was refused, see docker service logs")
        }
        error => error.to_owned(),
    })
}

/// Whether it ended by itself, and not since it was told to.
fn has_reason(task: &Task) -> bool {
    !task.error.is_empty() || task.state == "complete"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::swarm::select::tests::task;

    /// Tasks of the service `echo`: version, state, error.
    fn tasks(rows: &[(u64, &str, &str)]) -> Vec<Task> {
        let one = |(version, state, error): &(u64, &str, &str)| Task {
            version: *version,
            error: (*error).to_owned(),
            desired_state: if *state == "ready" { "ready" } else { "shutdown" }.to_owned(),
            ..task("echo", state, &[])
        };
        rows.iter().map(one).collect()
    }

    fn why(rows: &[(u64, &str, &str)], since: u64) -> Option<String> {
        refusal(&tasks(rows), 1, since)
    }

    const WAITS: (u64, &str, &str) = (90, "ready", "");

    #[test]
    fn a_rejected_task_is_a_reason_and_a_failed_one_an_accident() {
        let (failed, other) = ((11, "failed", "exit (1)"), (12, "failed", "exit (137)"));
        assert_eq!(why(&[WAITS, (11, "rejected", "no such image")], 10).as_deref(), Some("no such image"));
        assert_eq!(why(&[WAITS, failed], 10), None);
        assert_eq!(why(&[WAITS, other, failed], 10).as_deref(), Some("exit (137)"), "the last one's words");
        assert_eq!(why(&[WAITS, other, failed], 11), None, "one of them does not count");
        assert_eq!(
            why(&[WAITS, (11, "shutdown", ""), (12, "shutdown", "")], 10),
            None,
            "they were told to end"
        );
        let complete = [WAITS, (11, "complete", ""), (12, "complete", "")];
        assert_eq!(why(&complete, 10).as_deref(), Some("the process ended by itself with code 0"));
        let refused =
            [WAITS, (11, "failed", "task: non-zero exit (2)"), (12, "failed", "task: non-zero exit (2)")];
        let told = why(&refused, 10).unwrap();
        assert!(told.starts_with("task: non-zero exit (2): a setting was refused"), "{told}");
        assert_eq!(why(&[], 10), None);
    }

    #[test]
    fn one_end_is_enough_where_no_other_task_follows() {
        let failed = (11, "failed", "exit (1)");
        assert_eq!(why(&[failed], 20).as_deref(), Some("exit (1)"), "since the service was written");
        assert_eq!(why(&[(1, "failed", "exit (1)")], 20), None, "that was before");
    }

    /// Looks at a function without a replica: its problem, and whether the tasks were asked for.
    fn look(
        reason: &mut Reason,
        history: &[Task],
        (tasks, has_replica): (&[Task], bool),
        now: Instant,
    ) -> (Option<String>, bool) {
        let mut function = Known::named("echo");
        let newest = tasks.iter().map(|task| task.version).max().unwrap_or_default();
        let is_asked = reason.explain(&mut function, &Seen { tasks, newest, has_replica }, now);
        if is_asked {
            reason.learn(&mut function, history, 1);
        }
        (function.problem, is_asked)
    }

    #[test]
    fn what_was_before_the_last_replica_does_not_count() {
        let (mut reasons, now) = (Reason::default(), Instant::now());
        let later = |seconds| now + seconds * ASK_INTERVAL;
        let old = tasks(&[(5, "failed", "exit (1)"), (6, "failed", "exit (1)"), WAITS]);
        let at = |version| [Task { version, ..task("echo", "assigned", &[]) }];
        let none = (None, true);
        assert_eq!(look(&mut reasons, &old, (&at(7), false), now), none, "from before the gateway");
        assert_eq!(look(&mut reasons, &old, (&at(8), true), later(1)), none);
        let new = tasks(&[(8, "failed", "exit (1)"), (9, "failed", "exit (1)"), WAITS]);
        assert_eq!(
            look(&mut reasons, &new, (&at(10), false), later(2)),
            none,
            "one of them is the replica's end"
        );
        let new = tasks(&[(9, "failed", "exit (1)"), (11, "failed", "exit (3)"), WAITS]);
        let told = Some("exit (3)".to_owned());
        assert_eq!(look(&mut reasons, &new, (&at(12), false), later(3)), (told.clone(), true));
        assert_eq!(
            look(&mut reasons, &new, (&at(12), false), later(3)),
            (told.clone(), false),
            "not again so soon"
        );
        let starting = [Task { version: 12, ..task("echo", "starting", &[]) }];
        assert_eq!(look(&mut reasons, &new, (&starting, false), later(4)), (None, false), "it may do");
        assert_eq!(look(&mut reasons, &new, (&at(13), false), later(4)), (told, true));
    }
}
