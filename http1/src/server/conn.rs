//! A connection of the server, whoever has it at the moment: the table, its poller or a worker.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kit::sys::Socket;

use super::clients::Client;
use super::config::ServerConfig;
use super::host::Host;
use super::memory::Share;
use super::record::Answered;
use super::table::{Phase, Slotted, Token};
use super::turn::{Sending, Turn};
use crate::Refusal;
use crate::body::Length;
use crate::head::{RequestHead, Scan, why_start};
use crate::wire::{Incoming, Outgoing};
use crate::writer::{HeadWriter, Persistence};
use crate::written::Written;

/// What becomes of a connection after an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    KeepAlive,
    /// Everything is done, or the peer is gone.
    Close,
    /// The peer may still be sending; see RFC 9112 section 9.6.
    CloseSlowly,
}

/// A connection that was just accepted: its socket, its peer, and the number of the listener.
pub(super) type Accepted = (Socket, SocketAddr, u8);

/// A client's connection. It has a buffer only while bytes are in it.
pub(super) struct Conn {
    pub(super) socket: Socket,
    pub(super) peer: SocketAddr,
    /// The number of the listener by which it came.
    pub(super) listener: u8,
    /// The number of its poller.
    pub(super) poller: usize,
    pub(super) token: Token,
    pub(super) phase: Phase,
    /// When the phase began.
    pub(super) since: Instant,
    /// Its poller saw that the peer shut its side down.
    pub(super) is_hung_up: bool,
    /// Its peer is a proxy, which brings requests of others.
    pub(super) is_proxied: bool,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    pub(super) scan: Scan,
    /// Its part of the memory for heads, and what of it the head of its request takes.
    pub(super) share: Share,
    head_bytes: usize,
    /// Its client; `None` where clients are not told apart.
    pub(super) client: Option<Arc<Client>>,
    /// The client of the present request, if it came through a proxy.
    pub(super) caller: Option<Arc<Client>>,
    /// The request whose body is waited for.
    pub(super) turn: Option<Box<Turn>>,
    /// The answer whose rest waits for its client to read.
    pub(super) sending: Option<Box<Sending>>,
}

impl Conn {
    pub(super) fn new((socket, peer, listener): Accepted, poller: usize, token: Token, share: Share) -> Conn {
        Conn {
            socket,
            peer,
            listener,
            poller,
            token,
            share,
            head_bytes: 0,
            phase: Phase::New,
            since: Instant::now(),
            is_hung_up: false,
            is_proxied: false,
            incoming: Incoming::new(),
            outgoing: Outgoing::new(),
            scan: Scan::default(),
            client: None,
            caller: None,
            turn: None,
            sending: None,
        }
    }

    /// The client that the present request is counted of.
    pub(super) fn client(&self) -> Option<&Arc<Client>> {
        self.caller.as_ref().or(self.client.as_ref())
    }

    /// The number of that client.
    pub(super) fn client_number(&self) -> usize {
        self.client().map_or(0, |client| client.number)
    }

    /// Begins to wait.
    pub(super) fn enter(&mut self, phase: Phase, now: Instant) {
        (self.phase, self.since) = (phase, now);
        self.outgoing.rest();
        self.turn = None;
        self.head_bytes = 0;
        self.share.leave_client();
        self.rest();
    }

    /// Gives back what memory is not needed for what has arrived, and counts the rest.
    pub(super) fn rest(&mut self) {
        self.incoming.rest();
        self.count();
    }

    /// Counts the memory that it holds of what its client sent.
    pub(super) fn count(&mut self) {
        self.share.set(self.head_bytes + self.incoming.capacity());
    }

    /// Begins to wait for the next request, or for the rest of its head.
    pub(super) fn await_next(&mut self, now: Instant) {
        let phase = if self.incoming.pending().is_empty() { Phase::Idle } else { Phase::Head };
        self.caller = None;
        self.enter(phase, now);
    }

    /// Whether it has waited in its phase for `span`.
    pub(super) fn has_waited(&self, span: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= span
    }

    /// Whether bytes are there that nobody has read or taken.
    pub(super) fn has_input(&self) -> bool {
        !self.incoming.pending().is_empty() || matches!(self.socket.peek(), Ok(Some(1..)))
    }

    /// Ends it, unless it waits for a request or a body, and bytes have arrived that nobody has read yet: closing it
    /// then would lose what its peer was right to send. Whether it is at its end.
    pub(super) fn end_unread(&self) -> bool {
        match self.phase {
            Phase::New | Phase::Idle => self.socket.shutdown_unread(),
            Phase::Body => !self.has_input(),
            Phase::Head | Phase::Answering | Phase::Closing => true,
        }
    }

    /// Whether more has arrived than a head may have.
    pub(super) fn is_over(&self, max_header_bytes: usize) -> bool {
        self.incoming.pending().len() > max_header_bytes
    }

    /// Why no request can begin with what has arrived, as far as its first byte tells it.
    pub(super) fn why_start(&self) -> Option<Refusal> {
        why_start(self.incoming.pending())
    }

    /// The length of the next head, if it is there whole.
    pub(super) fn next_head(&mut self) -> Option<usize> {
        self.scan.end(self.incoming.pending())
    }

    pub(super) fn fill(&mut self, room: usize) -> io::Result<Option<usize>> {
        self.incoming.fill(&self.socket, room)
    }

    /// Takes the head that is there and begins its body.
    pub(super) fn take_request(&mut self, config: &ServerConfig) -> Result<RequestHead, Refusal> {
        let end = self.next_head().unwrap_or_default(); // it is asked for a complete head only
        self.scan = Scan::default();
        if end > config.max_header_bytes {
            return Err(Refusal::HeadTooLarge);
        }
        let bytes = self.incoming.take_head(end);
        let head = RequestHead::parse(bytes, config.max_headers)?;
        self.incoming.begin(head.framing(), config.body_limit())?;
        self.head_bytes = head.memory();
        self.rest();
        Ok(head)
    }

    /// Answers a request whose head is refused, or whose body did not begin; the connection is to be closed.
    pub(super) fn refuse(&mut self, host: &dyn Host, refusal: Refusal) {
        let (message, bytes) = self.send_refusal(host, refusal);
        if host.config().tells_answers {
            let answered = Answered {
                peer: self.peer,
                request: self.turn.as_ref().map(|turn| turn.request()),
                status: Some(refusal.status()),
                head: &message,
                bytes,
                took: self.since.elapsed(),
            };
            host.answered(&answered);
        }
    }

    /// Answers a refusal, and returns the answer and the length of its body.
    pub(super) fn send_refusal(&mut self, host: &dyn Host, refusal: Refusal) -> (Written, u64) {
        if refusal == Refusal::Tls {
            host.say_tls(self.peer);
        }
        let (message, bytes) = refusal_message(host, refusal);
        self.outgoing.interim(&message);
        let _ = self.outgoing.flush(&self.socket); // it fits, or the peer is gone
        (message, bytes)
    }
}

/// The whole answer to a refusal, and the length of its body.
fn refusal_message(host: &dyn Host, refusal: Refusal) -> (Written, u64) {
    let mut text = host.line(refusal);
    text.push('\n');
    let mut head = HeadWriter::response(refusal.status());
    head.text("Content-Type", "text/plain; charset=utf-8");
    let may_come_back =
        [Refusal::Overloaded, Refusal::TooManyOfClient, Refusal::Draining, Refusal::HeadMemory];
    if may_come_back.contains(&refusal) {
        head.text("Retry-After", "1");
    }
    host.refused(refusal, &mut head);
    let bytes = text.len() as u64;
    let mut message = head.finish(Length::Known(bytes), true, Persistence::Close);
    message.put(text.as_bytes());
    (message, bytes)
}

impl Slotted for Box<Conn> {
    fn token(&self) -> Token {
        self.token
    }

    fn phase(&self) -> Phase {
        self.phase
    }

    fn since(&self) -> Instant {
        self.since
    }

    fn has_input(&self) -> bool {
        Conn::has_input(self)
    }
}
