//! Calls to the engine: one connection pool, one agreed version, a deadline for each call.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http1::{ClientConfig, Connection, Endpoint, Pool, Request, Response};
use kit::{Deadline, Guarded};
use serde_json::Value;

use crate::events::EventStream;
use crate::items::{End, Flaw, Items, MAX_ITEM_BYTES};
use crate::json::{Document, reason};
use crate::tape::Tape;
use crate::types::{Container, Info, Network, Service, Task};
use crate::{Error, Host, Version};

/// The longest answer that is read: a list of some twenty thousand tasks. Of a list one item at a time is held.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// How much of a list is read at once.
const PIECE_BYTES: usize = 16 * 1024;

/// The longest refusal that is read.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// The longest message of the engine that is passed on.
const MAX_MESSAGE_BYTES: usize = 1024;

/// Tries of an update whose spec goes on changing.
const MAX_UPDATE_TRIES: usize = 20;

/// How long such an update is tried in all, beyond the calls that are under way.
const MAX_UPDATE_TIME: Duration = Duration::from_secs(10);

/// The longest pause between two of them.
const MAX_UPDATE_PAUSE: Duration = Duration::from_millis(100);

/// The versions to speak with an engine.
#[derive(Clone, Copy)]
struct Agreed {
    /// Where documents are read.
    known: Version,
    /// The engine's own newest, where a document goes back as it came: under an older one the engine drops what that
    /// one does not know, from what it gives and from what it takes.
    newest: Version,
}

/// Tasks to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tasks {
    /// Those that are meant to run.
    MeantToRun,
    /// All that the manager remembers, ended ones too. Only these tell why a service does not come up: a task that was
    /// rejected or failed is no longer meant to run.
    All,
}

/// What one question is for, and until when it may take.
#[derive(Clone, Copy)]
struct Ask<'a> {
    action: &'a str,
    deadline: Deadline,
}

/// An engine.
pub struct Engine {
    host: Host,
    timeout: Duration,
    /// `None` until the first call, and after a failed connect: a name may have another address then.
    pool: Guarded<Option<Arc<Pool>>>,
    /// `None` until it was agreed on, and after an engine refused it.
    version: Guarded<Option<Agreed>>,
}

impl Engine {
    /// An engine at `host`, each call to which takes at most `timeout`. Nothing is connected yet.
    #[must_use]
    pub fn new(host: Host, timeout: Duration) -> Engine {
        Engine { host, timeout, pool: Guarded::new(None), version: Guarded::new(None) }
    }

    /// The version of the API that is spoken with it.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn version(&self) -> Result<Version, Error> {
        self.agreed(Deadline::after(self.timeout)).map(|agreed| agreed.known)
    }

    fn agreed(&self, deadline: Deadline) -> Result<Agreed, Error> {
        if let Some(agreed) = *self.version.lock() {
            return Ok(agreed);
        }
        let agreed = self.negotiate(deadline)?;
        *self.version.lock() = Some(agreed);
        Ok(agreed)
    }

    /// `/_ping` tells the newest version, from 1.25 on; `/version` also the oldest.
    fn negotiate(&self, deadline: Deadline) -> Result<Agreed, Error> {
        let action = "negotiate the API version";
        let newest = self.newest_of_ping(action, deadline)?;
        if let Some(newest) = newest.filter(|newest| *newest <= Version::NEWEST_KNOWN) {
            return Ok(Agreed { known: newest, newest });
        }
        self.document(Ask { action, deadline }, "/version", |document| {
            let version = |path| document.text(path).map(|text| Version::parse(&text));
            let newest = version("/ApiVersion")?.ok_or_else(|| document.wrong("/ApiVersion", "a version"))?;
            Ok(Agreed { known: Version::choose(version("/MinAPIVersion")?, newest), newest })
        })
    }

    /// `None` when the answer, whatever it is, does not tell.
    fn newest_of_ping(&self, action: &str, deadline: Deadline) -> Result<Option<Version>, Error> {
        let pool = self.pool(deadline)?;
        let mut ping =
            pool.send(&Request::get("/_ping"), deadline).map_err(|source| self.transport(action, source))?;
        let header = ping.headers().get("api-version").and_then(|value| std::str::from_utf8(value).ok());
        let newest = header.and_then(Version::parse);
        let _ = ping.read_to_end(MAX_MESSAGE_BYTES, deadline); // its connection can be used again then
        Ok(newest)
    }

    /// The engine's part in a Swarm.
    ///
    /// # Errors
    /// See [`Error`]; so for all calls.
    pub fn info(&self) -> Result<Info, Error> {
        self.one("inspect the engine", "/info", Info::from_json)
    }

    /// All services.
    ///
    /// # Errors
    /// 503 when it is not a manager.
    pub fn services(&self) -> Result<Vec<Service>, Error> {
        let mut services = Vec::new();
        self.each_service(&[], &mut |service| services.push(service))?;
        Ok(services)
    }

    /// Hands over each service whose id begins with one of `ids`, or all where none is given. Answers how many bytes
    /// that took.
    ///
    /// # Errors
    /// 503 when it is not a manager. Services may have been handed over before an error.
    pub fn each_service(&self, ids: &[&str], each: &mut dyn FnMut(Service)) -> Result<usize, Error> {
        let target = match ids {
            [] => "/services".to_owned(),
            ids => format!("/services?filters={}", encode(&serde_json::json!({ "id": ids }).to_string())),
        };
        self.list("list services", &target, &mut |document| Service::from_json(document).map(&mut *each))
    }

    /// A service by id or name.
    ///
    /// # Errors
    /// 404 when there is none.
    pub fn service(&self, id: &str) -> Result<Service, Error> {
        let target = format!("/services/{}", encode(id));
        let action = format!("inspect service `{id}`");
        let service = self.one(&action, &target, Service::from_json)?;
        exactly(&action, id, [&service.id, &service.name])?;
        Ok(service)
    }

    /// The tasks that are meant to run, of all services or of one.
    ///
    /// # Errors
    /// 503 when it is not a manager, 404 when there is no such service.
    pub fn tasks(&self, service: Option<&str>) -> Result<Vec<Task>, Error> {
        let mut tasks = Vec::new();
        self.each_task(Tasks::MeantToRun, service.as_slice(), &mut |task| tasks.push(task))?;
        Ok(tasks)
    }

    /// Hands over the tasks of the services, or of all where none is given. Answers how many bytes that took.
    ///
    /// # Errors
    /// 503 when it is not a manager, 404 when one of the services is not there. Tasks may have been handed over before
    /// an error.
    pub fn each_task(
        &self,
        which: Tasks,
        services: &[&str],
        each: &mut dyn FnMut(Task),
    ) -> Result<usize, Error> {
        let mut filters = serde_json::Map::new();
        if which == Tasks::MeantToRun {
            filters.insert("desired-state".to_owned(), serde_json::json!(["running"]));
        }
        if !services.is_empty() {
            filters.insert("service".to_owned(), serde_json::json!(services));
        }
        let target = format!("/tasks?filters={}", encode(&Value::Object(filters).to_string()));
        self.list("list tasks", &target, &mut |document| Task::from_json(document).map(&mut *each))
    }

    /// Whether services and tasks may be read: two questions that find nothing.
    ///
    /// # Errors
    /// 503 when it is not a manager, or what else speaks against it.
    pub fn check_swarm(&self) -> Result<(), Error> {
        // No id begins with it.
        let filters = encode(r#"{"id":["-"]}"#);
        self.list("list services", &format!("/services?filters={filters}"), &mut |_| Ok(()))?;
        self.list("list tasks", &format!("/tasks?filters={filters}"), &mut |_| Ok(())).map(drop)
    }

    /// All networks.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn networks(&self) -> Result<Vec<Network>, Error> {
        self.all("list networks", "/networks", Network::from_json)
    }

    /// A network by id or name.
    ///
    /// # Errors
    /// 404 when there is none.
    pub fn network(&self, id: &str) -> Result<Network, Error> {
        let target = format!("/networks/{}", encode(id));
        let action = format!("inspect network `{id}`");
        let network = self.one(&action, &target, Network::from_json)?;
        exactly(&action, id, [&network.id, &network.name])?;
        Ok(network)
    }

    /// A container of this node by id or name.
    ///
    /// # Errors
    /// 404 when there is none.
    pub fn container(&self, id: &str) -> Result<Container, Error> {
        let target = format!("/containers/{}/json", encode(id));
        self.one(&format!("inspect container `{id}`"), &target, Container::from_json)
    }

    /// The tasks of which containers are unhealthy on this node, by their ids.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn unhealthy_tasks(&self) -> Result<Vec<String>, Error> {
        const LABEL: &str = "com.docker.swarm.task.id";
        let filters = serde_json::json!({"health": ["unhealthy"], "label": [LABEL]});
        let target = format!("/containers/json?filters={}", encode(&filters.to_string()));
        let tasks = self.all("list unhealthy containers", &target, |document| {
            document.text(&format!("/Labels/{LABEL}"))
        })?;
        Ok(tasks.into_iter().filter(|id| !id.is_empty()).collect())
    }

    /// What happens from now on to things of the given kinds, such as `service`: actions such as `update`, or whatever
    /// happens where none is given. What happened before this returns may not be in it: look at the services once
    /// more then.
    ///
    /// # Errors
    /// When the stream cannot be opened.
    pub fn events(&self, kinds: &[&str], actions: &[&str]) -> Result<EventStream, Error> {
        let action = "read events";
        let mut filters = serde_json::json!({"type": kinds});
        if !actions.is_empty() {
            filters["event"] = serde_json::json!(actions);
        }
        let target = format!("/events?filters={}", encode(&filters.to_string()));
        let open = &mut |target: &str, deadline| self.open_events(action, target, deadline);
        self.versioned((action, known), &target, open)
    }

    /// On a connection of its own, since the answer never ends.
    fn open_events(&self, action: &str, target: &str, deadline: Deadline) -> Result<EventStream, Error> {
        let pool = self.pool(deadline)?;
        let transport = |source| self.transport(action, source);
        let mut connection = pool.connect(deadline).map_err(transport)?;
        connection.exchange(&Request::get(target), deadline).map_err(transport)?;
        let status = connection.head().map_or(0, http1::ResponseHead::status);
        if status == 200 {
            return Ok(EventStream::new(connection, self.host.to_string()));
        }
        let mut body = Vec::new();
        let mut piece = [0; MAX_MESSAGE_BYTES];
        while body.len() < MAX_REFUSAL_BYTES {
            match connection.read(&mut piece, deadline).map_err(transport)? {
                0 => break,
                count => body.extend_from_slice(&piece[..count]),
            }
        }
        Err(refused(action, status, &body))
    }

    /// Changes a service's spec: reads the service, lets `edit` change its `Spec`, and writes that back whole, so
    /// that fields that are not known here survive. `edit` sees the whole document: what it finds there is still true
    /// when the engine takes the write, since the engine refuses a write that is based on an older version.
    /// `edit` answers whether there is anything to change; it is called again on a fresh document when somebody else
    /// was quicker. Answers whether something was changed.
    ///
    /// # Errors
    /// [`Error::OutOfSequence`] when that happens 20 times or for 10 s, or what the engine says. Each try is two calls.
    pub fn update_service(&self, id: &str, edit: &mut dyn FnMut(&mut Value) -> bool) -> Result<bool, Error> {
        let action = format!("update service `{id}`");
        let deadline = Deadline::after(MAX_UPDATE_TIME);
        let mut tries = 0;
        while tries < MAX_UPDATE_TRIES && !deadline.has_passed() {
            tries += 1;
            let mut service = self.get_newest(&action, &format!("/services/{}", encode(id)))?;
            let wrong = |field: &str, expected| Error::Field {
                action: action.clone(),
                field: field.to_owned(),
                expected,
            };
            let version = service["Version"]["Index"].as_u64();
            let version = version.ok_or_else(|| wrong("/Version/Index", "a number"))?;
            let own_id = service["ID"].as_str().filter(|id| !id.is_empty());
            let own_id = own_id.ok_or_else(|| wrong("/ID", "a string"))?.to_owned();
            exactly(&action, id, [&own_id, service["Spec"]["Name"].as_str().unwrap_or_default()])?;
            if !service["Spec"].is_object() {
                return Err(wrong("/Spec", "a map"));
            }
            if !edit(&mut service) {
                return Ok(false);
            }
            let target = format!("/services/{}/update?version={version}", encode(&own_id));
            match self.post(&action, &target, &service["Spec"]) {
                Ok(_) => return Ok(true),
                Err(error) if error.is_out_of_sequence() => pause(),
                Err(error) => return Err(error),
            }
        }
        Err(Error::OutOfSequence { action, tries })
    }

    fn one<T>(
        &self,
        action: &str,
        target: &str,
        from_json: fn(Document<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.versioned((action, known), target, &mut |target, deadline| {
            self.document(Ask { action, deadline }, target, from_json)
        })
    }

    fn document<T>(
        &self,
        ask: Ask<'_>,
        target: &str,
        from_json: impl FnOnce(Document<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let pool = self.pool(ask.deadline)?;
        let mut response = self.send(ask, &pool, &Request::get(target))?;
        let body = response.read_to_end(MAX_ITEM_BYTES, ask.deadline);
        let body = body.map_err(|source| self.transport(ask.action, source))?;
        from_json(Document::read(ask.action, &body, &mut Tape::default())?)
    }

    fn all<T>(
        &self,
        action: &str,
        target: &str,
        from_json: fn(Document<'_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        self.list(action, target, &mut |document| from_json(document).map(|one| all.push(one)))?;
        Ok(all)
    }

    /// Hands over each item of a list. Answers how many bytes that took.
    fn list(
        &self,
        action: &str,
        target: &str,
        each: &mut dyn FnMut(Document<'_>) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        self.versioned((action, known), target, &mut |target, deadline| {
            self.read_list(Ask { action, deadline }, target, each)
        })
    }

    fn read_list(
        &self,
        ask: Ask<'_>,
        target: &str,
        each: &mut dyn FnMut(Document<'_>) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let Ask { action, deadline } = ask;
        let pool = self.pool(deadline)?;
        let mut response = self.send(ask, &pool, &Request::get(target))?;
        let (mut items, mut tape, mut count, mut bytes) = (Items::new(), Tape::default(), 0, 0);
        let mut failed = None;
        let mut read = |item: &[u8]| {
            let result = Document::read(action, item, &mut tape).and_then(&mut *each);
            let error = result.err().map(|error| error.within(&format!("/{count}")));
            count += 1;
            // A text that is not JSON is worse than a wrong field, and may come behind it.
            if failed.is_none() || matches!(error, Some(Error::Json { .. })) {
                failed = error;
            }
        };
        let mut piece = [0; PIECE_BYTES];
        loop {
            let source = match response.read(&mut piece, deadline) {
                Ok(0) => break,
                Ok(length) if bytes + length <= MAX_ANSWER_BYTES => {
                    bytes += length;
                    items.feed(&piece[..length], &mut read).map_err(|flaw| no_list(action, flaw))?;
                    continue;
                }
                Ok(_) => http1::Error::TooLarge(MAX_ANSWER_BYTES),
                Err(source) => source,
            };
            return Err(self.transport(action, source));
        }
        match items.end().map_err(|flaw| no_list(action, flaw))? {
            End::List => failed.map_or(Ok(bytes), Err),
            // The engine's word for a list without items.
            End::Other(text) if text.trim_ascii() == b"null" => Ok(bytes),
            End::Other(text) => Err(Document::read(action, &text, &mut Tape::default())?.wrong("", "a list")),
        }
    }

    /// Sends a request; a refusal is read, and an error.
    fn send<'a>(&self, ask: Ask<'_>, pool: &'a Pool, request: &Request<'_>) -> Result<Response<'a>, Error> {
        let transport = |source| self.transport(ask.action, source);
        let mut response = pool.send(request, ask.deadline).map_err(transport)?;
        let status = response.status();
        if (200..300).contains(&status) {
            return Ok(response);
        }
        let body = response.read_to_end(MAX_REFUSAL_BYTES, ask.deadline).map_err(transport)?;
        Err(refused(ask.action, status, &body))
    }

    /// A document that is to go back by [`Engine::post`].
    fn get_newest(&self, action: &str, target: &str) -> Result<Value, Error> {
        self.versioned((action, newest), target, &mut |target, deadline| {
            self.call(Ask { action, deadline }, &Request::get(target))
        })
    }

    fn post(&self, action: &str, target: &str, body: &Value) -> Result<Value, Error> {
        let body = body.to_string();
        let headers = [("Content-Type", "application/json")];
        self.versioned((action, newest), target, &mut |target, deadline| {
            let request = Request { method: "POST", target, headers: &headers, body: body.as_bytes() };
            self.call(Ask { action, deadline }, &request)
        })
    }

    /// Calls with the agreed version in the path; a refused version is agreed on anew, once.
    fn versioned<T>(
        &self,
        (action, which): (&str, fn(Agreed) -> Version),
        target: &str,
        call: &mut dyn FnMut(&str, Deadline) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = Deadline::after(self.timeout);
        let path = |agreed: Agreed| format!("/v{}{target}", which(agreed));
        match call(&path(self.agreed(deadline)?), deadline) {
            Err(error) if error.is_version_refused() => {
                log::debug!("{action}: {error}; negotiating again");
                *self.version.lock() = None;
                call(&path(self.agreed(deadline)?), deadline)
            }
            other => other,
        }
    }

    fn call(&self, ask: Ask<'_>, request: &Request<'_>) -> Result<Value, Error> {
        let Ask { action, deadline } = ask;
        let pool = self.pool(deadline)?;
        let mut response = self.send(ask, &pool, request)?;
        let body = response.read_to_end(MAX_ITEM_BYTES, deadline);
        let body = body.map_err(|source| self.transport(action, source))?;
        // The answer to an update is empty before API 1.25.
        if body.is_empty() && request.method == "POST" {
            return Ok(Value::Null);
        }
        let not_json = |_| Error::Json { action: action.to_owned(), reason: reason(&body) };
        serde_json::from_slice(&body).map_err(not_json)
    }

    fn pool(&self, deadline: Deadline) -> Result<Arc<Pool>, Error> {
        if let Some(pool) = &*self.pool.lock() {
            return Ok(Arc::clone(pool));
        }
        let (first, others) = self.host.endpoints()?;
        let endpoint = choose(first, others, self.timeout, deadline);
        let pool = Arc::new(Pool::new(endpoint, client_config(self.timeout)));
        *self.pool.lock() = Some(Arc::clone(&pool));
        Ok(pool)
    }

    /// An error of the connection. The engine may come back as another one: nothing about it is kept.
    fn transport(&self, action: &str, source: http1::Error) -> Error {
        if matches!(source, http1::Error::Connect { .. }) {
            *self.pool.lock() = None;
            *self.version.lock() = None;
        }
        Error::Transport { action: action.to_owned(), host: self.host.to_string(), source }
    }
}

fn known(agreed: Agreed) -> Version {
    agreed.known
}

fn newest(agreed: Agreed) -> Version {
    agreed.newest
}

/// Of several addresses, such as those of `localhost`, the first that takes a connection, or the last. Each
/// has its share of the time.
fn choose(first: Endpoint, others: Vec<Endpoint>, timeout: Duration, deadline: Deadline) -> Endpoint {
    let share = timeout / u32::try_from(others.len() + 1).unwrap_or(u32::MAX);
    let mut endpoint = first;
    for other in others {
        if Connection::open(&endpoint, client_config(share), deadline).is_ok() {
            break;
        }
        endpoint = other;
    }
    endpoint
}

fn client_config(timeout: Duration) -> ClientConfig {
    ClientConfig { connect_timeout: timeout, max_idle: 2, ..ClientConfig::default() }
}

/// The answer cannot be a list.
fn no_list(action: &str, flaw: Flaw) -> Error {
    let reason = match flaw {
        Flaw::NotAList => "expected a list and its end".to_owned(),
        Flaw::ItemTooLong => format!("an item of the list is longer than {MAX_ITEM_BYTES} bytes"),
    };
    Error::Json { action: action.to_owned(), reason }
}

/// The engine's refusal, in its own words: `{"message": …}` since API 1.24, plain text from proxies.
fn refused(action: &str, status: u16, body: &[u8]) -> Error {
    let own = serde_json::from_slice::<Value>(body).ok();
    let own = own.as_ref().and_then(|value| value.get("message")).and_then(Value::as_str);
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_MESSAGE_BYTES)]);
    let words: Vec<&str> = own.unwrap_or(&text).split_whitespace().collect(); // a page of a proxy has lines
    let message = words.join(" ").chars().take(MAX_MESSAGE_BYTES).collect();
    Error::Engine { action: action.to_owned(), status, message }
}

/// Refuses what the engine found by the beginning of its id: what was asked for is not there.
fn exactly(action: &str, asked: &str, found: [&str; 2]) -> Result<(), Error> {
    if found.contains(&asked) {
        return Ok(());
    }
    let message = format!("{asked} not found");
    Err(Error::Engine { action: action.to_owned(), status: 404, message })
}

/// Waits a random moment, so that those who compete for a spec do not meet again.
fn pause() {
    let limit_ms = MAX_UPDATE_PAUSE.as_millis() as u64;
    thread::sleep(Duration::from_millis(kit::sys::limits::random() % limit_ms));
}

/// Percent-encodes everything but unreserved characters (RFC 3986 section 2.3).
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use testkit::unreachable::Refusing;
    use testkit::{Peer, Script};

    use super::*;

    #[test]
    fn anything_can_be_part_of_a_path() {
        assert_eq!(encode("a-b_c.d~1"), "a-b_c.d~1");
        assert_eq!(encode("../x?{\"a\":[1]} ä"), "..%2Fx%3F%7B%22a%22%3A%5B1%5D%7D%20%C3%A4");
    }

    #[test]
    fn of_several_addresses_one_that_listens_is_taken() {
        let refusing = Endpoint::Tcp(Refusing::new().addr());
        let peers = [Peer::tcp(Script::new()), Peer::tcp(Script::new())];
        let listening = peers.each_ref().map(|peer| Endpoint::Tcp(peer.addr()));
        let [a, b] = &listening;
        let cases = [
            (vec![a], a),
            (vec![a, b], a),
            (vec![&refusing, a, b], a),
            (vec![&refusing, &refusing, b], b),
            (vec![&refusing], &refusing),
        ];
        for (endpoints, want) in cases {
            let mut endpoints = endpoints.into_iter().cloned();
            let first = endpoints.next().unwrap(); // no case is empty
            let timeout = Duration::from_secs(10);
            assert_eq!(choose(first, endpoints.collect(), timeout, Deadline::after(timeout)), *want);
        }
    }

    #[test]
    fn refusals_carry_the_engines_words() {
        let text = |body: &str| refused("x", 404, body.as_bytes()).to_string();
        let want = "failed to x: engine answered 404: no such service";
        assert_eq!(text(r#"{"message":"no such service"}"#), want);
        assert_eq!(text("no such service\n"), want);
        assert_eq!(
            text(" <html>\r\n <b>no such</b>\nservice</html>\n"),
            "failed to x: engine answered 404: <html> <b>no such</b> service</html>"
        );
        assert_eq!(text(r#"{"error":1}"#), r#"failed to x: engine answered 404: {"error":1}"#);
        assert_eq!(text(""), "failed to x: engine answered 404: ");
    }

    #[test]
    fn the_beginning_of_an_id_is_no_name() {
        assert!(exactly("x", "liwqsa5w", ["liwqsa5w", "echo"]).is_ok());
        assert!(exactly("x", "echo", ["liwqsa5w", "echo"]).is_ok());
        let error = exactly("x", "li", ["liwqsa5w", "echo"]).unwrap_err();
        assert!(error.is_not_found(), "{error}");
    }
}
