//! Moves the bytes of one call in one poll loop: the request's body to STDIN, STDOUT to the answer, STDERR to the log.
//! The loop never waits for one pipe alone: a full pipe cannot stop the others. Memory is bounded whatever the sizes.

use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use http1::{Body, BodyError, Exchange, HeadWriter, Length, Refusal};
use kit::Deadline;
use kit::sys::child::{Child, End};
use kit::sys::pipe::PipeEnd;
use kit::sys::{EventFd, PollFd, Ready, poll};

use super::after_answer::Output;
use crate::cgi::header_block::{Block, Found, Malformed};
use crate::process::instance::Pipes;
use crate::process::log_stream::{LogStream, log_call};
use crate::spool::{Spool, Spools};

/// A background child may keep STDOUT open after the process has ended. The answer ends once STDOUT is quiet for this
/// long.
const QUIET: Duration = Duration::from_millis(100);

/// How long the output of a background child is read after the process has ended, within the time limit of the call.
/// Longer than a pipeline needs to write what it has, short enough to give the worker back.
const FOLLOW_TIME: Duration = Duration::from_secs(5);

/// The most that a pipe holds (pipe(7), `pipe-max-size`): output of the process itself that may be unread at its end.
const PIPE_BYTES: usize = 1 << 20;

/// Between two checks of a process without a descriptor to poll, on old kernels.
const CHECK_PAUSE: Duration = Duration::from_millis(20);

/// Reads or writes in a row before others get a turn.
const BURST: usize = 16;

/// A client sends and reads nothing, and the process takes no more: after this long, output goes to a file. A client
/// that reads slowly is waited for.
const SILENCE: Duration = Duration::from_millis(200);

/// How long such a client may take once no more output can be held: neither side can move.
const UNREAD_TIME: Duration = Duration::from_secs(5);

/// Why a call is over.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The process has ended, and its output is complete.
    Ended(End),
    /// The output is as long as its header block said. The process may still run.
    Complete,
    /// The process took too long.
    Deadline,
    /// The client went away.
    HungUp,
    /// The rest of the request cannot be taken.
    Refused(Refusal),
    /// The client does not read its answer.
    Stalled,
    /// The client sends and does not read, and no more of the answer can be held, for this reason.
    Unread(String),
    /// The output does not begin as `cgi_response` asks for.
    Malformed(Malformed),
    /// fwatchdog ends.
    Stopped,
    /// The system failed.
    Failed(io::Error),
}

/// The bounds of one call, and what it shares with others.
pub(crate) struct Limits<'a> {
    /// When the process and its output must have ended.
    pub(crate) deadline: Deadline,
    /// Output of up to this many bytes is held until the process has ended; 0 holds none.
    pub(crate) buffer_output: usize,
    /// Output that may wait in memory for a client that still sends.
    pub(crate) held_output: usize,
    /// Files for output beyond that.
    pub(crate) spools: &'a Spools,
    /// Set where the output must begin with a header block: the answer's type if the block names none.
    pub(crate) cgi_content_type: Option<&'a [u8]>,
    /// Readable once the call must end.
    pub(crate) stop: &'a EventFd,
}

/// The answer of a process.
pub(crate) struct Answer {
    /// The head of a good answer that has not begun, or why the output tells none.
    pub(crate) head: Result<HeadWriter, Malformed>,
    /// The status of an answer that has begun.
    pub(crate) begun: Option<u16>,
    /// The output behind the header block that was not sent yet.
    pub(crate) output: Vec<u8>,
    /// The `Content-Length` of the header block.
    pub(crate) length: Option<u64>,
    /// The bytes that the body lacks of that length.
    pub(crate) missing: u64,
}

/// What the request's body waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Feed {
    /// Nothing.
    Ready,
    /// More bytes from the client, since then.
    Client(Instant),
    /// Room in STDIN.
    Pipe,
    /// The whole body was moved.
    Done,
}

/// One call.
pub(crate) struct Relay<'a, 'e> {
    exchange: &'a mut Exchange<'e>,
    limits: Limits<'a>,
    /// The head of the answer, until the answer begins. With `cgi_response` the output tells another.
    head: Option<HeadWriter>,
    /// The header block, until its end is found.
    block: Option<Block>,
    /// The `Content-Length` of the block.
    length: Option<u64>,
    /// The bytes that came behind the block.
    received: u64,
    /// The status of the answer, once it has begun.
    begun: Option<u16>,
    id: &'a str,
    stdin: Option<PipeEnd>,
    stdout: Option<PipeEnd>,
    stderr: LogStream,
    feed: Feed,
    output: Vec<u8>,
    /// How much of `output` was sent.
    sent: usize,
    /// The output behind `output`, in a file.
    spool: Spool<'a>,
    /// When the client last took bytes.
    sent_at: Instant,
    /// When bytes of the request were last taken.
    fed_at: Instant,
    is_stdout_ready: bool,
    is_stderr_ready: bool,
    end: Option<End>,
    /// How long STDOUT may be read after the process has ended.
    follow_until: Deadline,
    /// Once the process has ended: the bytes in STDOUT that the process itself may have written.
    owed: usize,
    /// The later of the process's end and its last output.
    quiet_since: Instant,
}

impl<'a, 'e> Relay<'a, 'e> {
    pub(crate) fn new(
        exchange: &'a mut Exchange<'e>,
        pipes: Pipes,
        limits: Limits<'a>,
        id: &'a str,
    ) -> Relay<'a, 'e> {
        let now = Instant::now();
        let block = limits.cgi_content_type.map(|_| Block::default());
        let spool = Spool::new(limits.spools);
        Relay {
            exchange,
            limits,
            head: None,
            block,
            length: None,
            received: 0,
            begun: None,
            id,
            stdin: Some(pipes.stdin),
            stdout: Some(pipes.stdout),
            stderr: LogStream::new(pipes.stderr),
            feed: Feed::Ready,
            output: Vec::new(),
            sent: 0,
            spool,
            sent_at: now,
            fed_at: now,
            is_stdout_ready: false,
            is_stderr_ready: false,
            end: None,
            follow_until: Deadline::NEVER,
            owed: 0,
            quiet_since: now,
        }
    }

    /// Runs until the call is over. `head` is that of a good answer, unless the output tells another. Where the outcome
    /// is not its end, the process may still run. STDIN then stays open while `self` lives: an end of file would tell
    /// the process that the body was whole.
    pub(crate) fn run(&mut self, child: &mut Child, head: HeadWriter) -> Outcome {
        self.head = Some(head);
        loop {
            match self.turn(child) {
                Ok(None) => {}
                Ok(Some(end)) => return Outcome::Ended(end),
                Err(outcome) => return outcome,
            }
        }
    }

    /// The answer, once the process has ended or its answer is complete, and the output that may still come.
    pub(crate) fn into_answer(mut self) -> (Answer, Output) {
        self.read_stderr();
        let (body, missing) = (self.body_length(), self.missing());
        let surplus = body.map_or(0, |body| self.received.saturating_sub(body));
        let rest = Output { stdout: self.stdout, stderr: self.stderr, surplus };
        let head = match (self.block, self.head) {
            (None, Some(head)) => Ok(head),
            _ => Err(Malformed::Cut),
        };
        (Answer { head, begun: self.begun, output: self.output, length: self.length, missing }, rest)
    }

    /// The length of the answer's body, where the block tells it.
    fn body_length(&self) -> Option<u64> {
        let status = self.begun.or(self.head.as_ref().map(HeadWriter::status));
        let has_body = self.exchange.request().method() != "HEAD" && !matches!(status, Some(204 | 304));
        self.length.map(|length| if has_body { length } else { 0 })
    }

    fn missing(&self) -> u64 {
        self.body_length().map_or(0, |body| body.saturating_sub(self.received))
    }

    /// Whether the answer is whole and the process has its whole input: then nobody waits for the end of the process.
    fn is_complete(&self) -> bool {
        self.length.is_some() && self.missing() == 0 && self.feed == Feed::Done && !self.is_backed_up()
    }

    /// Moves what is ready, then waits for more.
    fn turn(&mut self, child: &mut Child) -> Result<Option<End>, Outcome> {
        if self.feed == Feed::Ready {
            self.feed()?;
        }
        if self.is_stdout_ready {
            self.read_stdout()?;
        }
        if self.is_stderr_ready {
            self.read_stderr();
        }
        if self.is_streaming() {
            self.send()?;
        }
        if self.is_complete() {
            return Err(Outcome::Complete);
        }
        if self.stdout.is_some() && self.owed == 0 && self.follow_until.has_passed() {
            log::warn!("call={} a background process goes on writing to STDOUT: the answer ends", self.id);
            (self.stdout, self.is_stdout_ready) = (None, false);
        }
        if let Some(end) = self.finished() {
            return Ok(Some(end));
        }
        self.wait(child)?;
        Ok(None)
    }

    fn is_streaming(&self) -> bool {
        self.exchange.is_started()
    }

    /// Whether some of the answer waits for the client.
    fn is_backed_up(&self) -> bool {
        self.is_streaming() && (self.sent < self.output.len() || !self.spool.is_empty())
    }

    /// Whether both sides wait for each other: the client does not read, so that the process does not read either.
    fn is_jammed(&self) -> bool {
        self.feed == Feed::Pipe && self.is_backed_up()
    }

    /// Whether STDOUT is read: the client keeps up, or it still sends and the output can be held.
    fn reads_stdout(&self) -> bool {
        !self.is_backed_up() || self.feed != Feed::Done && (self.has_memory() || self.spools())
    }

    fn has_memory(&self) -> bool {
        self.spool.is_empty() && self.output.len() - self.sent < self.limits.held_output
    }

    /// Whether output goes to a file.
    fn spools(&self) -> bool {
        let is_silent = || self.is_jammed() && later(self.sent_at, SILENCE).has_passed();
        self.spool.refusal().is_none() && (!self.spool.is_empty() || is_silent())
    }

    /// Moves the body to STDIN. What the process does not want is read and dropped: a client that sends before it reads
    /// must see the answer.
    fn feed(&mut self) -> Result<(), Outcome> {
        for _ in 0..BURST {
            let data = match self.exchange.body() {
                Ok(Body::Data(data)) => data,
                Ok(Body::Wait) => {
                    self.feed = Feed::Client(Instant::now());
                    return Ok(());
                }
                Ok(Body::End) => {
                    self.feed = Feed::Done;
                    self.stdin = None;
                    return Ok(());
                }
                Err(BodyError::Refused(refusal)) => return Err(Outcome::Refused(refusal)),
                Err(BodyError::Timeout) => return Err(Outcome::Refused(Refusal::BodyStall)),
                Err(BodyError::Closed | BodyError::Io(_)) => return Err(Outcome::HungUp),
            };
            let taken = match &self.stdin {
                Some(stdin) => stdin.write(data),
                None => Ok(Some(data.len())),
            };
            match taken {
                Ok(Some(count)) => {
                    self.exchange.consume(count);
                    self.fed_at = Instant::now();
                }
                Ok(None) => {
                    self.feed = Feed::Pipe;
                    return Ok(());
                }
                Err(_) => self.stdin = None, // the process closed it, which is its right
            }
        }
        Ok(())
    }

    fn read_stdout(&mut self) -> Result<(), Outcome> {
        for _ in 0..BURST {
            let Some(stdout) = &self.stdout else { return Ok(()) };
            if !self.reads_stdout() {
                return Ok(());
            }
            let to_spool = self.is_backed_up() && !self.has_memory();
            self.output.drain(..mem::take(&mut self.sent)); // sent bytes make room
            let before = self.output.len();
            let (count, room) = match stdout.read_more(&mut self.output) {
                Ok((None, _)) => {
                    self.is_stdout_ready = false;
                    return Ok(());
                }
                Ok((Some(0), _)) | Err(_) => {
                    (self.stdout, self.is_stdout_ready) = (None, false);
                    // A process that closes STDOUT mostly ends: STDERR is read without another wait.
                    self.is_stderr_ready = self.stderr.is_open();
                    return Ok(());
                }
                Ok((Some(count), room)) => (count, room),
            };
            self.quiet_since = Instant::now();
            self.owed = self.owed.saturating_sub(count);
            self.received += count as u64;
            self.find_block()?;
            self.drop_surplus(count);
            if to_spool {
                self.spool.push(&self.output[before..]);
                self.output.truncate(before);
            }
            let is_over = self.output.len() > self.limits.buffer_output;
            if is_over && self.block.is_none() && !self.is_streaming() {
                self.start();
            }
            if self.is_streaming() {
                self.send()?;
            }
            if count < room {
                self.is_stdout_ready = false; // the pipe is empty
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes the header block off the output once it is whole.
    fn find_block(&mut self) -> Result<(), Outcome> {
        let (Some(block), Some(content_type)) = (&mut self.block, self.limits.cgi_content_type) else {
            return Ok(());
        };
        match block.find(&self.output, content_type).map_err(Outcome::Malformed)? {
            Found::Part => {}
            Found::Head(told, end) => {
                self.head = Some(told.head);
                self.length = told.length;
                self.block = None;
                self.output.drain(..end);
                self.received = self.output.len() as u64;
            }
        }
        Ok(())
    }

    /// Drops bytes behind the end that the block tells; `count` bytes came last.
    fn drop_surplus(&mut self, count: usize) {
        let Some(body) = self.body_length() else { return };
        let surplus = self.received.saturating_sub(body).min(count as u64) as usize;
        self.output.truncate(self.output.len().saturating_sub(surplus));
    }

    /// Begins the answer before its end is known.
    fn start(&mut self) {
        if let Some(head) = self.head.take() {
            self.begun = Some(head.status());
            self.exchange.start(head, self.length.map_or(Length::Unknown, Length::Known));
            self.sent_at = Instant::now();
        }
    }

    fn send(&mut self) -> Result<(), Outcome> {
        if !self.is_backed_up() {
            return Ok(());
        }
        for _ in 0..BURST {
            while self.sent < self.output.len() {
                match self.exchange.write(&self.output[self.sent..]) {
                    Ok(0) => return Ok(()),
                    Ok(count) => self.sent += count,
                    Err(_) => return Err(Outcome::HungUp),
                }
                self.sent_at = Instant::now();
            }
            self.output.clear();
            self.sent = 0;
            if self.spool.is_empty() {
                break;
            }
            self.spool.pull(&mut self.output).map_err(Outcome::Failed)?;
        }
        // STDOUT was not read during the wait for the client: its quiet time begins now.
        self.quiet_since = self.sent_at;
        Ok(())
    }

    /// Reads STDERR, at most what a pipe of the usual size holds: a background child may write for ever.
    fn read_stderr(&mut self) {
        self.is_stderr_ready = self.stderr.read(BURST, &|line| log_call(self.id, line));
    }

    /// How the process ended, once its output is complete.
    fn finished(&mut self) -> Option<End> {
        let end = self.end?;
        if self.is_backed_up() {
            return None;
        }
        let is_quiet = Instant::now() >= self.quiet_since + QUIET && !self.is_stdout_ready;
        (self.stdout.is_none() || is_quiet).then_some(end)
    }

    fn wait(&mut self, child: &mut Child) -> Result<(), Outcome> {
        let deadline = self.next_deadline(child);
        let (feed, is_backed_up) = (self.feed, self.is_backed_up());
        let reads_client = matches!(feed, Feed::Client(_));
        let client = Ready::HANG_UP.and(Ready::READ.when(reads_client)).and(Ready::WRITE.when(is_backed_up));
        let stdin = self.stdin.as_ref().filter(|_| feed == Feed::Pipe).map(AsFd::as_fd);
        let stdout = self.stdout.as_ref().filter(|_| self.reads_stdout()).map(AsFd::as_fd);
        let reads_stdout = stdout.is_some();
        let end = if self.end.is_none() { child.end_fd() } else { None };
        let mut fds = [
            PollFd::new(self.exchange.socket().as_fd(), client),
            PollFd::new(self.limits.stop.as_fd(), Ready::READ),
            PollFd::maybe(stdin, Ready::WRITE),
            PollFd::maybe(stdout, Ready::READ),
            PollFd::maybe(self.stderr.fd(), Ready::READ),
            PollFd::maybe(end, Ready::READ),
        ];
        poll(&mut fds, deadline).map_err(Outcome::Failed)?;
        let [client, stop, stdin, stdout, stderr, end] = fds.map(|fd| fd.ready());
        if stop.is_any() {
            return Err(Outcome::Stopped);
        }
        if client.is_hung_up() {
            return Err(Outcome::HungUp);
        }
        if stdin.is_any() || reads_client && client.is_readable() {
            self.feed = Feed::Ready;
        }
        self.is_stdout_ready = stdout.is_any();
        if reads_stdout && !self.is_stdout_ready {
            self.owed = 0; // it is empty
        }
        self.is_stderr_ready = stderr.is_any();
        self.check_child(child, end.is_any())?;
        self.check_deadlines()
    }

    fn check_child(&mut self, child: &mut Child, is_readable: bool) -> Result<(), Outcome> {
        if self.end.is_some() || !is_readable && child.end_fd().is_some() {
            return Ok(());
        }
        self.end = child.ended().map_err(Outcome::Failed)?;
        if self.end.is_some() {
            self.stdin = None;
            self.quiet_since = Instant::now();
            (self.follow_until, self.owed) = (Deadline::after(FOLLOW_TIME), PIPE_BYTES);
            // All that the process wrote is in the pipes now: both are read before the call is over.
            (self.is_stdout_ready, self.is_stderr_ready) = (self.stdout.is_some(), self.stderr.is_open());
            if self.feed == Feed::Pipe {
                self.feed = Feed::Ready;
            }
        }
        Ok(())
    }

    /// When the loop must go on though no descriptor is ready.
    fn next_deadline(&self, child: &Child) -> Deadline {
        if self.feed == Feed::Ready || self.is_stdout_ready && self.reads_stdout() || self.is_stderr_ready {
            return Deadline::at(Instant::now()); // a burst was cut short
        }
        let mut deadline = self.time_limit();
        if self.end.is_none() && child.end_fd().is_none() {
            deadline = deadline.within(CHECK_PAUSE);
        }
        if self.end.is_some() && !self.is_backed_up() {
            deadline = deadline.min(Deadline::at(self.quiet_since + QUIET)).min(self.follow_until);
        }
        let config = self.exchange.config();
        if let (Feed::Client(since), Some(_)) = (self.feed, &self.stdin) {
            deadline = deadline.min(later(since, config.body_stall_timeout));
        }
        if self.is_backed_up() {
            deadline = deadline.min(self.stalls_at());
        }
        if self.is_jammed() && !self.reads_stdout() {
            let span = if self.spool.refusal().is_none() { SILENCE } else { UNREAD_TIME };
            deadline = deadline.min(later(self.sent_at, span));
        }
        deadline
    }

    /// When the client has moved no byte in either direction for too long.
    fn stalls_at(&self) -> Deadline {
        later(self.sent_at.max(self.fed_at), self.exchange.config().write_stall_timeout)
    }

    /// The time limit of the call, which ends once only the client is waited for.
    fn time_limit(&self) -> Deadline {
        let is_complete = self.end.is_some() && self.stdout.is_none();
        if is_complete { Deadline::NEVER } else { self.limits.deadline }
    }

    fn check_deadlines(&self) -> Result<(), Outcome> {
        if self.time_limit().has_passed() {
            return Err(Outcome::Deadline);
        }
        let config = self.exchange.config();
        if let (Feed::Client(since), Some(_)) = (self.feed, &self.stdin)
            && later(since, config.body_stall_timeout).has_passed()
        {
            return Err(Outcome::Refused(Refusal::BodyStall));
        }
        if let Some(why) = self.spool.refusal().filter(|_| self.is_jammed())
            && later(self.sent_at, UNREAD_TIME).has_passed()
        {
            return Err(Outcome::Unread(why.to_owned()));
        }
        if self.is_backed_up() && self.stalls_at().has_passed() {
            return Err(Outcome::Stalled);
        }
        Ok(())
    }
}

fn later(since: Instant, span: Duration) -> Deadline {
    since.checked_add(span).map_or(Deadline::NEVER, Deadline::at)
}
