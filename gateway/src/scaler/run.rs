//! The thread that looks at all functions, several times a second, and has the provider change what was decided.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Condvar, MutexGuard};
use std::time::{Duration, Instant};

use kit::guarded::wait_while;
use kit::thread::Joined;
use kit::{Deadline, Guarded};

use super::decide::{Bounds, Memory, Signals};
use super::peers::View;
use crate::function::FunctionName;
use crate::functions::{Function, Table};
use crate::provider::{Provider, ScaleError};

/// Between two looks: while a function has calls, and otherwise.
const BUSY_INTERVAL: Duration = Duration::from_millis(100);
const IDLE_INTERVAL: Duration = Duration::from_millis(500);

/// Between two looks that were asked for.
const MIN_INTERVAL: Duration = Duration::from_millis(2);

/// The running scaler.
pub(crate) struct Scaler {
    shared: Arc<Shared>,
    thread: Joined,
}

struct Shared {
    table: Arc<Table>,
    provider: Arc<dyn Provider>,
    orders: Guarded<Orders>,
    ordered: Condvar,
}

struct Orders {
    /// A call waits for a first replica, or the other gateways told their load.
    is_woken: bool,
    is_stopping: bool,
    /// What the other gateways told last.
    others: Arc<View>,
}

impl Scaler {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there is no room for one.
    pub(crate) fn start(table: Arc<Table>, provider: Arc<dyn Provider>) -> io::Result<Scaler> {
        let orders = Orders { is_woken: false, is_stopping: false, others: Arc::new(View::alone()) };
        let shared =
            Arc::new(Shared { table, provider, orders: Guarded::new(orders), ordered: Condvar::new() });
        let own = Arc::clone(&shared);
        let thread = Joined::start("scaler", move || own.run())?;
        Ok(Scaler { shared, thread })
    }

    /// Says that a call waits for a first replica. Returns at once.
    pub(crate) fn wake(&self) {
        let mut orders = self.shared.orders();
        if !orders.is_woken {
            orders.is_woken = true;
            self.shared.ordered.notify_one();
        }
    }

    /// Says what the other gateways have in hand. Returns at once.
    pub(super) fn tell(&self, others: View) {
        let mut orders = self.shared.orders();
        orders.others = Arc::new(others);
        orders.is_woken = true;
        self.shared.ordered.notify_one();
    }

    /// Ends the thread, within what one change may take.
    pub(crate) fn stop(&self) {
        self.shared.orders().is_stopping = true;
        self.shared.ordered.notify_one();
        self.thread.join();
    }
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock()
    }

    fn run(&self) {
        let mut memories: HashMap<FunctionName, Memory> = HashMap::new();
        loop {
            let began = Instant::now();
            let is_busy = self.look(&mut memories);
            if self.wait(began, if is_busy { BUSY_INTERVAL } else { IDLE_INTERVAL }) {
                return;
            }
        }
    }

    /// Waits for the next look; whether it is time to end.
    fn wait(&self, began: Instant, interval: Duration) -> bool {
        let pause = (began + MIN_INTERVAL).saturating_duration_since(Instant::now());
        std::thread::sleep(pause); // however often calls wake the scaler
        let until = Deadline::at(began + interval);
        let nothing_to_do = |orders: &Orders| !orders.is_woken && !orders.is_stopping;
        let mut orders = wait_while(&self.ordered, self.orders(), until, nothing_to_do);
        orders.is_woken = false;
        orders.is_stopping
    }

    /// Decides for each function; whether one has calls. What is known of them while the provider does not know how
    /// they are is no ground for a decision.
    fn look(&self, memories: &mut HashMap<FunctionName, Memory>) -> bool {
        let snapshot = self.table.snapshot();
        memories.retain(|name, _| snapshot.contains_key(name));
        if self.provider.problem().is_some() {
            memories.clear(); // it begins anew once it is known again how things are
            return false;
        }
        let others = Arc::clone(&self.orders().others);
        let mut is_busy = others.is_busy();
        for function in snapshot.values().filter(|function| function.known.is_scalable) {
            if self.orders().is_stopping {
                break; // each change may take long
            }
            let name = &function.known.name;
            let (own, other) = (function.series.inflight.get(), others.load(name));
            is_busy |= own > 0;
            let in_flight = own.saturating_add(other.in_flight as usize);
            let now = Instant::now();
            if !memories.contains_key(name) {
                memories.insert(name.clone(), Memory::new(now));
            }
            let Some(memory) = memories.get_mut(name) else { continue };
            let signals = Signals {
                in_flight,
                calls: function.series.invocations().saturating_add(other.ended),
                turnovers: others.turnovers,
                wanted: function.known.wanted,
                changes: function.changes,
                ready: u32::try_from(function.replicas.len()).unwrap_or(u32::MAX),
                is_held: function.known.in_update.is_some(),
                is_kept: !others.may_shrink(now),
            };
            let kept = function.raised.replicas(now).max(other.kept);
            let bounds = Bounds::from(&function.known).raised(kept);
            if let Some(to) = memory.decide(&bounds, &signals, now) {
                self.scale(function, to, in_flight);
            }
            if let (Some(to), Some(state)) = (memory.take_held_back(), &function.known.in_update) {
                let wanted = function.known.wanted;
                log::info!(
                    "function `{name}`: {wanted} replicas stay, not {to}, while its update is `{state}`"
                );
            }
        }
        is_busy
    }

    fn scale(&self, function: &Function, to: u32, in_flight: usize) {
        let (name, from) = (&function.known.name, function.known.wanted);
        log::info!("function `{name}`: from {from} to {to} replicas, {in_flight} calls in hand");
        let refusal = match self.provider.scale(name.as_str(), Some(from), to) {
            Ok(()) => None,
            Err(error) => {
                log::warn!("function `{name}`: still {from} replicas: {error}");
                matches!(error, ScaleError::Refused(_)).then(|| error.to_string())
            }
        };
        if from == 0 {
            function.gate.set_refusal(refusal);
        }
    }
}
