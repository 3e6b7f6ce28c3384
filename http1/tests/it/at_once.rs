//! Whole answers that a poller gives: without a worker, and without a thread for a client that does not read.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http1::server::{Answer, Answered};
use http1::{Exchange, HeadWriter, Server, ServerConfig, Service, Stats};
use kit::sys::Listener;
use testkit::eventually;
use testkit::http::{Connection, End};

use crate::support::{self, PATIENCE, get, head, post};

/// More than the buffers of both sockets hold.
const LONG: usize = 15 << 20;

/// Answers `/short` and `/long` at once; a worker answers the rest.
struct Pages {
    relays: bool,
    /// Status, bytes of the body and path of each answer that is over.
    answered: Mutex<Vec<(u16, u64, String)>>,
}

impl Service for Pages {
    fn call(&self, exchange: &mut Exchange<'_>) {
        exchange.respond(HeadWriter::response(200), b"by a worker").unwrap();
    }

    fn answer(&self, exchange: &Exchange<'_>) -> Option<Answer> {
        let body = match exchange.request().path() {
            b"/short" => b"at once".to_vec(),
            b"/long" => vec![b'x'; LONG],
            b"/panics" => panic!("as the test wants it"),
            _ => return None,
        };
        Some(Answer::new(HeadWriter::response(200), body))
    }

    fn relays(&self) -> bool {
        self.relays
    }

    fn answered(&self, answered: &Answered<'_>) {
        let path = answered.request.map_or(&b""[..], |request| request.path());
        let path = String::from_utf8(path.to_vec()).unwrap();
        self.answered.lock().unwrap().push((answered.status.unwrap_or_default(), answered.bytes, path));
    }
}

struct Fixture {
    server: Server,
    pages: Arc<Pages>,
}

impl Fixture {
    fn start(relays: bool, write_stall_timeout: Duration) -> Fixture {
        let config =
            ServerConfig { pollers: 2, write_stall_timeout, tells_answers: true, ..ServerConfig::default() };
        let pages = Arc::new(Pages { relays, answered: Mutex::default() });
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Fixture { server: Server::start(listener, config, pages.clone()).unwrap(), pages }
    }

    fn send(&self, bytes: impl AsRef<[u8]>) -> Connection {
        let mut connection = Connection::open(self.server.address()).unwrap();
        connection.within(PATIENCE);
        connection.send(bytes).unwrap();
        connection
    }

    #[track_caller]
    fn wait(&self, what: &str, is_so: impl Fn(&Stats) -> bool) {
        support::wait(|| self.server.stats(), what, is_so);
    }

    #[track_caller]
    fn answered(&self, want: &[(u16, u64, &str)]) {
        eventually(PATIENCE, || {
            let answered = self.pages.answered.lock().unwrap().clone();
            let is_same = answered
                .iter()
                .map(|(status, bytes, path)| (*status, *bytes, path.as_str()))
                .eq(want.iter().copied());
            if is_same { Ok(()) } else { Err(format!("{answered:?}")) }
        });
    }
}

/// Servers whose pollers move calls, and servers whose workers do all of it.
fn both(check: impl Fn(bool)) {
    [false, true].into_iter().for_each(check);
}

#[test]
fn answers_of_pollers_and_workers_follow_each_other_on_one_connection() {
    both(|relays| {
        let fixture = Fixture::start(relays, PATIENCE);
        let paths = ["/short", "/worker", "/short", "/short", "/worker", "/long", "/short"];
        let mut connection = fixture.send(paths.map(get).concat());
        for path in paths {
            let reply = connection.reply("GET").unwrap();
            match path {
                "/long" => assert_eq!(reply.body.len(), LONG),
                "/short" => assert_eq!(reply.body, b"at once"),
                _ => assert_eq!(reply.body, b"by a worker"),
            }
        }
        let length = |path| if path == "/long" { LONG as u64 } else { 7 + 4 * u64::from(path == "/worker") };
        fixture.answered(&paths.map(|path| (200, length(path), path)));
    });
}

#[test]
fn an_answer_to_head_has_the_length_and_no_body_and_a_body_that_nobody_wants_is_passed_over() {
    both(|relays| {
        let fixture = Fixture::start(relays, PATIENCE);
        let mut connection =
            fixture.send([head("HEAD", "/short", ""), post("/short", b"not wanted"), get("/short")].concat());
        let reply = connection.reply("HEAD").unwrap();
        assert_eq!((reply.status, reply.header("Content-Length")), (200, Some("7")));
        assert_eq!(connection.reply("POST").unwrap().body, b"at once");
        assert_eq!(connection.reply("GET").unwrap().body, b"at once");
    });
}

#[test]
fn a_panic_over_an_answer_leaves_the_request_to_a_worker() {
    both(|relays| {
        let fixture = Fixture::start(relays, PATIENCE);
        assert_eq!(fixture.send(get("/panics")).reply("GET").unwrap().body, b"by a worker");
    });
}

#[test]
fn a_client_that_does_not_read_holds_no_thread_and_can_read_later() {
    both(|relays| {
        let fixture = Fixture::start(relays, PATIENCE * 6);
        let mut slow = fixture.send([get("/long"), get("/worker")].concat());
        fixture.wait("answering", |stats| stats.connections_active == 1);
        for _ in 0..20 {
            assert_eq!(fixture.send(get("/short")).reply("GET").unwrap().body, b"at once");
        }
        let stats = fixture.server.stats();
        assert_eq!((stats.workers_busy, stats.workers_idle, stats.waiting), (0, 0, 0), "no thread");
        assert!(!fixture.server.is_quiet());
        assert_eq!(slow.reply("GET").unwrap().body.len(), LONG);
        assert_eq!(slow.reply("GET").unwrap().body, b"by a worker");
    });
}

/// All of them together are more than the bound: the newest one stays.
#[test]
fn of_many_clients_that_do_not_read_the_oldest_are_broken_off() {
    both(|relays| {
        let fixture = Fixture::start(relays, PATIENCE * 6);
        let mut clients: Vec<_> = (1..=5)
            .map(|number| {
                let client = fixture.send(get("/long"));
                eventually(PATIENCE, || {
                    let (stats, over) =
                        (fixture.server.stats(), fixture.pages.answered.lock().unwrap().len());
                    let is_so = (stats.connections_active, over) == (1, number - 1);
                    if is_so { Ok(()) } else { Err(format!("{stats:?} {over}")) }
                });
                client
            })
            .collect();
        assert_eq!(clients.pop().unwrap().reply("GET").unwrap().body.len(), LONG);
        for client in &mut clients {
            assert!(client.rest().replies(&["GET"]).is_err());
        }
    });
}

#[test]
fn an_answer_that_nobody_reads_is_broken_off_in_time_and_observed_once() {
    both(|relays| {
        let fixture = Fixture::start(relays, Duration::from_millis(100));
        let mut client = fixture.send(get("/long"));
        eventually(PATIENCE, || match fixture.pages.answered.lock().unwrap().len() {
            0 => Err("not broken off".to_owned()),
            _ => Ok(()),
        });
        let raw = client.rest();
        assert!(raw.bytes.len() < LONG && raw.replies(&["GET"]).is_err());
        let answered = fixture.pages.answered.lock().unwrap();
        assert!(matches!(&answered[..], [(200, 1.., path)] if path == "/long"), "{answered:?}");
    });
}

#[test]
fn a_server_that_ends_breaks_off_what_is_not_read_and_tells_it() {
    both(|relays| {
        let Fixture { server, pages } = Fixture::start(relays, PATIENCE * 6);
        let mut client = Connection::open(server.address()).unwrap();
        client.within(PATIENCE).send(get("/long")).unwrap();
        eventually(PATIENCE, || match server.stats().connections_active {
            1 => Ok(()),
            count => Err(format!("{count} active")),
        });
        server.stop();
        assert_ne!(client.rest().end, End::Open);
        assert_eq!(pages.answered.lock().unwrap().len(), 1);
    });
}
