//! The thread that asks the other gateways of the service for their load, all at the same time, so that one that hangs
//! holds up nobody, and tells the scaler what it learns.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http1::{Body, ClientConfig, Connection, Endpoint, HeadWriter, Length, Pool};
use kit::Deadline;
use kit::sys::{EventFd, PollFd, Ready, poll};
use kit::thread::Joined;

use super::Scaler;
use super::peers::{News, Peers, View};
use crate::load::{self, Instance, Page};
use crate::provider::Provider;

/// Between two questions to a peer. The average over which the scaler decides is four times as long.
const INTERVAL: Duration = Duration::from_millis(250);

/// Between two looks for peers while there is none.
const ALONE_INTERVAL: Duration = Duration::from_secs(1);

/// How long an answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// The largest head of an answer.
const MAX_HEAD_BYTES: usize = 4096;

/// The running thread.
pub(crate) struct Asker {
    shared: Arc<Shared>,
    thread: Joined,
}

struct Shared {
    provider: Arc<dyn Provider>,
    scaler: Arc<Scaler>,
    wake: EventFd,
    is_stopping: AtomicBool,
}

impl Asker {
    /// Starts the thread of the gateway `own`.
    ///
    /// # Errors
    /// When there is no room for a thread or a descriptor.
    pub(crate) fn start(
        own: Instance,
        provider: Arc<dyn Provider>,
        scaler: Arc<Scaler>,
    ) -> io::Result<Asker> {
        let wake = EventFd::new()?;
        let shared = Arc::new(Shared { provider, scaler, wake, is_stopping: AtomicBool::new(false) });
        let thread = Arc::clone(&shared);
        let thread = Joined::start("peers", move || thread.run(own))?;
        Ok(Asker { shared, thread })
    }

    /// Ends the thread, which never blocks for anything but its sockets.
    pub(crate) fn stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        self.shared.wake.notify();
        self.thread.join();
    }
}

impl Shared {
    fn run(&self, own: Instance) {
        let mut peers = Peers::new(own);
        let mut lines: Vec<Line> = Vec::new();
        let mut told = View::alone();
        let mut next = Instant::now();
        while !self.is_stopping.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now >= next {
                peers.list(&self.provider.peers(), now);
                lines.retain(|line| peers.addresses().any(|address| address == line.address));
                for address in peers.addresses() {
                    if !lines.iter().any(|line| line.address == address) {
                        lines.push(Line::new(address));
                    }
                }
                lines.iter_mut().for_each(|line| line.ask(&mut peers, now));
                next = now + if lines.is_empty() { ALONE_INTERVAL } else { INTERVAL };
            }
            lines.iter_mut().for_each(|line| line.step(&mut peers, now));
            let view = peers.view(now);
            if view != told {
                self.scaler.tell(view.clone());
                told = view;
            }
            for news in peers.news(now) {
                match news {
                    News::Bad(line) => log::warn!("no replica is taken away: {line}"),
                    News::Good(line) => log::info!("{line}"),
                }
            }
            self.wait(&lines, next);
        }
    }

    /// Waits for an answer, or until it is time to ask or to give an answer up.
    fn wait(&self, lines: &[Line], next: Instant) {
        let asked = lines.iter().filter_map(|line| line.question.as_ref());
        let until = asked.clone().fold(next, |until, question| until.min(question.asked + ANSWER_TIME));
        let of_wake = PollFd::new(self.wake.as_fd(), Ready::READ);
        let mut fds: Vec<_> = asked
            .map(|question| PollFd::new(question.connection.socket().as_fd(), question.wanted()))
            .chain([of_wake])
            .collect();
        if let Err(error) = poll(&mut fds, Deadline::at(until)) {
            log::warn!("poll failed: {error}");
        }
        self.wake.clear();
    }
}

/// The way to one peer.
struct Line {
    address: SocketAddr,
    /// The connection while nothing is asked.
    pool: Pool,
    question: Option<Question>,
}

/// A question that is not answered yet.
struct Question {
    asked: Instant,
    connection: Box<Connection>,
    body: Vec<u8>,
}

impl Line {
    fn new(address: SocketAddr) -> Line {
        let config = ClientConfig {
            connect_timeout: ANSWER_TIME,
            max_idle: 1,
            max_header_bytes: MAX_HEAD_BYTES,
            ..ClientConfig::default()
        };
        Line { address, pool: Pool::new(Endpoint::Tcp(address), config), question: None }
    }

    /// Asks, unless the last question is not answered yet.
    fn ask(&mut self, peers: &mut Peers, now: Instant) {
        if self.question.is_some() {
            return;
        }
        let connection = match self.pool.take() {
            Some(connection) => Ok(connection),
            None => self.pool.begin(Deadline::at(now + ANSWER_TIME)),
        };
        match connection {
            Ok(mut connection) => {
                let mut head = HeadWriter::request("GET", load::PATH);
                head.text("Host", &self.address.to_string());
                connection.start(head, Length::None);
                self.question = Some(Question { asked: now, connection, body: Vec::new() });
            }
            Err(error) => peers.fail(self.address, error.to_string()),
        }
    }

    /// Goes on as far as that is possible without waiting, and tells `peers` what came of it.
    fn step(&mut self, peers: &mut Peers, now: Instant) {
        let Some(question) = &mut self.question else { return };
        let asked = question.asked;
        let result = match question.step() {
            Ok(true) => Page::parse(&question.body).ok_or_else(|| "its answer is not a load page".to_owned()),
            Ok(false) if now < asked + ANSWER_TIME => return,
            Ok(false) => Err(format!("no answer in {}", kit::duration::format(ANSWER_TIME))),
            Err(why) => Err(why),
        };
        let question = self.question.take();
        match result {
            Ok(page) => {
                peers.take(self.address, page, asked);
                question.into_iter().for_each(|question| self.pool.put(question.connection));
            }
            Err(why) => peers.fail(self.address, why),
        }
    }
}

impl Question {
    /// The events that its socket is waited for.
    fn wanted(&self) -> Ready {
        Ready::READ.and(Ready::WRITE.when(!self.connection.is_sent()))
    }

    /// Goes on without waiting; whether the answer is whole.
    fn step(&mut self) -> Result<bool, String> {
        let connection = &mut self.connection;
        if !connection.connected().map_err(|error| format!("failed to connect: {error}"))? {
            return Ok(false);
        }
        if !connection.is_sent() && !connection.finish().map_err(|error| error.to_string())? {
            return Ok(false);
        }
        match connection.response().map_err(|error| error.to_string())? {
            None => return Ok(false),
            Some(head) if head.status() != 200 => return Err(format!("its answer is {}", head.status())),
            Some(_) => {}
        }
        loop {
            let count = match connection.body().map_err(|error| error.to_string())? {
                Body::Data(data) => {
                    if self.body.len() + data.len() > load::MAX_BYTES {
                        return Err(format!("its answer is longer than {} bytes", load::MAX_BYTES));
                    }
                    self.body.extend_from_slice(data);
                    data.len()
                }
                Body::End => return Ok(true),
                Body::Wait => return Ok(false),
            };
            connection.consume(count);
        }
    }
}
