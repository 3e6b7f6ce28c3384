//! One call that has a process of its own: the process starts, its bytes are relayed, and its output and its end are
//! the answer.

use std::io;
use std::time::Duration;

use http1::{Body, Exchange, HeadWriter, Headers, Length};
use kit::sys::Ready;
use kit::sys::child::End;
use kit::{Deadline, duration};

use super::after_answer::AfterAnswer;
use super::context::{CLIENT_CLOSED, Call};
use super::relay::{Answer, Limits, Outcome, Relay};
use crate::cgi::meta;
use crate::cgi::variables::{self, Names};
use crate::config::{Config, Mode};
use crate::process::instance::Instance;
use crate::process::mark::Mark;
use crate::process::tree;

/// The type of an answer where neither the settings nor the request tells one (RFC 9110 section 8.3).
const BINARY: &str = "application/octet-stream";

/// How long the rest of a body is read that the process did not want, in all and without a byte: a client that sends
/// before it reads must see the answer.
const LINGER: Duration = Duration::from_secs(10);
const LINGER_QUIET: Duration = Duration::from_millis(500);

/// How a call was served.
pub(crate) struct Served {
    /// The status under which the call counts.
    pub(crate) code: u16,
    /// What is left to do after the answer.
    pub(crate) after: Option<AfterAnswer>,
}

impl From<u16> for Served {
    fn from(code: u16) -> Served {
        Served { code, after: None }
    }
}

impl Call {
    /// Serves the call with a process that waits, or with one that starts now.
    pub(super) fn serve(&self, exchange: &mut Exchange<'_>) -> Served {
        match self.function.warm.take().map_or_else(|| self.start(exchange), Ok) {
            Ok(instance) => self.run(exchange, instance),
            Err(error) => self.answer_not_started(exchange, &error).into(),
        }
    }

    fn start(&self, exchange: &Exchange<'_>) -> io::Result<Instance> {
        let (config, launcher) = (&self.function.config, &self.function.launcher);
        let (request, length) = (exchange.request(), exchange.body_length());
        let mark = Mark::new();
        if !config.cgi_headers {
            return launcher.start(mark, launcher.environment(mark, 0, 0));
        }
        let names = Names { are_cgi_too: config.cgi_response, underscores: config.underscores };
        let (variables, bytes) = variables::room(request, names);
        let mut environment = launcher.environment(mark, variables, bytes);
        variables::add(&mut environment, request, length, names);
        if config.cgi_response {
            meta::add(&mut environment, request, length, exchange.peer());
        }
        launcher.start(mark, environment)
    }

    fn run(&self, exchange: &mut Exchange<'_>, instance: Instance) -> Served {
        let Instance { mut listed, pipes, mark } = instance;
        let config = &self.function.config;
        let headers = exchange.request().headers();
        let cgi_type = config.cgi_response.then(|| content_type(config, headers).to_vec());
        let head = self.head(exchange, 200);
        let limits = Limits {
            deadline: self.deadline,
            buffer_output: match self.function.config.mode {
                Mode::Fork => self.function.config.buffer_output,
                Mode::Streaming | Mode::Http(_) => 0,
            },
            held_output: self.function.config.buffer_output,
            spools: &self.function.spools,
            cgi_content_type: cgi_type.as_deref(),
            stop: &self.function.stop,
        };
        let mut relay = Relay::new(exchange, pipes, limits, self.id.as_str());
        let outcome = relay.run(&mut listed.child, head);
        if !matches!(outcome, Outcome::Ended(_) | Outcome::Complete) {
            tree::end(&mut listed.child, mark, self.function.config.kill_grace);
        }
        let (answer, output) = relay.into_answer();
        if let Outcome::Complete = outcome {
            let code = self.answer_complete(exchange, answer);
            self.say_answered(exchange, code);
            let (id, deadline, limit) = (self.id, self.deadline, self.limit);
            let after = AfterAnswer { id, listed, mark, deadline, limit, output };
            return Served { code, after: Some(after) };
        }
        output.end(self.id.as_str());
        drop(listed);
        let code = match outcome {
            Outcome::Ended(end) => self.answer_end(exchange, end, answer),
            other => self.answer_failure(exchange, other),
        };
        self.say_answered(exchange, code);
        code.into()
    }

    fn say_answered(&self, exchange: &Exchange<'_>, code: u16) {
        if log::log_enabled!(log::Level::Debug) {
            let took = duration::format(self.started.elapsed());
            log::debug!("call={} {} answered {code} after {took}", self.id, exchange.request().method());
        }
    }

    /// A head with the type of the output.
    fn head(&self, exchange: &Exchange<'_>, status: u16) -> HeadWriter {
        let mut head = HeadWriter::response(status);
        head.header("Content-Type", content_type(&self.function.config, exchange.request().headers()));
        head
    }

    /// The header block said how long the answer is, and all of it is there.
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
        let (head, length) = match (self.failed(exchange, end), answer.begun) {
            (None, _) if answer.missing > 0 => return self.answer_short(exchange, &answer),
            (None, Some(status)) => return self.end_stream(exchange, status),
            // The end of the answer is sent only if the process ended well.
            (Some(failed), Some(_)) => {
                exchange.abort();
                return failed.status();
            }
            // The length belongs to the answer that the process did not give.
            (Some(failed), None) => (failed, None),
            (None, None) => match answer.head {
                Ok(head) => (head, answer.length),
                Err(malformed) => return self.answer_failure(exchange, Outcome::Malformed(malformed)),
            },
        };
        read_rest(exchange);
        let is_silent = answer.output.is_empty() && exchange.request().method() == "HEAD";
        // A program that knows HEAD writes no body; its answer to GET may have one (RFC 9110 section 8.6).
        let length = length.map(Length::Known).or(is_silent.then_some(Length::Unknown));
        let status = head.status();
        let sent = match length {
            Some(length) => exchange.respond_as(head, length, &answer.output),
            None => exchange.respond(head, &answer.output),
        };
        self.counted(status, sent)
    }

    /// The process ended before it had written as many bytes as its header block said.
    fn answer_short(&self, exchange: &mut Exchange<'_>, answer: &Answer) -> u16 {
        let text = format!("the process ended {} bytes short of its Content-Length", answer.missing);
        log::error!("call={} {text}", self.id);
        self.answer_text(exchange, 500, &text)
    }

    /// The head of the answer of a process that ended badly.
    fn failed(&self, exchange: &Exchange<'_>, end: End) -> Option<HeadWriter> {
        let (name, number, how) = match end {
            End::Exited(0) => return None,
            End::Exited(code) => ("X-Exit-Code", code, "ended with exit code"),
            End::Killed(signal) => ("X-Exit-Signal", signal, "was ended by signal"),
        };
        log::warn!("call={} the process {how} {number}", self.id);
        let mut head = self.head(exchange, 500);
        head.text(name, &number.to_string());
        Some(head)
    }

    /// Ends an answer that was streamed whole.
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

    /// Answers a call whose process did not get to its end.
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
            Outcome::Ended(_) | Outcome::Complete => 500, // `run` answers these
        }
    }

    fn answer_not_started(&self, exchange: &mut Exchange<'_>, error: &io::Error) -> u16 {
        let program = self.function.launcher.program();
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
}

fn content_type<'a>(config: &'a Config, headers: Headers<'a>) -> &'a [u8] {
    let given = config.content_type.as_ref().map(String::as_bytes);
    let given = given.or_else(|| headers.get("Content-Type").filter(|value| !value.is_empty()));
    given.unwrap_or(BINARY.as_bytes())
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
    fn the_type_is_the_settings_the_requests_or_binary() {
        let (plain, set) = (config(&[]), config(&[("content_type", "image/png")]));
        let request = head("Content-Type: text/x");
        assert_eq!(content_type(&set, request.headers()), b"image/png");
        assert_eq!(content_type(&plain, request.headers()), b"text/x");
        assert_eq!(content_type(&plain, head("Content-Type:").headers()), BINARY.as_bytes());
    }
}
