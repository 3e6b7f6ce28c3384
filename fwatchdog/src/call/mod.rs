//! One call: a process is started, its bytes are relayed, and what became of it is the answer.

mod after_answer;
pub(crate) mod forward;
mod relay;

use std::io;
use std::time::{Duration, Instant};

use http1::forward::Upload;
use http1::{Body, Exchange, HeadWriter, Headers, Length, Refusal};
use kit::call::TIMEOUT;
use kit::sys::Ready;
use kit::sys::child::End;
use kit::{Deadline, duration};

use crate::call::after_answer::Rest;
use crate::call::relay::{Answer, Limits, Outcome, Relay};
use crate::cgi::meta;
use crate::cgi::variables::{self, Names};
use crate::config::{Config, Mode};
use crate::function::{self, Function};
use crate::process::instance::{Mark, Started};
use crate::process::tree;
use crate::resident::Resident;

const TEXT: &str = "text/plain; charset=utf-8";

/// The type of an answer of which nobody says what it is (RFC 9110 section 8.3).
const BINARY: &str = "application/octet-stream";

/// The setting that limits every call, as [`Call::limit`] names it.
pub(crate) const EXEC_TIMEOUT: &str = "exec_timeout";

/// The status under which a call is counted whose client left; none is sent.
pub(crate) const CLIENT_CLOSED: u16 = 499;

/// How long the rest of a body that the process did not want is read, so that a client which sends before it
/// reads sees the answer: in all, and without a byte.
const LINGER: Duration = Duration::from_secs(10);
const LINGER_QUIET: Duration = Duration::from_millis(500);

/// Serves one request. Returns the status under which it counts, and what is left to be done after the answer.
pub(crate) fn serve(function: &Function, exchange: &mut Exchange<'_>) -> (u16, Option<Rest>) {
    let call = Call::new(function, exchange);
    if call.deadline.has_passed() {
        return (call.answer_timeout(exchange), None);
    }
    if let Some(resident) = &function.resident {
        return (call.forward(exchange, resident, (Upload::default(), 0)), None);
    }
    match function.warm.take(function).map_or_else(|| call.start(exchange), Ok) {
        Ok(started) => call.run(exchange, started),
        Err(error) => (call.answer_not_started(exchange, &error), None),
    }
}

/// What stays the same during a call.
pub(crate) struct Call<'a> {
    pub(crate) function: &'a Function,
    pub(crate) id: String,
    pub(crate) deadline: Deadline,
    /// Whose time limit `deadline` is, and how long it was.
    pub(crate) limit: (&'static str, Duration),
    /// See [`Resident::turn`].
    pub(crate) turn: u64,
    pub(crate) started: Instant,
    content_type: Vec<u8>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(function: &'a Function, exchange: &Exchange<'_>) -> Call<'a> {
        let headers = exchange.request().headers();
        let limit = time_limit(&function.config, headers);
        Call {
            function,
            id: call_id(headers).unwrap_or_else(|| Mark::new().to_string()),
            deadline: limit.map_or(Deadline::NEVER, |(_, span)| Deadline::after(span)),
            limit: limit.unwrap_or_default(),
            turn: function.resident.as_ref().map_or(0, Resident::turn),
            started: Instant::now(),
            content_type: content_type(&function.config, headers),
        }
    }

    fn start(&self, exchange: &Exchange<'_>) -> io::Result<Started> {
        Started::start(self.function, Mark::new(), |environment| {
            let config = &self.function.config;
            let (request, length) = (exchange.request(), exchange.body_length());
            if !config.cgi_headers {
                return;
            }
            let names = Names { are_cgi_too: config.cgi_response, underscores: config.underscores };
            variables::add(environment, request, length, names);
            if config.cgi_response {
                meta::add(environment, request, length, exchange.peer());
            }
        })
    }

    fn run(&self, exchange: &mut Exchange<'_>, started: Started) -> (u16, Option<Rest>) {
        let Started { mut child, pipes, mark } = started;
        let limits = Limits {
            deadline: self.deadline,
            buffer_output: match self.function.config.mode {
                Mode::Fork => self.function.config.buffer_output,
                Mode::Streaming | Mode::Http(_) => 0,
            },
            held_output: self.function.config.buffer_output,
            spools: &self.function.spools,
            cgi_content_type: self.function.config.cgi_response.then_some(&self.content_type),
            stop: &self.function.stop,
        };
        let mut relay = Relay::new(exchange, pipes, limits, &self.id);
        let outcome = relay.run(&mut child, self.head(200));
        if !matches!(outcome, Outcome::Ended(_) | Outcome::Complete) {
            tree::end(&mut child, mark, self.function.config.kill_grace);
        }
        let (answer, output) = relay.into_answer();
        if let Outcome::Complete = outcome {
            let code = self.answer_complete(exchange, answer);
            self.say_answered(exchange, code);
            let (id, deadline, limit) = (self.id.clone(), self.deadline, self.limit);
            return (code, Some(Rest { id, child, mark, deadline, limit, output }));
        }
        output.end(&self.id);
        drop(child);
        let code = match outcome {
            Outcome::Ended(end) => self.answer_end(exchange, end, answer),
            other => self.answer_failure(exchange, other),
        };
        self.say_answered(exchange, code);
        (code, None)
    }

    fn say_answered(&self, exchange: &Exchange<'_>, code: u16) {
        let took = duration::format(self.started.elapsed());
        log::debug!("call={} {} answered {code} after {took}", self.id, exchange.request().method());
    }

    /// A head with the type of the function's output.
    fn head(&self, status: u16) -> HeadWriter {
        let mut head = HeadWriter::response(status);
        head.header("Content-Type", &self.content_type);
        head
    }

    /// The process has said how long its answer is, and it is there.
    fn answer_complete(&self, exchange: &mut Exchange<'_>, answer: Answer) -> u16 {
        match (answer.begun, answer.head) {
            (Some(status), _) => self.end_stream(exchange, status),
            (None, Ok(head)) => {
                let length = answer.length.map_or(Length::Unknown, Length::Known);
                let status = head.status();
                let sent = exchange.respond_as(head, length, &answer.output);
                self.counted(status, sent)
            }
            (None, Err(malformed)) => self.answer_failure(exchange, Outcome::Malformed(malformed)),
        }
    }

    fn answer_end(&self, exchange: &mut Exchange<'_>, end: End, answer: Answer) -> u16 {
        let (head, length) = match (self.failed(end), answer.begun) {
            (None, _) if answer.missing > 0 => return self.answer_short(exchange, &answer),
            (None, Some(status)) => return self.end_stream(exchange, status),
            // The end is told only if the process ended well.
            (Some(failed), Some(_)) => {
                exchange.abort();
                return failed.status();
            }
            // The length was for the answer that it did not give.
            (Some(failed), None) => (failed, None),
            (None, None) => match answer.head {
                Ok(head) => (head, answer.length),
                Err(malformed) => return self.answer_failure(exchange, Outcome::Malformed(malformed)),
            },
        };
        read_rest(exchange);
        let is_silent = answer.output.is_empty() && exchange.request().method() == "HEAD";
        // A program that knows HEAD writes no body, though its answer to GET may have one (RFC 9110 section 8.6).
        let length = length.map(Length::Known).or(is_silent.then_some(Length::Unknown));
        let status = head.status();
        let sent = match length {
            Some(length) => exchange.respond_as(head, length, &answer.output),
            None => exchange.respond(head, &answer.output),
        };
        self.counted(status, sent)
    }

    /// The process ended before it had written as much as it had said.
    fn answer_short(&self, exchange: &mut Exchange<'_>, answer: &Answer) -> u16 {
        let text = format!("the process ended {} bytes short of its Content-Length", answer.missing);
        log::error!("call={} {text}", self.id);
        self.answer_text(exchange, 500, &text)
    }

    /// The head of the answer of a process that ended badly.
    fn failed(&self, end: End) -> Option<HeadWriter> {
        let (name, number, how) = match end {
            End::Exited(0) => return None,
            End::Exited(code) => ("X-Exit-Code", code, "ended with exit code"),
            End::Killed(signal) => ("X-Exit-Signal", signal, "was ended by signal"),
        };
        log::warn!("call={} the process {how} {number}", self.id);
        let mut head = self.head(500);
        head.text(name, &number.to_string());
        Some(head)
    }

    /// The output was streamed whole.
    fn end_stream(&self, exchange: &mut Exchange<'_>, code: u16) -> u16 {
        let timeout = exchange.config().write_stall_timeout;
        loop {
            match exchange.finish() {
                Ok(true) => return code,
                Ok(false) => {}
                Err(_) => return CLIENT_CLOSED,
            }
            match exchange.socket().wait(Ready::WRITE, Deadline::after(timeout)) {
                Ok(ready) if ready.is_any() => {}
                _ => {
                    exchange.abort();
                    return CLIENT_CLOSED;
                }
            }
        }
    }

    /// The process did not get to its end.
    fn answer_failure(&self, exchange: &mut Exchange<'_>, outcome: Outcome) -> u16 {
        match outcome {
            Outcome::Deadline => {
                log::warn!("call={} was ended: {}", self.id, self.timeout_text());
                self.answer_timeout(exchange)
            }
            Outcome::HungUp => {
                log::debug!("call={} was ended: the client hung up", self.id);
                exchange.abort();
                CLIENT_CLOSED
            }
            Outcome::Stalled => {
                log::warn!("call={} was ended: the client does not read, see write_timeout", self.id);
                exchange.abort();
                CLIENT_CLOSED
            }
            Outcome::Unread(why) => {
                log::warn!(
                    "call={} was ended: the client sends and does not read, and no more is held: {why}",
                    self.id
                );
                exchange.abort();
                CLIENT_CLOSED
            }
            Outcome::Refused(refusal) => self.answer_refusal(exchange, refusal),
            Outcome::Malformed(malformed) => {
                log::error!("call={} was ended: {malformed}", self.id);
                self.answer_text(exchange, 500, &malformed.to_string())
            }
            Outcome::Stopped => {
                log::warn!("call={} was ended: drain_timeout passed", self.id);
                self.answer_text(exchange, 503, "fwatchdog ends, and drain_timeout passed")
            }
            Outcome::Failed(error) => {
                log::error!("call={} was ended: {error}", self.id);
                self.answer_text(exchange, 500, "the call cannot be watched, see the log")
            }
            Outcome::Ended(_) | Outcome::Complete => 500, // is answered elsewhere
        }
    }

    pub(crate) fn answer_refusal(&self, exchange: &mut Exchange<'_>, refusal: Refusal) -> u16 {
        self.function.metrics.reject(refusal);
        let text = function::line(refusal);
        log::debug!("call={} was ended: {text}", self.id);
        exchange.close_after();
        self.answer_text(exchange, refusal.status(), &text)
    }

    pub(crate) fn answer_timeout(&self, exchange: &mut Exchange<'_>) -> u16 {
        self.answer_text(exchange, 504, &self.timeout_text())
    }

    pub(crate) fn timeout_text(&self) -> String {
        let (name, span) = self.limit;
        format!("the function did not answer in time, {name} is {}", duration::format(span))
    }

    fn answer_not_started(&self, exchange: &mut Exchange<'_>, error: &io::Error) -> u16 {
        let program = self.function.config.program();
        if self.function.config.cgi_headers && error.kind() == io::ErrorKind::ArgumentListTooLong {
            let text = format!(
                "the request's head is too large for the environment of `{program}`, see cgi_headers"
            );
            log::warn!("call={} {text}: {error}", self.id);
            return self.answer_text(exchange, 431, &text);
        }
        let text = format!("cannot start `{program}` (fprocess): {error}");
        log::error!("call={} {text}", self.id);
        self.answer_text(exchange, 500, &text)
    }

    /// An answer of fwatchdog's own: one line. An answer that was begun is broken off instead.
    pub(crate) fn answer_text(&self, exchange: &mut Exchange<'_>, status: u16, text: &str) -> u16 {
        if exchange.is_started() {
            exchange.abort();
            return status;
        }
        let mut head = HeadWriter::response(status);
        head.text("Content-Type", TEXT);
        if status == 503 {
            head.text("Retry-After", "1");
        }
        self.respond(exchange, head, format!("{text}\n").as_bytes())
    }

    fn respond(&self, exchange: &mut Exchange<'_>, head: HeadWriter, body: &[u8]) -> u16 {
        let status = head.status();
        let sent = exchange.respond(head, body);
        self.counted(status, sent)
    }

    /// The status under which an answer counts, when it was sent or not.
    fn counted(&self, status: u16, sent: io::Result<()>) -> u16 {
        match sent {
            Ok(()) => status,
            Err(error) => {
                log::debug!("call={} the answer was not taken: {error}", self.id);
                CLIENT_CLOSED
            }
        }
    }
}

/// The caller's name for the call.
fn call_id(headers: Headers<'_>) -> Option<String> {
    headers.get(kit::call::ID).and_then(kit::call::id).map(str::to_owned)
}

/// The smaller of the setting and what the caller has left, with its name.
fn time_limit(config: &Config, headers: Headers<'_>) -> Option<(&'static str, Duration)> {
    let own = Some(config.exec_timeout).filter(|span| !span.is_zero());
    let callers = headers.get(TIMEOUT).and_then(kit::call::time_limit);
    match (own, callers) {
        (Some(own), Some(callers)) if callers < own => Some((TIMEOUT, callers)),
        (Some(own), _) => Some((EXEC_TIMEOUT, own)),
        (None, callers) => callers.map(|callers| (TIMEOUT, callers)),
    }
}

fn content_type(config: &Config, headers: Headers<'_>) -> Vec<u8> {
    let given = config.content_type.as_ref().map(String::as_bytes);
    let given = given.or_else(|| headers.get("Content-Type").filter(|value| !value.is_empty()));
    given.unwrap_or(BINARY.as_bytes()).to_vec()
}

/// Reads the rest of a body while it keeps coming.
fn read_rest(exchange: &mut Exchange<'_>) {
    let deadline = Deadline::after(LINGER);
    while !exchange.has_read_body() && !deadline.has_passed() {
        let count = match exchange.body() {
            Ok(Body::Data(data)) => data.len(),
            Ok(Body::Wait) => 0,
            Ok(Body::End) | Err(_) => return,
        };
        exchange.consume(count);
        if count == 0 {
            let ready = exchange.socket().wait(Ready::READ, deadline.within(LINGER_QUIET));
            if !ready.is_ok_and(Ready::is_any) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TABLE;
    use http1::RequestHead;
    use std::collections::HashMap;

    fn config(pairs: &[(&str, &str)]) -> Config {
        assert!(pairs.iter().all(|(name, _)| TABLE.iter().any(|row| row.name == *name)));
        let mut map: HashMap<&str, &str> = HashMap::from([("fprocess", "cat")]);
        map.extend(pairs.iter().copied());
        Config::read(&map, 1).unwrap()
    }

    fn head(field: &str) -> RequestHead {
        RequestHead::parse(format!("GET / HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n").into(), 9).unwrap()
    }

    #[test]
    fn the_smaller_time_limit_counts() {
        let ms = Duration::from_millis;
        let cases = [
            ("0", "X-A: 1", None),
            ("2s", "X-A: 1", Some(("exec_timeout", ms(2000)))),
            ("2s", "X-Timeout: 500ms", Some((TIMEOUT, ms(500)))),
            ("2s", "x-timeout: 3s", Some(("exec_timeout", ms(2000)))),
            ("2s", "X-Timeout: soon", Some(("exec_timeout", ms(2000)))),
            ("0", "X-Timeout: 4812ms", Some((TIMEOUT, ms(4812)))),
            ("2s", "X-Timeout: 0", Some(("exec_timeout", ms(2000)))),
            ("0", "X-Timeout: 0ms", None),
            ("0", "X-Timeout: -1s", None),
        ];
        for (setting, field, want) in cases {
            let config = config(&[("exec_timeout", setting)]);
            assert_eq!(time_limit(&config, head(field).headers()), want, "{setting} {field}");
        }
    }

    #[test]
    fn the_type_is_the_settings_the_requests_or_binary() {
        let (plain, set) = (config(&[]), config(&[("content_type", "image/png")]));
        let request = head("Content-Type: text/x");
        assert_eq!(content_type(&set, request.headers()), b"image/png");
        assert_eq!(content_type(&plain, request.headers()), b"text/x");
        assert_eq!(content_type(&plain, head("Content-Type:").headers()), BINARY.as_bytes());
    }
}
