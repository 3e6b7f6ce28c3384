//! The process groups of running calls, to be killed where fwatchdog must end at once.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kit::sys::child::{self, Child};

/// The groups. An entry leaves before its process is waited for: no id in here belongs to another process.
#[derive(Default)]
pub(crate) struct Groups(Mutex<Vec<i32>>);

impl Groups {
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Kills all of them.
    pub(crate) fn kill(&self) {
        for group in self.lock().iter() {
            child::kill_group(*group);
        }
    }
}

/// A child that is among the groups as long as this lives. Dropped, it leaves them, then is waited for, and is killed
/// where it still runs.
pub(crate) struct ListedChild {
    pub(crate) child: Child,
    groups: &'static Groups,
}

impl ListedChild {
    pub(crate) fn new(child: Child, groups: &'static Groups) -> ListedChild {
        groups.lock().push(child.pid());
        ListedChild { child, groups }
    }
}

impl Drop for ListedChild {
    fn drop(&mut self) {
        let pid = self.child.pid();
        self.groups.lock().retain(|group| *group != pid);
    }
}
