//! Clients that call a function without a pause, what became of each call, and which container executed it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use testkit::eventually;
use testkit::http::Client;

/// The longest that a call may take: longer than the gateway's own limit, so that its answer is seen.
const LIMIT: Duration = Duration::from_secs(70);

/// One call.
pub(crate) struct Outcome {
    pub(crate) id: String,
    pub(crate) method: &'static str,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    /// 0 where there was no whole answer.
    pub(crate) status: u16,
    /// What the gateway called its refusal.
    pub(crate) kind: String,
    /// What it said, unless it was the right answer.
    pub(crate) said: String,
}

impl Outcome {
    pub(crate) fn took(&self) -> Duration {
        self.ended - self.began
    }
}

/// Clients that call until they are told to stop. The function answers with the call's id in a line, then the body.
pub(crate) struct Load<'l> {
    pub(crate) gateways: &'l Gateways,
    pub(crate) function: &'l str,
    /// Begins the id of each call.
    pub(crate) prefix: &'l str,
    /// How many.
    pub(crate) clients: usize,
}

/// The gateways that clients call, each its own share of the clients. With its next call a client follows a change.
pub(crate) struct Gateways(Mutex<Vec<SocketAddr>>);

impl Gateways {
    pub(crate) fn new(addresses: &[SocketAddr]) -> Gateways {
        Gateways(Mutex::new(addresses.to_vec()))
    }

    /// Has all clients call these.
    pub(crate) fn set(&self, addresses: &[SocketAddr]) {
        *self.addresses() = addresses.to_vec();
    }

    fn of(&self, client: usize) -> SocketAddr {
        let addresses = self.addresses();
        addresses[client % addresses.len()]
    }

    fn addresses(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clients at work.
pub(crate) struct Crew {
    is_over: AtomicBool,
    /// Of each client.
    ended_calls: Vec<AtomicUsize>,
}

impl Load<'_> {
    /// Runs `during` with the clients calling, and returns what became of all their calls.
    pub(crate) fn run(&self, during: impl FnOnce(&Crew)) -> Vec<Outcome> {
        let ended_calls = std::iter::repeat_with(AtomicUsize::default).take(self.clients).collect();
        let crew = Crew { is_over: AtomicBool::new(false), ended_calls };
        std::thread::scope(|scope| {
            let crew = &crew;
            let client = |number| scope.spawn(move || self.client(number, crew));
            let clients: Vec<_> = (0..self.clients).map(client).collect();
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| during(crew)));
            crew.is_over.store(true, Ordering::Relaxed); // also when a check in there failed
            let outcomes = clients.into_iter().flat_map(|client| client.join().expect("a client ends"));
            let outcomes = outcomes.collect();
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcomes
        })
    }

    fn client(&self, number: usize, crew: &Crew) -> Vec<Outcome> {
        let mut address = self.gateways.of(number);
        let mut client = Client::new(address);
        let mut outcomes = Vec::new();
        while !crew.is_over.load(Ordering::Relaxed) {
            let now = self.gateways.of(number);
            if now != address {
                (address, client) = (now, Client::new(now));
            }
            let method = if (number + outcomes.len()).is_multiple_of(2) { "GET" } else { "POST" };
            let id = format!("{}-{number}-{}", self.prefix, outcomes.len());
            outcomes.push(self.call(&mut client, method, id));
            crew.ended_calls[number].fetch_add(1, Ordering::Relaxed);
        }
        outcomes
    }

    fn call(&self, client: &mut Client, method: &'static str, id: String) -> Outcome {
        let body = if method == "POST" { format!("body of {id}") } else { String::new() };
        let want = format!("{id}\n{body}");
        let path = format!("/function/{}", self.function);
        let request = client.request().method(method).path(path).header("X-Call-Id", &id).timeout(LIMIT);
        let request = if method == "POST" { request.body(body) } else { request };
        let began = Instant::now();
        let mut kind = String::new();
        let (status, said) = match request.send() {
            Ok(reply) if reply.status == 200 && reply.text() == want => (200, String::new()),
            Ok(reply) if reply.status == 200 => (0, format!("a wrong answer: {}", reply.text())),
            Ok(reply) => {
                kind = reply.header("X-Gateway-Error").unwrap_or_default().to_owned();
                (reply.status, reply.text().trim().to_owned())
            }
            Err(error) => (0, error.to_string()),
        };
        Outcome { id, method, began, ended: Instant::now(), status, kind, said }
    }
}

impl Crew {
    /// How many calls have ended so far.
    pub(crate) fn ended_calls(&self) -> usize {
        self.ended_calls.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Waits until each client's calls have ended so many times more; what was begun before has ended then.
    #[track_caller]
    pub(crate) fn wait_calls(&self, count: usize) {
        let now = |client: &AtomicUsize| client.load(Ordering::Relaxed);
        let goals: Vec<usize> = self.ended_calls.iter().map(|client| now(client) + count).collect();
        eventually(2 * LIMIT, || {
            let late =
                self.ended_calls.iter().zip(&goals).filter(|(client, goal)| now(client) < **goal).count();
            if late == 0 { Ok(()) } else { Err(format!("{late} clients still wait for an answer")) }
        });
    }
}

/// What a function runs first, in a shell: the call's id goes, in one write, into a file that is named after the
/// container.
pub(crate) const NOTE: &str = "echo $Http_X_Call_Id >>/shared/$HOSTNAME";

/// Which containers executed each call, by what they noted.
pub(crate) struct Notes(HashMap<String, Vec<String>>);

impl Notes {
    /// Reads what is in the directory that the containers see as `/shared`.
    #[track_caller]
    pub(crate) fn read(shared: &Path) -> Notes {
        let mut notes = HashMap::<_, Vec<_>>::new();
        for file in std::fs::read_dir(shared).expect("the shared directory") {
            let path = file.expect("an entry of it").path();
            let container = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            for id in text.lines() {
                notes.entry(id.to_owned()).or_default().push(container.clone());
            }
        }
        Notes(notes)
    }

    /// The containers that executed a call, as they know themselves.
    pub(crate) fn of(&self, id: &str) -> &[String] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }
}

/// A container as it knows itself.
pub(crate) fn hostname(container: &str) -> String {
    container.chars().take(12).collect()
}
