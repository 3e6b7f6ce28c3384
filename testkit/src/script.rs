//! What a scripted peer does with a connection, and the requests that it has seen.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The steps of one connection. After the last step the connection is closed.
#[derive(Clone, Default)]
pub struct Script(pub(crate) Vec<Step>);

/// Makes an answer out of a request.
type Answer = Arc<dyn Fn(&Request) -> Vec<u8> + Send + Sync>;

/// One step, see the methods of [`Script`].
#[derive(Clone)]
pub(crate) enum Step {
    Head,
    Body,
    Bytes(usize),
    End,
    Send(Arc<[u8]>),
    SendSlowly { data: Arc<[u8]>, size: usize, pause: Duration },
    Answer(Answer),
    Pause(Duration),
    Wait(Gate),
    Close,
    Reset,
    Stall,
    Repeat,
}

impl Script {
    /// A script without steps: accepts and closes.
    #[must_use]
    pub fn new() -> Script {
        Script::default()
    }

    fn then(mut self, step: Step) -> Script {
        self.0.push(step);
        self
    }

    /// Reads a request's head.
    #[must_use]
    pub fn head(self) -> Script {
        self.then(Step::Head)
    }

    /// Reads the body that belongs to the head before it.
    #[must_use]
    pub fn body(self) -> Script {
        self.then(Step::Body)
    }

    /// Reads a whole request.
    #[must_use]
    pub fn request(self) -> Script {
        self.head().body()
    }

    /// Reads this many bytes, whatever they are.
    #[must_use]
    pub fn bytes(self, count: usize) -> Script {
        self.then(Step::Bytes(count))
    }

    /// Reads until the client ends its direction.
    #[must_use]
    pub fn end(self) -> Script {
        self.then(Step::End)
    }

    /// Sends bytes.
    #[must_use]
    pub fn send(self, data: impl AsRef<[u8]>) -> Script {
        self.then(Step::Send(data.as_ref().into()))
    }

    /// Sends bytes in pieces of `size` with a pause after each.
    #[must_use]
    pub fn send_slowly(self, data: impl AsRef<[u8]>, size: usize, pause: Duration) -> Script {
        self.then(Step::SendSlowly { data: data.as_ref().into(), size: size.max(1), pause })
    }

    /// Sends what `answer` makes of the last request.
    #[must_use]
    pub fn answer(self, answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Script {
        self.then(Step::Answer(Arc::new(answer)))
    }

    /// Does nothing for a while.
    #[must_use]
    pub fn pause(self, pause: Duration) -> Script {
        self.then(Step::Pause(pause))
    }

    /// Does nothing until the test opens the gate.
    #[must_use]
    pub fn wait(self, gate: &Gate) -> Script {
        self.then(Step::Wait(gate.clone()))
    }

    /// Closes. Where something was received and not read the kernel makes a reset of it, as for any server.
    #[must_use]
    pub fn close(self) -> Script {
        self.then(Step::Close)
    }

    /// Breaks off with a RST.
    #[must_use]
    pub fn reset(self) -> Script {
        self.then(Step::Reset)
    }

    /// Does nothing, and reads nothing, until the peer is dropped.
    #[must_use]
    pub fn stall(self) -> Script {
        self.then(Step::Stall)
    }

    /// Begins again at the first step, on the same connection, until the client ends it.
    #[must_use]
    pub fn repeat(self) -> Script {
        self.then(Step::Repeat)
    }
}

/// Holds scripts until the test opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Gate {
        Gate::default()
    }

    fn is_open(&self) -> MutexGuard<'_, bool> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets everything that waits, or will wait, go on.
    pub fn open(&self) {
        *self.is_open() = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open; false when `timeout` passes first.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let waited = self.0.1.wait_timeout_while(self.is_open(), timeout, |is_open| !*is_open);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// A request as the peer received it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Which connection it came over, counted from 0.
    pub connection: usize,
    /// The head as it came, with its blank line.
    pub head: Vec<u8>,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, values without the white space around them.
    pub headers: Vec<(String, String)>,
    /// The body without its framing, as far as the script has read it.
    pub body: Vec<u8>,
}

impl Request {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    pub(crate) fn parse(connection: usize, head: &[u8]) -> Request {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.lines();
        let mut first = lines.next().unwrap_or_default().split(' ');
        let mut word = || first.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        Request {
            connection,
            head: head.to_vec(),
            method: word(),
            target: word(),
            headers: headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect(),
            body: vec![],
        }
    }
}
