//! What all calls share.

use std::io;
use std::sync::{Arc, Mutex};

use kit::sys::EventFd;
use kit::sys::child::Environment;

use crate::config::{Config, Mode};
use crate::metrics::Metrics;
use crate::process::launcher::Launcher;
use crate::process::warm::WarmPool;
use crate::resident::Resident;
use crate::slots::Slots;
use crate::spool::Spools;

/// The function.
pub(crate) struct Function {
    pub(crate) config: Config,
    /// Starts the function's processes.
    pub(crate) launcher: Arc<Launcher>,
    /// Processes that wait for a request; none without `prewarm`.
    pub(crate) warm: Arc<WarmPool>,
    /// The process that stays, with `mode=http`.
    pub(crate) resident: Option<Arc<Resident>>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) metrics: Arc<Metrics>,
    /// Output that waits for clients that do not read yet.
    pub(crate) spools: Spools,
    /// Readable once running calls must end.
    pub(crate) stop: EventFd,
}

impl Function {
    pub(crate) fn new(config: Config, environment: Environment) -> io::Result<Arc<Function>> {
        let resident = match config.mode {
            Mode::Http(upstream) => {
                Some(Arc::new(Resident::new(upstream, config.exec_timeout, config.max_timeouts)?))
            }
            Mode::Fork | Mode::Streaming => None,
        };
        let launcher = Launcher {
            command: config.command.clone(),
            environment,
            combines_output: config.combine_output,
            kill_grace: config.kill_grace,
            groups: Arc::default(),
            spare: Mutex::default(),
        };
        Ok(Arc::new(Function {
            launcher: Arc::new(launcher),
            warm: Arc::new(WarmPool::new(config.kill_grace)?),
            resident,
            slots: Slots::new(config.max_inflight),
            metrics: Arc::new(Metrics::new()),
            spools: Spools::new(config.temporary.clone()),
            stop: EventFd::new()?,
            config,
        }))
    }
}
