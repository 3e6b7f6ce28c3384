//! A server with several listeners.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http1::server::MAX_LISTENERS;
use http1::{Exchange, HeadWriter, Server, ServerConfig, Service};
use kit::sys::Listener;
use testkit::eventually;
use testkit::http::{Client, Connection, End};

use crate::support::{PATIENCE, get};

/// Answers with the number of the listener.
struct Which;

impl Service for Which {
    fn call(&self, exchange: &mut Exchange<'_>) {
        let number = exchange.listener().to_string();
        exchange.respond(HeadWriter::response(200), number.as_bytes()).unwrap();
    }
}

/// Listeners at addresses of their own.
fn listeners(count: u8) -> Vec<Listener> {
    let address = |number| SocketAddr::from((Ipv4Addr::new(127, 9, 0, number), 0));
    (1..=count).map(|number| Listener::bind(address(number)).unwrap()).collect()
}

fn server(pollers: usize) -> (Server, Vec<SocketAddr>) {
    let listeners = listeners(3);
    let addresses = listeners.iter().map(|listener| listener.address().unwrap()).collect();
    let config = ServerConfig { pollers, ..ServerConfig::default() };
    (Server::start_on(listeners, config, Arc::new(Which)).unwrap(), addresses)
}

#[test]
fn a_request_knows_by_which_listener_its_client_came() {
    for pollers in [1, 3] {
        let (server, addresses) = server(pollers);
        assert_eq!(addresses[0], server.address());
        let mut clients: Vec<Client> = addresses.iter().map(|address| Client::new(*address)).collect();
        for round in 0..5 {
            for (number, client) in clients.iter_mut().enumerate() {
                let reply = client.request().timeout(PATIENCE).send().unwrap();
                assert_eq!(reply.text(), number.to_string(), "round {round}, {pollers} pollers");
            }
        }
    }
}

#[test]
fn all_listeners_are_closed_once_what_has_come_to_them_was_accepted() {
    let (server, addresses) = server(2);
    let mut sent: Vec<(usize, Connection)> = Vec::new();
    for (number, address) in addresses.iter().enumerate() {
        for _ in 0..20 {
            let mut connection = Connection::open(*address).unwrap();
            connection.within(PATIENCE);
            connection.send(get("/")).unwrap();
            sent.push((number, connection));
        }
    }
    server.begin_drain();
    server.stop_accepting();
    for (number, mut connection) in sent {
        assert_eq!(connection.reply("GET").unwrap().text(), number.to_string());
        assert_eq!(connection.rest().end, End::Closed);
    }
    eventually(PATIENCE, || if server.is_done() { Ok(()) } else { Err(format!("{:?}", server.stats())) });
    for address in addresses {
        assert!(Connection::open(address).is_err(), "{address} still listens");
    }
}

#[test]
fn there_is_a_bound_on_listeners() {
    let most = u8::try_from(MAX_LISTENERS).unwrap();
    for (count, is_good) in [(0, false), (most, true), (most + 1, false)] {
        let started = Server::start_on(listeners(count), ServerConfig::default(), Arc::new(Which));
        assert_eq!(started.is_ok(), is_good, "{count}");
    }
}
