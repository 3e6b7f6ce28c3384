//! Fifty clients that call a function without a pause, and what became of each call.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::http::Client;

use crate::lab::Gateway;

/// How many.
pub(crate) const CLIENTS: usize = 50;

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
    /// What it said, unless it was the right answer.
    pub(crate) said: String,
}

impl Outcome {
    pub(crate) fn took(&self) -> Duration {
        self.ended - self.began
    }
}

/// Clients that call until they are told to stop.
pub(crate) struct Load<'l> {
    pub(crate) gateway: &'l Gateway<'l>,
    pub(crate) function: &'l str,
    /// Begins the id of each call.
    pub(crate) prefix: &'l str,
}

impl Load<'_> {
    /// Runs `during` with the clients calling, and returns what became of all their calls.
    pub(crate) fn run(&self, during: impl FnOnce()) -> Vec<Outcome> {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let is_over = &is_over;
            let client = |number| scope.spawn(move || self.client(number, is_over));
            let clients: Vec<_> = (0..CLIENTS).map(client).collect();
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(during));
            is_over.store(true, Ordering::Relaxed); // also when a check in there failed
            let outcomes = clients.into_iter().flat_map(|client| client.join().expect("a client ends"));
            let outcomes = outcomes.collect();
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcomes
        })
    }

    fn client(&self, number: usize, is_over: &AtomicBool) -> Vec<Outcome> {
        let mut client = self.gateway.client();
        let mut outcomes = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            let method = if (number + outcomes.len()).is_multiple_of(2) { "GET" } else { "POST" };
            let id = format!("{}-{number}-{}", self.prefix, outcomes.len());
            outcomes.push(self.call(&mut client, method, id));
        }
        outcomes
    }

    /// The function answers with the call's id in a line, then the body.
    fn call(&self, client: &mut Client, method: &'static str, id: String) -> Outcome {
        let body = if method == "POST" { format!("body of {id}") } else { String::new() };
        let want = format!("{id}\n{body}");
        let path = format!("/function/{}", self.function);
        let request = client.request().method(method).path(path).header("X-Call-Id", &id).timeout(LIMIT);
        let request = if method == "POST" { request.body(body) } else { request };
        let began = Instant::now();
        let (status, said) = match request.send() {
            Ok(reply) if reply.status == 200 && reply.text() == want => (200, String::new()),
            Ok(reply) if reply.status == 200 => (0, format!("a wrong answer: {}", reply.text())),
            Ok(reply) => (reply.status, reply.text().trim().to_owned()),
            Err(error) => (0, error.to_string()),
        };
        Outcome { id, method, began, ended: Instant::now(), status, said }
    }
}
