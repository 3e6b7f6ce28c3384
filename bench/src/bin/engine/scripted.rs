//! An engine that answers from memory, in the way of Engine 20.10: filters by id prefix and by service, a length for
//! short answers, chunks for others. It counts what it is asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::documents;

/// The longest body that is sent with a length: Go's server begins chunks beyond it.
const MAX_WITH_LENGTH: usize = 2048;

/// Go's server writes chunks of about this size.
const CHUNK: usize = 32 * 1024;

/// An id of 25 digits and letters that is spread as the engine's are: the first digits differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) number: usize,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A multiplication with an odd number has no two numbers meet.
        let mut spread = (self.number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for _ in 0..12 {
            let digit = u32::try_from(spread % 36).unwrap_or_default();
            write!(f, "{}", char::from_digit(digit, 36).unwrap_or('0'))?;
            spread /= 36;
        }
        f.write_str("0123456789abc")
    }
}

/// One service and its tasks, as they are sent.
struct Service {
    name: String,
    document: String,
    /// The id and the document of each.
    tasks: Vec<(String, String)>,
}

#[derive(Default)]
struct State {
    /// By id.
    services: BTreeMap<String, Service>,
    streams: Vec<TcpStream>,
    /// The next number of an id or an address.
    next: usize,
}

/// What was asked for and sent.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) requests: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// The engine. Its threads end with the process.
pub(crate) struct Engine {
    pub(crate) addr: SocketAddr,
    /// Where all tasks listen, each at a loopback address of its own.
    pub(crate) port: u16,
    pub(crate) counts: Arc<Counts>,
    state: Arc<Mutex<State>>,
}

impl Engine {
    /// One with `services` functions of `tasks` running tasks each.
    pub(crate) fn start(services: usize, tasks: usize) -> io::Result<Engine> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let functions = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let (addr, port) = (listener.local_addr()?, functions.local_addr()?.port());
        thread::spawn(move || accept(&functions, &|stream| be_called(stream)));
        let engine = Engine { addr, port, counts: Arc::default(), state: Arc::default() };
        for number in 0..services {
            let id = engine.add(&format!("function-{number:05}"), tasks);
            (0..tasks).for_each(|_| engine.add_task(id));
        }
        let (state, counts) = (Arc::clone(&engine.state), Arc::clone(&engine.counts));
        thread::spawn(move || {
            accept(&listener, &move |stream| _ = answer(stream, &state, &counts)); // the gateway has gone
        });
        Ok(engine)
    }

    /// Adds a service that wants so many replicas and has none. Nothing tells of it.
    pub(crate) fn add(&self, name: &str, replicas: usize) -> Id {
        let mut state = lock(&self.state);
        let id = Id { number: state.next };
        state.next += 1;
        let document = documents::service(id, name, replicas, self.port);
        state.services.insert(id.to_string(), Service { name: name.to_owned(), document, tasks: Vec::new() });
        id
    }

    /// Adds a task that runs, on another node: nothing tells of it.
    pub(crate) fn add_task(&self, service: Id) {
        let mut state = lock(&self.state);
        let id = Id { number: state.next };
        state.next += 1;
        let number = state.next.to_be_bytes();
        let address = Ipv4Addr::new(127, number[5] + 1, number[6], number[7]);
        let task = documents::task(id, service, "running", address);
        if let Some(service) = state.services.get_mut(&service.to_string()) {
            service.tasks.push((id.to_string(), task));
        }
    }

    /// Tells whoever listens that something was done to a service.
    pub(crate) fn tell(&self, action: &str, service: Id, name: &str) {
        let event = documents::event(action, service, name);
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        lock(&self.state).streams.retain_mut(|stream| stream.write_all(chunk.as_bytes()).is_ok());
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, serve: &(dyn Fn(TcpStream) + Sync)) {
    thread::scope(|scope| {
        for stream in listener.incoming().flatten() {
            scope.spawn(move || serve(stream));
        }
    });
}

/// A function: 200 to each request that has a head and no body.
fn be_called(stream: TcpStream) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while let Ok(Some(_)) = target(&mut reader) {
        if writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
            return;
        }
    }
}

/// The target of the next request; `None` at the end of the connection.
fn target(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut field = String::new();
    while reader.read_line(&mut field)? > 2 {
        field.clear();
    }
    Ok(line.split(' ').nth(1).map(str::to_owned))
}

fn answer(stream: TcpStream, state: &Mutex<State>, counts: &Counts) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(target) = target(&mut reader)? {
        counts.requests.fetch_add(1, Relaxed);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let path = path.strip_prefix("/v1.41").unwrap_or(path);
        if path == "/events" {
            writer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            lock(state).streams.push(writer.try_clone()?);
            continue;
        }
        let body = body(path, query, &lock(state).services);
        let head = if body.is_some() { "200 OK" } else { "404 Not Found" };
        let sent = send(&mut writer, head, body.as_deref().unwrap_or(r#"{"message":"not found"}"#))?;
        counts.bytes.fetch_add(sent as u64, Relaxed);
    }
    Ok(())
}

fn send(writer: &mut TcpStream, status: &str, body: &str) -> io::Result<usize> {
    let head = format!("HTTP/1.1 {status}\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\n");
    let mut bytes = Vec::with_capacity(head.len() + body.len() + 64);
    bytes.extend_from_slice(head.as_bytes());
    if body.len() <= MAX_WITH_LENGTH {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    } else {
        bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        for piece in body.as_bytes().chunks(CHUNK) {
            bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
    }
    writer.write_all(&bytes)?;
    Ok(bytes.len())
}

/// `None` where there is no such thing.
fn body(path: &str, query: &str, services: &BTreeMap<String, Service>) -> Option<String> {
    let list = |documents: Vec<&str>| Some(format!("[{}]\n", documents.join(",")));
    let (ids, names, of) = (filter(query, "id"), filter(query, "name"), filter(query, "service"));
    let is_asked = |filter: &[String], text: &str| {
        filter.is_empty() || filter.iter().any(|start| text.starts_with(start.as_str()))
    };
    match path {
        "/_ping" => Some("OK".to_owned()),
        "/networks" => Some(documents::NETWORKS.to_owned()),
        "/containers/json" => Some("[]\n".to_owned()),
        "/services" => {
            let is_meant =
                |(id, service): &(&String, &Service)| is_asked(&ids, id) && is_asked(&names, &service.name);
            list(services.iter().filter(is_meant).map(|(_, one)| one.document.as_str()).collect())
        }
        // The engine looks up each service that is named, and refuses all where one is not there.
        "/tasks" if !of.is_empty() => {
            let of: Option<Vec<&Service>> = of.iter().map(|id| services.get(id)).collect();
            let tasks = of?.into_iter().flat_map(|service| &service.tasks);
            list(tasks.map(|(_, document)| document.as_str()).collect())
        }
        "/tasks" => {
            let tasks = services.values().flat_map(|service| &service.tasks);
            list(tasks.filter(|(id, _)| is_asked(&ids, id)).map(|(_, one)| one.as_str()).collect())
        }
        path => {
            let key = path.strip_prefix("/services/")?;
            let by_name = || services.values().find(|service| service.name == key);
            services.get(key).or_else(by_name).map(|service| service.document.clone())
        }
    }
}

/// The values of one filter in a query: `{"NAME":["a","b"]}`, percent-encoded.
fn filter(query: &str, name: &str) -> Vec<String> {
    let text = query.strip_prefix("filters=").unwrap_or_default();
    let text = text.replace("%22", "\"").replace("%5B", "[").replace("%5D", "]").replace("%2C", ",");
    let start = format!("\"{name}\"%3A[");
    let Some((_, rest)) = text.split_once(&start) else { return Vec::new() };
    let values = rest.split(']').next().unwrap_or_default().split(',');
    values.map(|value| value.trim_matches('"').to_owned()).collect()
}
