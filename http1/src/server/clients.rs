//! The clients that have connections, by their addresses: how many connections each has, and its number among those
//! that [`Places`](super::places::Places) counts requests of. A client is forgotten with its last connection.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use kit::Guarded;

/// One client, see [`client_network`].
pub(super) struct Client {
    key: IpAddr,
    /// Its number, which is another client's once this one is gone.
    pub(super) number: usize,
    /// Its requests that wait for something other than a worker.
    waiting: AtomicUsize,
    /// The bytes that the heads of its requests take. Held on their own: who holds a client is counted as a connection.
    pub(super) heads: Arc<AtomicUsize>,
    clients: Arc<Clients>,
}

/// All clients. One comes or goes with a copy of the list at most: some hundred microseconds where there are a hundred
/// thousand.
#[derive(Default)]
pub(super) struct Clients(Guarded<Registry>);

/// No more clients than connections, and requests that came through a proxy.
#[derive(Default)]
struct Registry {
    clients: Vec<(IpAddr, Weak<Client>)>, // in order
    /// Numbers that were given back, and how many there are.
    free: Vec<usize>,
    count: usize,
}

impl Clients {
    /// The client with this address.
    pub(super) fn find(self: &Arc<Self>, address: IpAddr) -> Arc<Client> {
        let key = client_network(address);
        let mut registry = self.0.lock();
        let place = registry.place(key);
        if let Some(client) = place.ok().and_then(|place| registry.clients[place].1.upgrade()) {
            return client;
        }
        let number = registry.free.pop().unwrap_or_else(|| {
            registry.count += 1;
            registry.count - 1
        });
        let (waiting, heads) = (AtomicUsize::new(0), Arc::default());
        let client = Arc::new(Client { key, number, waiting, heads, clients: Arc::clone(self) });
        let entry = (key, Arc::downgrade(&client));
        match place {
            Ok(place) => registry.clients[place] = entry,
            Err(place) => registry.clients.insert(place, entry),
        }
        client
    }
}

impl Registry {
    /// Where a client is, or belongs.
    fn place(&self, key: IpAddr) -> Result<usize, usize> {
        self.clients.binary_search_by_key(&key, |(key, _)| *key)
    }
}

impl Client {
    /// Its connections, and its requests that came through a proxy.
    pub(super) fn connections(self: &Arc<Self>) -> usize {
        Arc::strong_count(self) - self.waiting.load(Relaxed).min(Arc::strong_count(self))
    }

    /// Counts one more request that waits, unless there are `most`.
    pub(super) fn wait(self: &Arc<Self>, most: usize) -> Option<Wait> {
        let more = |waiting: usize| (waiting < most).then_some(waiting + 1);
        self.waiting.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Wait(Arc::clone(self)))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut registry = self.clients.0.lock();
        registry.free.push(self.number);
        // Its address may have come again, as another client.
        if let Ok(place) = registry.place(self.key)
            && registry.clients[place].1.strong_count() == 0
        {
            registry.clients.remove(place);
        }
    }
}

/// A request of a client that waits.
pub(super) struct Wait(Arc<Client>);

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// What counts as one client: an IPv4 address, or the 64 bits of an IPv6 address that its network has; the other bits
/// anybody there chooses freely.
#[must_use]
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX)).into(),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(clients: &Arc<Clients>, address: &str) -> Arc<Client> {
        clients.find(address.parse().unwrap())
    }

    #[test]
    fn a_client_is_an_address_of_ipv4_or_a_network_of_ipv6() {
        let clients = Arc::default();
        let same = |one: &str, other: &str| {
            let (one, other) = (find(&clients, one), find(&clients, other));
            Arc::ptr_eq(&one, &other)
        };
        assert!(same("192.0.2.1", "::ffff:192.0.2.1") && same("2001:db8::1", "2001:db8:0:0:ffff::"));
        assert!(!same("192.0.2.1", "192.0.2.2") && !same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(!same("::", "0.0.0.0"));
    }

    #[test]
    fn a_client_is_forgotten_with_its_last_connection() {
        let clients = Arc::default();
        let (one, other) = (find(&clients, "192.0.2.1"), find(&clients, "192.0.2.2"));
        let again = find(&clients, "192.0.2.1");
        assert_eq!((one.number, other.number, one.connections(), other.connections()), (0, 1, 2, 1));
        drop(one);
        assert_eq!(again.connections(), 1);
        drop(again);
        assert_eq!(clients.0.lock().clients.len(), 1);
        assert_eq!(find(&clients, "192.0.2.3").number, 0, "a number is used again");
    }

    #[test]
    fn so_many_requests_of_a_client_wait_and_no_more() {
        let clients = Arc::default();
        let client = find(&clients, "192.0.2.1");
        let waits: Vec<_> = std::iter::from_fn(|| client.wait(3)).collect();
        assert_eq!((waits.len(), client.connections()), (3, 1));
        drop(waits);
        assert!(client.wait(1).is_some());
    }
}
