//! The known functions: a snapshot that calls read without waiting for anybody, replaced as a whole when
//! a provider learns something.

mod replica;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Instant;

use http1::ClientConfig;
use kit::Deadline;

pub(crate) use replica::{Replica, Use};

use crate::metrics::FunctionSeries;
use crate::name::FunctionName;
use crate::provider::{Known, Sink};

/// A function as calls see it. It never changes; a newer one takes its place.
pub(crate) struct Function {
    /// What its provider says of it.
    pub(crate) known: Known,
    pub(crate) replicas: Vec<Arc<Replica>>,
    pub(crate) series: Arc<FunctionSeries>,
}

type Snapshot = Arc<HashMap<FunctionName, Arc<Function>>>;

/// The table of functions.
pub(crate) struct Table {
    client: ClientConfig,
    current: RwLock<Snapshot>,
    /// Counts the replacements; whoever waits for a replica waits for it to move.
    version: Mutex<u64>,
    changed: Condvar,
}

impl Table {
    /// An empty table whose replicas are called within the bounds of `client`.
    pub(crate) fn new(client: ClientConfig) -> Table {
        Table {
            client,
            current: RwLock::new(Arc::new(HashMap::new())),
            version: Mutex::new(0),
            changed: Condvar::new(),
        }
    }

    /// Everything that is known now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The function of that name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Function>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    /// The number of replacements so far, to be handed to [`Table::wait_after`].
    pub(crate) fn version(&self) -> u64 {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the table was replaced after `version`, or the deadline; whether it was.
    pub(crate) fn wait_after(&self, version: u64, deadline: Deadline) -> bool {
        let mut current = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        while *current == version {
            let left = deadline.remaining();
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            current = match left {
                Some(left) => {
                    self.changed.wait_timeout(current, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(current).unwrap_or_else(PoisonError::into_inner),
            };
        }
        true
    }

    /// Closes connections that nobody has used for a while.
    pub(crate) fn sweep(&self, now: Instant) {
        for function in self.snapshot().values() {
            function.replicas.iter().for_each(|replica| replica.pool().sweep(now));
        }
    }

    /// Closes all kept connections: files have run out, and these are the ones that nobody needs.
    pub(crate) fn close_idle(&self) {
        for function in self.snapshot().values() {
            function.replicas.iter().for_each(|replica| replica.pool().clear());
        }
    }

    /// The next form of a function: figures and connections of what stays are kept.
    fn renewed(&self, known: Known, old: Option<&Arc<Function>>) -> Arc<Function> {
        let kept = |address: &SocketAddr| {
            old?.replicas.iter().find(|replica| replica.address() == *address).map(Arc::clone)
        };
        let fresh = |address: SocketAddr| Arc::new(Replica::new(address, self.client));
        let replicas: Vec<_> =
            known.endpoints.iter().map(|address| kept(address).unwrap_or_else(|| fresh(*address))).collect();
        let series = old.map_or_else(Arc::default, |old| Arc::clone(&old.series));
        series.wanted.set(known.wanted as usize);
        series.ready.set(replicas.len());
        Arc::new(Function { known, replicas, series })
    }
}

impl Sink for Table {
    fn set(&self, functions: Vec<Known>) {
        let old = self.snapshot();
        let renewed = functions.into_iter().map(|known| {
            let function = self.renewed(known.clone(), old.get(known.name.as_str()));
            (known.name, function)
        });
        let new: HashMap<_, _> = renewed.collect();
        let stays = |replica: &Arc<Replica>, function: &Function| {
            let function = new.get(function.known.name.as_str());
            function.is_some_and(|function| function.replicas.iter().any(|other| Arc::ptr_eq(other, replica)))
        };
        let gone: Vec<_> = old
            .values()
            .flat_map(|function| function.replicas.iter().filter(|replica| !stays(replica, function)))
            .map(Arc::clone)
            .collect();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
        gone.iter().for_each(|replica| replica.pool().close());
    }

    fn in_flight(&self, name: &str, address: SocketAddr) -> usize {
        let function = self.find(name);
        let of = |function: &Function| {
            function.replicas.iter().find(|replica| replica.address() == address).map(|it| it.in_flight())
        };
        function.as_deref().and_then(of).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Labels;
    use std::time::Duration;

    fn known(name: &str, endpoints: &[&str]) -> Known {
        Known {
            name: FunctionName::parse(name.as_bytes()).unwrap(),
            labels: Labels::default(),
            about: Arc::default(),
            starting: Vec::new(),
            is_scalable: true,
            is_updating: false,
            endpoints: endpoints.iter().map(|address| address.parse().unwrap()).collect(),
            wanted: 2,
            problem: None,
        }
    }

    #[test]
    fn what_stays_keeps_its_figures_and_connections() {
        let table = Table::new(ClientConfig::default());
        table.set(vec![known("a", &["127.0.0.1:1", "127.0.0.1:2"]), known("b", &[])]);
        let before = table.find("a").unwrap();
        before.series.observe(200, Duration::ZERO);
        table.set(vec![known("a", &["127.0.0.1:2", "127.0.0.1:3"])]);
        let after = table.find("a").unwrap();
        assert!(Arc::ptr_eq(&before.replicas[1], &after.replicas[0]));
        assert!(Arc::ptr_eq(&before.series, &after.series));
        assert_eq!((after.series.wanted.get(), after.series.ready.get()), (2, 2));
        assert!(table.find("b").is_none());
    }

    #[test]
    fn waiting_ends_with_a_change_or_at_the_deadline() {
        let table = Arc::new(Table::new(ClientConfig::default()));
        let version = table.version();
        assert!(!table.wait_after(version, Deadline::after(Duration::from_millis(1))));
        let other = Arc::clone(&table);
        let thread = std::thread::spawn(move || other.set(vec![known("a", &[])]));
        assert!(table.wait_after(version, Deadline::after(Duration::from_secs(5))));
        thread.join().unwrap();
        assert!(table.wait_after(version, Deadline::after(Duration::ZERO)), "it has changed already");
    }
}
