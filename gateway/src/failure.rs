//! What the gateway itself answers when a call cannot be served: one kind, one status, one line.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use http1::{HeadWriter, Refusal};
use kit::duration;

use crate::access::Scheme;
use crate::function::labels::{LABEL_AUTH, LABEL_HMAC};
use crate::function::name::{EXPECTED_NAME, FunctionName, maybe_unknown, no_function};
use crate::kind::Kind;
use crate::metrics::Rejected;

/// The header that tells the gateway's own answers from a function's.
pub(crate) const X_GATEWAY_ERROR: &str = "X-Gateway-Error";

/// The status under which a call is counted whose client went away.
pub(crate) const CLIENT_GONE: u16 = Kind::ClientGone.status();

/// What is asked for where there is a password for the control plane, as `WWW-Authenticate` tells it.
const CHALLENGE: &str = "Basic realm=\"faas\"";

/// The part of a call in which its deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Replica,
    /// Replicas run, and none has taken a connection, such as the one at this address.
    Listen(SocketAddr),
    Turn,
    Connect,
    FirstByte,
    Body,
}

/// How long something may take, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeLimit {
    pub(crate) span: Duration,
    /// The setting, the label, or the caller's header.
    pub(crate) name: &'static str,
}

/// Why a call was not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The request itself, as HTTP.
    Refused(Refusal),
    /// The client went away; nobody is there to be told.
    ClientGone,
    UnknownFunction(String),
    /// What stands in the place of a name is none; it is not repeated, since it may be any bytes.
    BadName,
    /// More than one `X-Function`.
    NamedTwice,
    NoRoute,
    /// The path is served at the addresses of another setting.
    NotHere(&'static str),
    MethodNotAllowed(&'static str),
    NotAlexa,
    Draining,
    /// A function of this name is not known, and may exist: the provider cannot be asked, and why.
    ProviderDown(String, String),
    /// It has no replica, and is not of those that are scaled.
    NoReplicas,
    /// It cannot be started, with the engine's own reason.
    CannotStart(String),
    /// Too many calls wait for a replica of it already.
    TooManyWaiting(usize),
    /// Too many calls of all functions together wait already.
    NoRoomToWait(usize),
    /// As many calls as it may have are served, and too many wait for their turn.
    TooManyCalls(usize),
    /// As many calls as one function may have of all are served. Too many wait, or this one has waited too long.
    TooManyOfFunction(usize),
    /// No replica could be connected to; the last one's address and error.
    Connect(String),
    /// The replica went away with the call in hand.
    Closed(SocketAddr),
    /// The replica's answer is not HTTP as it must be.
    Invalid(Refusal),
    /// The deadline passed.
    Timeout(Phase, TimeLimit),
    /// The part of the gateway that serves the path is not there.
    NotAvailable(&'static str),
    /// The function is not for everybody.
    NoCredentials(Scheme, FunctionName),
    /// What is wrong with the signature that the function asks for.
    BadSignature(&'static str),
    /// The function asks for what is in a secret that cannot be used: the label.
    NoSecret(&'static str),
    /// The control plane is not for everybody.
    Unauthorized,
    /// The client sent too many wrong passwords; no other is looked at within this.
    TooManyGuesses(Duration, &'static str),
    /// A browser would change something for a page of another site.
    CrossSite,
    /// A browser knows the control plane by a name that anybody could have made lead here.
    UntrustedHost,
    /// The body of a request to the control plane is over this limit.
    ControlBodyTooLarge(usize),
    /// So many requests to the control plane are served already.
    ControlBusy(usize),
    /// The control plane cannot be reached, and why.
    ControlDown(String),
    /// The control plane has not answered within this.
    ControlTimeout(Duration),
}

impl Failure {
    /// Why a signature is bad that looks as it should.
    pub(crate) const NOT_OF_THE_BODY: &str = "it is not the signature of this body";

    /// What kind of failure this is, which decides on the status.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Failure::Refused(refusal) => Kind::Http(*refusal),
            Failure::ClientGone => Kind::ClientGone,
            Failure::UnknownFunction(_) | Failure::BadName => Kind::UnknownFunction,
            Failure::NamedTwice => Kind::FunctionRepeated,
            Failure::NoRoute | Failure::NotHere(_) => Kind::NoRoute,
            Failure::MethodNotAllowed(_) => Kind::MethodNotAllowed,
            Failure::NotAlexa => Kind::NotAlexa,
            Failure::Draining => Kind::Http(Refusal::Draining),
            Failure::ProviderDown(..) => Kind::ProviderDown,
            Failure::NoReplicas => Kind::NoReplicas,
            Failure::CannotStart(_) => Kind::CannotStart,
            Failure::TooManyWaiting(_) | Failure::NoRoomToWait(_) => Kind::TooManyWaiting,
            Failure::TooManyCalls(_) => Kind::TooManyCalls,
            Failure::TooManyOfFunction(_) => Kind::TooManyOfFunction,
            Failure::Connect(_) => Kind::Connect,
            Failure::Closed(_) => Kind::UpstreamClosed,
            Failure::Invalid(_) => Kind::UpstreamInvalid,
            Failure::Timeout(Phase::Replica | Phase::Listen(_), _) => Kind::TimeoutReplica,
            Failure::Timeout(Phase::Turn, _) => Kind::TimeoutTurn,
            Failure::Timeout(Phase::Connect, _) => Kind::TimeoutConnect,
            Failure::Timeout(Phase::FirstByte, _) => Kind::TimeoutFirstByte,
            Failure::Timeout(Phase::Body, _) => Kind::TimeoutBody,
            Failure::NotAvailable(_) => Kind::NotAvailable,
            Failure::Unauthorized | Failure::NoCredentials(..) => Kind::Unauthorized,
            Failure::TooManyGuesses(..) => Kind::TooManyGuesses,
            Failure::CrossSite => Kind::CrossSite,
            Failure::UntrustedHost => Kind::UntrustedHost,
            Failure::BadSignature(_) => Kind::BadSignature,
            Failure::NoSecret(_) => Kind::NoSecret,
            Failure::ControlBodyTooLarge(_) => Kind::Http(Refusal::BodyTooLarge),
            Failure::ControlBusy(_) => Kind::ControlBusy,
            Failure::ControlDown(_) => Kind::ControlDown,
            Failure::ControlTimeout(_) => Kind::ControlTimeout,
        }
    }

    /// The status under which the request is answered, and counted.
    pub(crate) fn status(&self) -> u16 {
        self.kind().status()
    }

    /// Counts the request, if it reached no function.
    pub(crate) fn count(&self, rejected: &Rejected) {
        rejected.count(match self {
            Failure::NotAvailable(_) => Kind::NoRoute,
            other => other.kind(),
        });
    }

    /// The head of the answer.
    pub(crate) fn head(&self) -> HeadWriter {
        let mut head = HeadWriter::response(self.status());
        head.text("Content-Type", "text/plain; charset=utf-8");
        head.text(X_GATEWAY_ERROR, self.kind().name());
        if matches!(self.status(), 429 | 503) {
            head.number("Retry-After", self.retry_after(), "");
        }
        if let Failure::MethodNotAllowed(allow) = self {
            head.text("Allow", allow);
        }
        match self {
            Failure::Unauthorized => _ = head.text("WWW-Authenticate", CHALLENGE),
            Failure::NoCredentials(scheme, name) => {
                head.text("WWW-Authenticate", &format!("{} realm=\"{name}\"", scheme.name()));
            }
            // There must be one (RFC 9110 section 15.5.2), and none is registered for signatures.
            Failure::BadSignature(_) => _ = head.text("WWW-Authenticate", "HMAC-SHA256"),
            _ => {}
        }
        head
    }

    /// After how many seconds it may be tried again.
    fn retry_after(&self) -> u64 {
        match self {
            Failure::TooManyGuesses(rest, _) => rest.as_secs() + u64::from(rest.subsec_nanos() > 0),
            _ => 1,
        }
    }

    /// The line of the answer, which may quote an engine or a client. `function` is the name that was called, where there was one.
    pub(crate) fn line(&self, function: Option<&str>) -> String {
        kit::log::one_line(&match function {
            Some(name) => format!("function `{name}`: {self}"),
            None => self.to_string(),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(refusal) => write!(f, "request refused: {}", refusal_line(*refusal)),
            Failure::ClientGone => f.write_str("client closed the connection"),
            Failure::UnknownFunction(name) => f.write_str(&no_function(name)),
            Failure::NamedTwice => f.write_str("more than one X-Function header"),
            Failure::BadName => write!(f, "no function there: expected {EXPECTED_NAME}"),
            Failure::NoRoute => {
                f.write_str("no such path: functions are under /function/NAME, or / with header X-Function")
            }
            Failure::NotHere(setting) => write!(f, "no such path at this address: it is served at {setting}"),
            Failure::MethodNotAllowed(allow) => write!(f, "method not allowed here, only {allow}"),
            Failure::NotAlexa => f.write_str(
                "expected header X-Function, or a JSON body of at most 256 KiB with session.sessionId, \
                 session.application.applicationId and request.intent.name",
            ),
            Failure::Draining => f.write_str("gateway is shutting down, see drain_timeout"),
            Failure::ProviderDown(name, problem) => f.write_str(&maybe_unknown(name, problem)),
            Failure::NoReplicas => {
                f.write_str("has no replica, and is not a replicated service that could be scaled")
            }
            Failure::CannotStart(reason) => write!(f, "no replica runs: {reason}"),
            Failure::TooManyWaiting(limit) => {
                write!(f, "{limit} calls wait for a replica already, see max_connections")
            }
            Failure::NoRoomToWait(limit) => {
                write!(f, "{limit} calls of all functions wait already, see max_connections")
            }
            Failure::TooManyCalls(limit) => write!(
                f,
                "{limit} calls are served and no more can wait, see label faas.concurrency and max_connections"
            ),
            Failure::TooManyOfFunction(limit) => {
                write!(f, "{limit} of its calls are served, its share of all, see max_workers_per_function")
            }
            Failure::Connect(reason) => {
                write!(
                    f,
                    "no replica can be reached within connect_timeout: {reason}, see faas.port, or address in functions_file"
                )
            }
            Failure::Closed(address) => {
                write!(f, "replica {address} closed the connection before its answer was whole")
            }
            Failure::Invalid(refusal) => write!(f, "answer is not valid HTTP: {}", refusal_line(*refusal)),
            Failure::Timeout(phase, limit) => {
                let span = duration::format(limit.span);
                let phase = match phase {
                    Phase::Listen(address) => {
                        return write!(
                            f,
                            "deadline of {span} passed waiting for {address} to take connections, see faas.port and {}",
                            limit.name
                        );
                    }
                    Phase::Replica => "waiting for a replica",
                    Phase::Turn => "waiting for its turn under label faas.concurrency",
                    Phase::Connect => "connecting",
                    Phase::FirstByte => "waiting for the first byte",
                    Phase::Body => "in the middle of the body",
                };
                write!(f, "deadline of {span} passed {phase}, see {}", limit.name)
            }
            Failure::NotAvailable(what) => write!(f, "{what} is not available in this release"),
            Failure::NoCredentials(scheme, name) => {
                let wanted = match scheme {
                    Scheme::Basic => "user and password are needed",
                    Scheme::Bearer => "a token is needed",
                };
                write!(f, "{wanted} for function `{name}`, see label {LABEL_AUTH}")
            }
            Failure::BadSignature(why) => write!(f, "bad signature: {why}, see label {LABEL_HMAC}"),
            Failure::NoSecret(label) => {
                write!(f, "closed: the secret of label {label} cannot be used, the gateway's log says why")
            }
            Failure::Unauthorized => f.write_str("user and password are needed here, see basic_auth"),
            Failure::TooManyGuesses(_, what) => write!(
                f,
                "too many wrong passwords came from this address, see {what}: none is looked at for {} s",
                self.retry_after()
            ),
            Failure::CrossSite => f.write_str(
                "a page of another site may change nothing here: Sec-Fetch-Site or Origin does not fit Host, \
                 which a proxy in front must pass on",
            ),
            Failure::UntrustedHost => f.write_str(
                "anybody can make the name in Host lead a browser here: ask for a password (basic_auth=true), \
                 or list the name in trusted_hosts",
            ),
            Failure::ControlBodyTooLarge(limit) => {
                write!(f, "body is over the limit of the control plane, {limit} bytes")
            }
            Failure::ControlBusy(limit) => {
                write!(f, "the control plane has {limit} requests in hand already, see max_workers")
            }
            Failure::ControlDown(why) => write!(f, "the control plane cannot be reached: {why}"),
            Failure::ControlTimeout(span) => {
                write!(f, "the control plane has not answered within {}", duration::format(*span))
            }
        }
    }
}

/// What a refusal says, with the setting that governs it.
pub(crate) fn refusal_line(refusal: Refusal) -> String {
    let setting = match refusal {
        Refusal::HeadTooLarge => "max_header_bytes",
        Refusal::TooManyHeaders => "max_headers",
        Refusal::BodyTooLarge => "max_body",
        Refusal::HeaderTimeout => "header_timeout",
        Refusal::BodyStall => "body_stall_timeout",
        Refusal::Overloaded => "max_workers",
        Refusal::TooManyOfClient => "max_workers_per_client, or max_connections_per_client",
        Refusal::Draining => "drain_timeout",
        other => return other.to_string(),
    };
    format!("{refusal}, see {setting}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_names_the_function_and_the_setting() {
        let limit = TimeLimit { span: Duration::from_secs(60), name: "upstream_timeout" };
        let failure = Failure::Timeout(Phase::FirstByte, limit);
        let want =
            "function `echo`: deadline of 1m passed waiting for the first byte, see upstream_timeout\n";
        assert_eq!(failure.line(Some("echo")), want);
        assert_eq!((failure.status(), failure.kind().name()), (504, "timeout_first_byte"));
        assert_eq!(
            Failure::Closed("10.0.0.5:8080".parse().unwrap()).line(Some("echo")),
            "function `echo`: replica 10.0.0.5:8080 closed the connection before its answer was whole\n"
        );
    }

    #[test]
    fn a_line_that_quotes_others_stays_one_short_line() {
        let failure = Failure::CannotStart("a\r\nb\u{1b}[31m".to_owned());
        assert_eq!(failure.line(Some("echo")), "function `echo`: no replica runs: a\\r\\nb\\u{1b}[31m\n");
        let long = Failure::CannotStart("\u{1b}".repeat(100_000)).line(None);
        assert!(long.len() <= kit::log::MAX_LINE_BYTES && long.ends_with("…\n"), "{}", long.len());
    }

    #[test]
    fn a_refusal_names_only_settings_that_the_gateway_has() {
        for refusal in Refusal::ALL {
            let line = refusal_line(refusal);
            let Some((_, setting)) = line.split_once("see ") else { continue };
            let is_one = |name: &str| crate::config::TABLE.iter().any(|row| row.name == name);
            assert!(setting.split(", or ").all(is_one), "{line}");
        }
    }

    #[test]
    fn who_may_come_back_is_told_when() {
        let written = |failure: Failure| String::from_utf8(failure.head().as_bytes().to_vec()).unwrap();
        let draining = written(Failure::Draining);
        assert!(
            draining.starts_with("HTTP/1.1 503 ") && draining.contains("Retry-After: 1\r\n"),
            "{draining}"
        );
        let unauthorized = written(Failure::Unauthorized);
        assert!(unauthorized.contains("WWW-Authenticate: Basic realm=\"faas\"\r\n"), "{unauthorized}");
        let method = written(Failure::MethodNotAllowed("GET"));
        assert!(method.starts_with("HTTP/1.1 405 ") && method.contains("Allow: GET\r\n"), "{method}");
        assert!(!method.contains("Retry-After"), "{method}");
        for (millis, want) in [(1, 1), (1000, 1), (59_001, 60)] {
            let guesses = written(Failure::TooManyGuesses(Duration::from_millis(millis), "basic_auth"));
            assert!(guesses.contains(&format!("Retry-After: {want}\r\n")), "{guesses}");
        }
    }
}
