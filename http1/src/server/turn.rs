//! What remains of a request between two steps of it, whoever takes them.

use super::clients::Wait;
use super::config::ServerConfig;
use super::memory::Share;
use super::record::Record;
use crate::Refusal;
use crate::head::RequestHead;

/// How far a request was answered; what remains of an exchange between two steps of it.
pub(super) struct Turn {
    pub(super) request: RequestHead,
    pub(super) progress: Progress,
    pub(super) closes: bool,
    pub(super) owes_continue: bool,
    /// Why the body was refused: the answer where the service gives none.
    pub(super) refusal: Option<Refusal>,
    /// Counts it among those of its client that wait.
    pub(super) seat: Option<Wait>,
    /// What the service is told of its answer.
    pub(super) record: Option<Box<Record>>,
}

impl Turn {
    /// The turn of a request whose head was just taken.
    pub(super) fn new(config: &ServerConfig, request: RequestHead, has_body_whole: bool) -> Turn {
        let closes = !request.keeps_alive();
        let owes_continue = request.expects_continue() && !has_body_whole;
        let progress = Progress::Waiting;
        let record = config.tells_answers.then(Record::new);
        Turn { request, progress, closes, owes_continue, record, refusal: None, seat: None }
    }

    pub(super) fn request(&self) -> &RequestHead {
        &self.request
    }

    pub(super) fn path(&self) -> &[u8] {
        self.request.path()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Waiting,
    Started,
    Finished,
    Broken,
}

/// An answer on its way.
pub(super) struct Sending {
    pub(super) turn: Turn,
    pub(super) body: Vec<u8>,
    /// How much of the body was written.
    pub(super) at: usize,
    /// Its part of the memory for such bodies, while it waits.
    pub(super) share: Share,
}
