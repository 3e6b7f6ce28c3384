//! What the gateway itself answers when a call cannot be served: one kind, one status, one line.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use http1::{HeadWriter, Refusal};
use kit::duration;

use crate::access::Scheme;
use crate::labels::{LABEL_AUTH, LABEL_HMAC};
use crate::metrics::{OwnRejection, Rejected, Rejection};
use crate::name::{EXPECTED_NAME, FunctionName, maybe_unknown, no_function};

/// The header that tells the gateway's own answers from a function's.
pub(crate) const X_GATEWAY_ERROR: &str = "X-Gateway-Error";

/// The status under which a call is counted whose client went away (nginx's number; never sent).
pub(crate) const CLIENT_GONE: u16 = 499;

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

    /// The value of [`X_GATEWAY_ERROR`].
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Failure::Refused(refusal) => refusal.reason(),
            Failure::ClientGone => "client_gone",
            Failure::UnknownFunction(_) | Failure::BadName => "unknown_function",
            Failure::NamedTwice => "function_repeated",
            Failure::NoRoute | Failure::NotHere(_) => "no_route",
            Failure::MethodNotAllowed(_) => "method_not_allowed",
            Failure::NotAlexa => "not_alexa",
            Failure::Draining => "draining",
            Failure::ProviderDown(..) => "provider_down",
            Failure::NoReplicas => "no_replicas",
            Failure::CannotStart(_) => "cannot_start",
            Failure::TooManyWaiting(_) | Failure::NoRoomToWait(_) => "too_many_waiting",
            Failure::TooManyCalls(_) => "too_many_calls",
            Failure::TooManyOfFunction(_) => "too_many_of_function",
            Failure::Connect(_) => "connect",
            Failure::Closed(_) => "upstream_closed",
            Failure::Invalid(_) => "upstream_invalid",
            Failure::Timeout(Phase::Replica | Phase::Listen(_), _) => "timeout_replica",
            Failure::Timeout(Phase::Turn, _) => "timeout_turn",
            Failure::Timeout(Phase::Connect, _) => "timeout_connect",
            Failure::Timeout(Phase::FirstByte, _) => "timeout_first_byte",
            Failure::Timeout(Phase::Body, _) => "timeout_body",
            Failure::NotAvailable(_) => "not_available",
            Failure::Unauthorized | Failure::NoCredentials(..) => "unauthorized",
            Failure::TooManyGuesses(..) => "too_many_guesses",
            Failure::CrossSite => "cross_site",
            Failure::UntrustedHost => "untrusted_host",
            Failure::BadSignature(_) => "bad_signature",
            Failure::NoSecret(_) => "no_secret",
            Failure::ControlBodyTooLarge(_) => Refusal::BodyTooLarge.reason(),
            Failure::ControlBusy(_) => "control_busy",
            Failure::ControlDown(_) => "control_down",
            Failure::ControlTimeout(_) => "control_timeout",
        }
    }

    /// The status: the one place that knows it.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Failure::Refused(refusal) => refusal.status(),
            Failure::ClientGone => CLIENT_GONE,
            Failure::NotAlexa | Failure::NamedTwice => 400,
            Failure::Unauthorized | Failure::NoCredentials(..) | Failure::BadSignature(_) => 401,
            Failure::CrossSite | Failure::UntrustedHost => 403,
            Failure::ControlBodyTooLarge(_) => 413,
            Failure::UnknownFunction(_) | Failure::BadName | Failure::NoRoute | Failure::NotHere(_) => 404,
            Failure::MethodNotAllowed(_) => 405,
            Failure::TooManyCalls(_) | Failure::TooManyGuesses(..) => 429,
            Failure::NotAvailable(_) => 501,
            Failure::Connect(_) | Failure::Closed(_) | Failure::Invalid(_) => 502,
            Failure::Draining
            | Failure::ProviderDown(..)
            | Failure::NoReplicas
            | Failure::NoSecret(_)
            | Failure::CannotStart(_)
            | Failure::TooManyWaiting(_)
            | Failure::NoRoomToWait(_)
            | Failure::TooManyOfFunction(_)
            | Failure::ControlBusy(_)
            | Failure::ControlDown(_) => 503,
            Failure::Timeout(..) | Failure::ControlTimeout(_) => 504,
        }
    }

    /// How it is counted among the requests that reached no function, if it is.
    fn rejection(&self) -> Option<Rejection> {
        let own = match self {
            Failure::Refused(refusal) => return Some(Rejection::Http(*refusal)),
            Failure::Draining => return Some(Rejection::Http(Refusal::Draining)),
            Failure::ControlBodyTooLarge(_) => return Some(Rejection::Http(Refusal::BodyTooLarge)),
            Failure::UnknownFunction(_) | Failure::BadName => OwnRejection::UnknownFunction,
            Failure::NamedTwice => OwnRejection::FunctionRepeated,
            Failure::ProviderDown(..) => OwnRejection::ProviderDown,
            Failure::NoRoute | Failure::NotHere(_) | Failure::NotAvailable(_) => OwnRejection::NoRoute,
            Failure::MethodNotAllowed(_) => OwnRejection::Method,
            Failure::NotAlexa => OwnRejection::NotAlexa,
            Failure::Unauthorized | Failure::NoCredentials(..) => OwnRejection::Unauthorized,
            Failure::TooManyGuesses(..) => OwnRejection::TooManyGuesses,
            Failure::CrossSite => OwnRejection::CrossSite,
            Failure::UntrustedHost => OwnRejection::UntrustedHost,
            Failure::BadSignature(_) => OwnRejection::BadSignature,
            Failure::NoSecret(_) => OwnRejection::NoSecret,
            Failure::TooManyOfFunction(_) => OwnRejection::TooManyOfFunction,
            _ => return None,
        };
        Some(Rejection::Own(own))
    }

    /// Counts the request, if it reached no function.
    pub(crate) fn count(&self, rejected: &Rejected) {
        self.rejection().into_iter().for_each(|rejection| rejected.count(rejection));
    }

    /// The head of the answer.
    pub(crate) fn head(&self) -> HeadWriter {
        let mut head = HeadWriter::response(self.status());
        head.text("Content-Type", "text/plain; charset=utf-8");
        head.text(X_GATEWAY_ERROR, self.kind());
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
        assert_eq!((failure.status(), failure.kind()), (504, "timeout_first_byte"));
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

    /// Who gets an answer with this header finds in the documents what it means.
    #[test]
    fn every_kind_is_in_the_documents() {
        let address = "10.0.0.5:8080".parse().unwrap();
        let why = || "why".to_owned();
        let phases = [
            Phase::Replica,
            Phase::Listen(address),
            Phase::Turn,
            Phase::Connect,
            Phase::FirstByte,
            Phase::Body,
        ];
        let mut failures = vec![
            Failure::UnknownFunction(why()),
            Failure::NoRoute,
            Failure::NotHere("it"),
            Failure::MethodNotAllowed("GET"),
            Failure::NotAlexa,
            Failure::NamedTwice,
            Failure::Draining,
            Failure::ProviderDown(why(), why()),
            Failure::NoReplicas,
            Failure::CannotStart(why()),
            Failure::TooManyWaiting(1),
            Failure::NoRoomToWait(1),
            Failure::TooManyCalls(1),
            Failure::TooManyOfFunction(1),
            Failure::Connect(why()),
            Failure::Closed(address),
            Failure::Invalid(Refusal::Version),
            Failure::NotAvailable("it"),
            Failure::Unauthorized,
            Failure::TooManyGuesses(Duration::ZERO, "basic_auth"),
            Failure::CrossSite,
            Failure::UntrustedHost,
            Failure::ControlBodyTooLarge(1),
            Failure::ControlBusy(1),
            Failure::ControlDown(why()),
            Failure::ControlTimeout(Duration::ZERO),
        ];
        failures.extend(
            phases.map(|phase| Failure::Timeout(phase, TimeLimit { span: Duration::ZERO, name: "it" })),
        );
        let told = include_str!("../../../docs/errors.md");
        for failure in failures {
            assert!(told.contains(&format!("`{}`", failure.kind())), "{} in docs/errors.md", failure.kind());
        }
        let refused = include_str!("../../../docs/api.md");
        for refusal in Refusal::ALL {
            assert!(
                refused.contains(&format!("`{}`", refusal.reason())),
                "{} in docs/api.md",
                refusal.reason()
            );
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
