//! One process of the function, with its pipes and its mark.

use std::time::Duration;

use kit::sys::pipe::PipeEnd;

use super::groups::ListedChild;
use super::mark::Mark;
use super::tree;

/// The process.
pub(crate) struct Instance {
    pub(crate) listed: ListedChild,
    pub(crate) pipes: Pipes,
    pub(crate) mark: Mark,
}

/// Our ends of the process's pipes.
pub(crate) struct Pipes {
    pub(crate) stdin: PipeEnd,
    pub(crate) stdout: PipeEnd,
    /// `None` where STDERR goes into STDOUT.
    pub(crate) stderr: Option<PipeEnd>,
}

impl Instance {
    /// Ends the process and all that it has started. Its STDIN stays open until then: an end of file would tell the
    /// process to begin.
    pub(crate) fn end(mut self, grace: Duration) {
        tree::end(&mut self.listed.child, self.mark, grace);
        drop((self.pipes, self.listed));
    }
}
