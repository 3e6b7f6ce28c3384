//! The process groups of running calls, to be killed where fwatchdog must end at once.

use kit::Guarded;

use kit::sys::child::{self, Child};

/// The groups. An entry leaves before its process is waited for: no id in here belongs to another process.
#[derive(Default)]
pub(crate) struct Groups(pub(super) Guarded<Vec<i32>>);

impl Groups {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Kills all of them.
    pub(crate) fn kill(&self) {
        for group in self.0.lock().iter() {
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
        groups.0.lock().push(child.pid());
        ListedChild { child, groups }
    }
}

impl Drop for ListedChild {
    fn drop(&mut self) {
        let pid = self.child.pid();
        self.groups.0.lock().retain(|group| *group != pid);
    }
}
