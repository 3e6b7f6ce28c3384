//! The body of a request on its way to an upstream. Its first bytes are kept for a second try. If the body is checked,
//! its last bytes are held back until the check is done.

/// The most bytes of a body that are kept for a second try.
pub const MAX_KEPT_BYTES: usize = 16 * 1024;

/// Checks the body of a request, which needs all of its bytes.
pub trait Check: Send {
    /// Takes the next bytes.
    fn update(&mut self, data: &[u8]);

    /// Whether the check succeeds, now that the body has ended.
    fn is_right(self: Box<Self>) -> bool;
}

/// The body of a request: bytes that were read before or are kept for a second try. The client sends the rest.
#[derive(Default)]
pub struct Upload {
    pub(crate) kept: Vec<u8>,
    /// How many of the kept bytes were sent in this try.
    pub(crate) at: usize,
    /// Whether bytes were sent that were not kept.
    is_incomplete: bool,
    /// The check that the last bytes wait for. A trait object: programs without checks do not contain the code.
    pending: Option<Box<dyn Judge>>,
}

/// A check that is not done. `kept` holds the bytes that may be sent.
trait Judge: Send {
    fn hold(&mut self, data: &[u8], kept: &mut Vec<u8>);
    fn judge(self: Box<Self>, kept: &mut Vec<u8>) -> bool;
    fn judge_alone(&mut self, kept: &mut Vec<u8>);
}

/// A body whose check is not done. Its last bytes are held back: the upstream must not take the rest for the whole.
struct Pending {
    check: Box<dyn Check>,
    held: Vec<u8>,
    /// The upstream takes no more: the rest is only checked.
    is_unwanted: bool,
}

impl Judge for Pending {
    fn hold(&mut self, data: &[u8], kept: &mut Vec<u8>) {
        self.check.update(data);
        std::mem::swap(kept, &mut self.held);
        self.held.clear();
        if !self.is_unwanted {
            self.held.extend_from_slice(data);
        }
    }

    fn judge(self: Box<Self>, kept: &mut Vec<u8>) -> bool {
        *kept = self.held;
        self.check.is_right()
    }

    fn judge_alone(&mut self, kept: &mut Vec<u8>) {
        self.is_unwanted = true;
        kept.clear();
        self.held.clear();
    }
}

impl Upload {
    /// A body that was read whole.
    #[must_use]
    pub fn of(whole: Vec<u8>) -> Upload {
        Upload { kept: whole, ..Upload::default() }
    }

    /// A body whose end is sent only if the check succeeds. The check has seen `held`, which was read before.
    #[must_use]
    pub fn checked(held: Vec<u8>, check: Box<dyn Check>) -> Upload {
        let pending = Pending { check, held, is_unwanted: false };
        Upload { pending: Some(Box::new(pending)), ..Upload::default() }
    }

    /// Goes back to the start. False if bytes were sent that were not kept.
    pub(crate) fn rewind(&mut self) -> bool {
        self.at = 0;
        !self.is_incomplete
    }

    pub(crate) fn keep(&mut self, data: &[u8]) {
        if self.kept.len() + data.len() > MAX_KEPT_BYTES {
            self.is_incomplete = true;
            self.kept = Vec::new();
        }
        if !self.is_incomplete {
            self.kept.extend_from_slice(data);
        }
        self.at = self.kept.len();
    }

    /// Whether a check is not done.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Holds the next bytes back, and releases the ones held before. Earlier bytes must have been sent.
    pub(crate) fn hold(&mut self, data: &[u8]) {
        let Some(pending) = &mut self.pending else { return };
        pending.hold(data, &mut self.kept);
        self.at = 0;
        self.is_incomplete |= !self.kept.is_empty();
    }

    /// Ends the check, and releases the last bytes. False if the check fails.
    pub(crate) fn judge(&mut self) -> bool {
        let Some(pending) = self.pending.take() else { return true };
        self.at = 0;
        pending.judge(&mut self.kept)
    }

    /// Notes that the upstream takes no more. Whether the rest is to be checked all the same.
    pub(crate) fn judge_alone(&mut self) -> bool {
        let Some(pending) = &mut self.pending else { return false };
        pending.judge_alone(&mut self.kept);
        (self.at, self.is_incomplete) = (0, true);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wants a body with so many bytes.
    struct Wants(usize);

    impl Check for Wants {
        fn update(&mut self, data: &[u8]) {
            self.0 = self.0.wrapping_sub(data.len());
        }

        fn is_right(self: Box<Self>) -> bool {
            self.0 == 0
        }
    }

    /// Takes what may be sent, as a try does.
    fn sent(upload: &mut Upload) -> Vec<u8> {
        let sent = upload.kept[upload.at..].to_vec();
        upload.at = upload.kept.len();
        sent
    }

    #[test]
    fn the_end_of_a_body_waits_until_it_was_judged() {
        for (wants, is_right) in [(6, true), (5, false), (7, false)] {
            let mut upload = Upload::checked(Vec::new(), Box::new(Wants(wants)));
            upload.hold(b"ab");
            assert_eq!((sent(&mut upload), upload.rewind()), (b"".to_vec(), true), "nothing has gone");
            upload.hold(b"c");
            assert_eq!((sent(&mut upload), upload.rewind()), (b"ab".to_vec(), false));
            upload.at = upload.kept.len();
            upload.hold(b"def");
            assert_eq!(sent(&mut upload), b"c");
            assert_eq!((upload.is_pending(), upload.judge(), upload.is_pending()), (true, is_right, false));
            assert_eq!(sent(&mut upload), b"def");
        }
    }

    #[test]
    fn what_was_held_from_the_start_can_be_sent_again_once_it_was_judged() {
        let mut upload = Upload::checked(b"abc".to_vec(), Box::new(Wants(0)));
        assert!(upload.rewind() && sent(&mut upload).is_empty());
        assert!(upload.judge() && sent(&mut upload) == b"abc" && upload.rewind());
        assert_eq!(sent(&mut upload), b"abc");
    }

    #[test]
    fn a_body_that_nobody_takes_is_judged_all_the_same() {
        let mut upload = Upload::checked(b"ab".to_vec(), Box::new(Wants(4)));
        upload.hold(b"cd");
        assert!(upload.judge_alone());
        upload.hold(b"ef");
        assert_eq!((sent(&mut upload).len(), upload.rewind()), (0, false));
        assert!(upload.judge() && sent(&mut upload).is_empty());
        assert!(!Upload::of(b"ab".to_vec()).judge_alone(), "there is nothing to judge");
    }
}
