//! The table of functions. Calls read a snapshot; each change of a provider replaces the snapshot as a whole.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use kit::Guarded;

use http1::ClientConfig;

use super::gate::Gate;
use super::hook::Hook;
use super::names::ByName;
use super::raised::Raised;
use super::replica::Replica;

use crate::access::Access;
use crate::function::{Backend, FunctionName, Known, Sink};
use crate::metrics::FunctionSeries;
use crate::secrets::Secrets;

/// A function as calls see it. It never changes: a change makes a new one.
pub(crate) struct Function {
    /// The facts from its provider.
    pub(crate) known: Known,
    /// Replicas that have accepted a connection, or are assumed to.
    pub(crate) replicas: Vec<Arc<Replica>>,
    /// Replicas that have not accepted a connection yet.
    pub(crate) starting: Vec<Backend>,
    /// Its access rules; `None` if everybody may call it.
    pub(crate) access: Option<Arc<Access>>,
    pub(crate) series: Arc<FunctionSeries>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) raised: Arc<Raised>,
    /// How often the number of wanted replicas has changed.
    pub(crate) changes: u64,
}

impl Function {
    /// The most calls in flight at all replicas together; 0 means no limit.
    pub(crate) fn limit(&self) -> usize {
        self.known.labels.concurrency as usize * self.replicas.len()
    }

    /// Whether the gateway consumes the field `Authorization` of a call.
    pub(crate) fn takes_authorization(&self) -> bool {
        self.access.as_ref().is_some_and(|access| access.takes_authorization())
    }

    /// Whether the labels name the same secrets.
    fn asks_as(&self, known: &Known) -> bool {
        let (ours, theirs) = (&self.known.labels, &known.labels);
        (&ours.auth, &ours.hmac) == (&theirs.auth, &theirs.hmac)
    }

    /// The same function with other access rules.
    fn asking(&self, access: Option<Arc<Access>>) -> Function {
        Function {
            known: self.known.clone(),
            replicas: self.replicas.clone(),
            starting: self.starting.clone(),
            access,
            series: Arc::clone(&self.series),
            gate: Arc::clone(&self.gate),
            raised: Arc::clone(&self.raised),
            changes: self.changes,
        }
    }

    /// Whether calls wait for a first replica.
    fn is_waited_for(&self) -> bool {
        self.replicas.is_empty() && self.series.waiting.get() > 0
    }
}

type Snapshot = Arc<ByName<Arc<Function>>>;

/// A replica that has not accepted a connection yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Starting {
    pub(crate) name: FunctionName,
    pub(crate) backend: Backend,
}

/// The table of functions.
pub(crate) struct Table {
    client: ClientConfig,
    secrets: Secrets,
    /// The most calls in flight of one function; `None` means no limit.
    share: Option<usize>,
    current: RwLock<Snapshot>,
    /// Held during a replacement of the snapshot.
    writing: Guarded<()>,
    /// Counts the replacements.
    version: AtomicU64,
    /// Called when waiting calls should check again.
    hook: Arc<Hook>,
}

impl Table {
    /// An empty table. Replicas are called within the bounds of `client`; access rules are read from `secrets`.
    pub(crate) fn new(client: ClientConfig, secrets: Secrets) -> Table {
        Table {
            client,
            secrets,
            share: None,
            current: RwLock::new(Arc::default()),
            writing: Guarded::new(()),
            version: AtomicU64::new(0),
            hook: Arc::default(),
        }
    }

    /// Bounds the calls in flight of each function, whatever its label says.
    pub(crate) fn with_share(self, share: Option<usize>) -> Table {
        Table { share, ..self }
    }

    /// An empty table without secrets.
    #[cfg(test)]
    pub(crate) fn empty() -> Table {
        Table::new(ClientConfig::default(), Secrets::new(std::path::Path::new("/nonexistent")))
    }

    /// Sets the callback for "waiting calls should check again". It is called at each replacement, at [`Table::touch`],
    /// and when a call under a limit ends. Set it once.
    pub(crate) fn on_change(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.hook.set(hook);
    }

    /// Has waiting calls check again.
    pub(crate) fn touch(&self) {
        self.hook.call();
    }

    /// The starting replicas, each with whether calls wait for its function.
    pub(crate) fn starting(&self) -> Vec<(Starting, bool)> {
        let snapshot = self.snapshot();
        let of = |function: &Arc<Function>| {
            let (name, is_waited_for) = (function.known.name.clone(), function.is_waited_for());
            let starting = function.starting.clone().into_iter();
            starting.map(move |backend| (Starting { name: name.clone(), backend }, is_waited_for))
        };
        snapshot.values().flat_map(of).collect()
    }

    /// Moves starting replicas that were seen to listen to the replicas that are called.
    pub(crate) fn accept(&self, listening: &[Starting]) {
        let _writing = self.writing.lock();
        let old = self.snapshot();
        let is_starting = |one: &Starting| {
            old.get(one.name.as_str()).is_some_and(|function| function.starting.contains(&one.backend))
        };
        if !listening.iter().any(is_starting) {
            return;
        }
        let mut new = ByName::clone(&old);
        for Starting { name, backend } in listening {
            let Some(old) = new.get(name.as_str()).filter(|old| old.starting.contains(backend)) else {
                continue;
            };
            let fresh = self.fresh(&old.known, backend);
            let replicas: Vec<_> = old.replicas.iter().map(Arc::clone).chain([fresh]).collect();
            let starting = old.starting.iter().filter(|other| *other != backend).cloned().collect();
            old.series.ready.set(replicas.len());
            let function = Function { replicas, starting, ..old.asking(old.access.clone()) };
            new.insert(name.clone(), Arc::new(function));
        }
        self.replace(new);
    }

    /// Reads the secrets of all functions again. A function whose secret cannot be used is closed.
    pub(crate) fn read_secrets(&self) {
        let _writing = self.writing.lock();
        let mut new = ByName::clone(&self.snapshot());
        let mut asking: Vec<_> = new.values_mut().filter(|function| function.access.is_some()).collect();
        for function in &mut asking {
            let fresh = function.asking(self.secrets.access(&function.known));
            **function = Arc::new(fresh);
        }
        if !asking.is_empty() {
            log::info!("secrets of {} functions read again", asking.len());
            self.replace(new);
        }
    }

    fn replace(&self, new: ByName<Arc<Function>>) {
        for function in new.values() {
            let of_replicas = Some(function.limit()).filter(|limit| *limit > 0);
            function.gate.set_limit(of_replicas.into_iter().chain(self.share).min().unwrap_or_default());
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        self.version.fetch_add(1, SeqCst);
        self.hook.call();
    }

    /// All functions.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The function with this name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Function>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    /// The number of replacements so far.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(SeqCst)
    }

    /// Closes connections that were idle too long. Returns the time of the next sweep.
    pub(crate) fn sweep(&self, now: Instant) -> Instant {
        let snapshot = self.snapshot();
        let replicas = snapshot.values().flat_map(|function| &function.replicas);
        let next = replicas.map(|replica| replica.pool().sweep(now)).min();
        next.unwrap_or(now + self.client.idle_timeout) // connections that become idle meanwhile are younger
    }

    /// Closes all idle connections: open files have run out, or the functions end.
    pub(crate) fn close_idle(&self) {
        for function in self.snapshot().values() {
            function.replicas.iter().for_each(|replica| replica.pool().clear());
        }
    }

    /// The bounds of calls to a function. Idle connections are closed before the function's timeout, so that a call
    /// that waits for a slot of the server gets it.
    fn client_of(&self, known: &Known) -> ClientConfig {
        let idle_timeout = self.client.idle_timeout;
        let idle_timeout = known.labels.timeout.map_or(idle_timeout, |timeout| idle_timeout.min(timeout / 2));
        ClientConfig { idle_timeout, ..self.client }
    }

    /// A new replica with its health.
    fn fresh(&self, known: &Known, backend: &Backend) -> Arc<Replica> {
        let replica = Replica::new(backend.clone(), self.client_of(known));
        replica.set_unhealthy(known.unhealthy.contains(backend));
        Arc::new(replica)
    }

    /// The new form of a function. Metrics and the connections of remaining replicas are kept.
    fn renewed(&self, known: Known, old: Option<&Arc<Function>>) -> Arc<Function> {
        let kept = |backend: &Backend| {
            old?.replicas.iter().find(|replica| replica.backend() == backend).map(Arc::clone)
        };
        let fresh = |backend: &Backend| backend.task.is_none().then(|| self.fresh(&known, backend));
        let (mut replicas, mut starting) = (Vec::new(), Vec::new());
        let backends =
            known.endpoints.iter().map(|backend| kept(backend).or_else(|| fresh(backend)).ok_or(backend));
        let backends = backends.chain(known.starting.iter().map(|backend| kept(backend).ok_or(backend)));
        for backend in backends {
            match backend {
                Ok(replica) => {
                    replica.set_unhealthy(known.unhealthy.contains(replica.backend()));
                    replicas.push(replica);
                }
                Err(backend) => starting.push(backend.clone()),
            }
        }
        let series = old.map_or_else(Arc::default, |old| Arc::clone(&old.series));
        series.wanted.set(known.wanted as usize);
        series.ready.set(replicas.len());
        let gate =
            old.map_or_else(|| Arc::new(Gate::new(Arc::clone(&self.hook))), |old| Arc::clone(&old.gate));
        if known.wanted > 0 {
            gate.set_refusal(None);
        }
        // Secrets are read again on SIGHUP only: a file that is being replaced may be incomplete.
        let access = match old {
            Some(old) if old.asks_as(&known) => old.access.clone(),
            _ => self.secrets.access(&known),
        };
        let raised = old.map_or_else(Arc::default, |old| Arc::clone(&old.raised));
        let changes = old.map_or(0, |old| old.changes + u64::from(old.known.wanted != known.wanted));
        Arc::new(Function { known, replicas, starting, access, series, gate, raised, changes })
    }
}

impl Sink for Table {
    fn set(&self, functions: Vec<Known>) {
        let writing = self.writing.lock();
        let old = self.snapshot();
        let renewed = functions.into_iter().map(|known| {
            let function = self.renewed(known.clone(), old.get(known.name.as_str()));
            (known.name, function)
        });
        let new: ByName<_> = renewed.collect();
        let stays = |replica: &Arc<Replica>, function: &Function| {
            let function = new.get(function.known.name.as_str());
            function.is_some_and(|function| function.replicas.iter().any(|other| Arc::ptr_eq(other, replica)))
        };
        let gone: Vec<_> = old
            .values()
            .flat_map(|function| function.replicas.iter().filter(|replica| !stays(replica, function)))
            .map(Arc::clone)
            .collect();
        self.replace(new);
        drop(writing);
        gone.iter().for_each(|replica| replica.pool().close());
    }

    fn is_waited_for(&self) -> bool {
        let is_without = |function: &Arc<Function>| function.known.endpoints.is_empty();
        self.snapshot().values().any(|function| function.is_waited_for() && is_without(function))
    }

    fn has_replica(&self, name: &str) -> bool {
        self.find(name).is_some_and(|function| !function.replicas.is_empty())
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
pub(super) mod tests {
    use super::*;
    use std::time::Duration;

    pub(in crate::functions) fn known(name: &str, endpoints: &[&str]) -> Known {
        let endpoint = |address: &&str| Backend::from(address.parse::<SocketAddr>().unwrap());
        Known { endpoints: endpoints.iter().map(endpoint).collect(), wanted: 2, ..Known::named(name) }
    }

    /// A task with this id, at this address.
    pub(in crate::functions) fn task(id: &str, address: SocketAddr) -> Backend {
        Backend { address, task: Some(id.into()) }
    }

    #[test]
    fn functions_and_replicas_that_stay_keep_metrics_and_connections() {
        let table = Table::empty();
        table.set(vec![known("a", &["127.0.0.1:1", "127.0.0.1:2"]), known("b", &[])]);
        let before = table.find("a").unwrap();
        before.series.observe(200, Duration::ZERO);
        table.set(vec![known("a", &["127.0.0.1:2", "127.0.0.1:3"])]);
        let after = table.find("a").unwrap();
        assert!(Arc::ptr_eq(&before.replicas[1], &after.replicas[0]));
        assert!(Arc::ptr_eq(&before.series, &after.series));
        assert_eq!((after.series.wanted.get(), after.series.ready.get()), (2, 2));
        let scaled = |wanted| Known { wanted, ..known("a", &[]) };
        [0, 2, 2].into_iter().for_each(|wanted| table.set(vec![scaled(wanted)]));
        assert_eq!((after.changes, table.find("a").unwrap().changes), (0, 2));
        assert!(table.find("b").is_none());
    }

    #[test]
    fn idle_connections_are_closed_before_a_call_times_out() {
        let table = Table::empty();
        let mut short = known("short", &["127.0.0.1:1"]);
        short.labels.timeout = Some(Duration::from_secs(2));
        table.set(vec![short, known("usual", &["127.0.0.1:2"])]);
        let now = Instant::now();
        let next = |name: &str| table.find(name).unwrap().replicas[0].pool().sweep(now);
        assert_eq!(next("short"), now + Duration::from_secs(1));
        assert_eq!(next("usual"), now + ClientConfig::default().idle_timeout);
    }

    #[test]
    fn a_gate_keeps_the_limit_of_the_replicas_and_the_share_of_one_function() {
        let limits = |share, concurrency| {
            let table = Table::empty().with_share(share);
            let mut function = known("a", &["127.0.0.1:1", "127.0.0.1:2"]);
            function.labels.concurrency = concurrency;
            table.set(vec![function]);
            table.find("a").unwrap().gate.limit()
        };
        let got = [(None, 0), (None, 3), (Some(5), 0), (Some(5), 2), (Some(5), 3)];
        assert_eq!(got.map(|(share, concurrency)| limits(share, concurrency)), [0, 6, 5, 4, 5]);
    }

    #[test]
    fn every_replacement_is_counted_and_calls_the_hook() {
        let table = Table::empty();
        let told = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&told);
        table.on_change(move || _ = counter.fetch_add(1, SeqCst));
        table.set(vec![known("a", &[])]);
        table.touch();
        let mut function = known("a", &[]);
        function.starting = vec![task("t1", "127.0.0.1:1".parse().unwrap())];
        table.set(vec![function.clone()]);
        assert_eq!((table.version(), told.load(SeqCst)), (2, 3));
        let starting = |id: &str| Starting {
            name: function.name.clone(),
            backend: task(id, "127.0.0.1:1".parse().unwrap()),
        };
        table.accept(&[starting("t2")]);
        assert_eq!(table.find("a").unwrap().replicas.len(), 0, "it is not among those that start");
        table.accept(&[starting("t1")]);
        table.accept(&[starting("t1")]);
        assert_eq!((table.version(), table.find("a").unwrap().series.ready.get()), (3, 1));
    }

    #[test]
    fn a_replica_is_unhealthy_from_its_first_call_on() {
        let table = Table::empty();
        let mut function = known("a", &[]);
        let backend = task("t1", "127.0.0.1:1".parse().unwrap());
        (function.endpoints, function.unhealthy) = (vec![backend.clone()], vec![backend.clone()]);
        table.set(vec![function.clone()]);
        table.accept(&[Starting { name: function.name, backend }]);
        assert!(table.find("a").unwrap().replicas[0].is_unhealthy());
    }

    #[test]
    fn calls_wait_for_a_first_replica_only() {
        let table = Table::empty();
        table.set(vec![known("a", &[]), known("b", &["127.0.0.1:1"])]);
        let of = |name: &str| Arc::clone(&table.find(name).unwrap().series);
        let _waits = of("b").begin_wait(9);
        assert!(!Sink::is_waited_for(&table));
        let _waits = of("a").begin_wait(9);
        assert!(Sink::is_waited_for(&table) && table.starting().is_empty());
        let mut function = known("a", &[]);
        function.endpoints = vec![task("t1", "127.0.0.1:1".parse().unwrap())];
        table.set(vec![function]);
        assert!(!Sink::is_waited_for(&table), "the provider has said all it knows");
        assert!(table.starting()[0].1);
    }
}
