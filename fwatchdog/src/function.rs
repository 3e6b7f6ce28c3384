//! What all calls share, as long as the program runs.

use std::io;
use std::mem;

use kit::Guarded;
use kit::sys::EventFd;
use kit::sys::child::Environment;

use crate::config::{Config, Mode};
use crate::metrics::Metrics;
use crate::process::groups::Groups;
use crate::process::launcher::Launcher;
use crate::process::warm::WarmPool;
use crate::resident::Resident;
use crate::slots::Slots;
use crate::spool::Spools;

/// The function.
pub(crate) struct Function {
    pub(crate) config: Config,
    /// Starts the function's processes.
    pub(crate) launcher: Launcher,
    /// Processes that wait for a request; none without `prewarm`.
    pub(crate) warm: WarmPool,
    /// The process that stays, with `mode=http`.
    pub(crate) resident: Option<Resident>,
    pub(crate) slots: Slots,
    pub(crate) metrics: Metrics,
    /// Output that waits for clients that do not read yet.
    pub(crate) spools: Spools,
    /// Readable once running calls must end.
    pub(crate) stop: EventFd,
}

impl Function {
    /// Each of its processes gets `environment`.
    pub(crate) fn new(mut config: Config, environment: Environment) -> io::Result<&'static Function> {
        let resident = match config.mode {
            Mode::Http(upstream) => Some(Resident::new(upstream, config.exec_timeout, config.max_timeouts)?),
            Mode::Fork | Mode::Streaming => None,
        };
        let launcher = Launcher {
            command: mem::take(&mut config.command),
            environment,
            combines_output: config.combine_output,
            kill_grace: config.kill_grace,
            groups: Groups::default(),
            spare: Guarded::default(),
        };
        Ok(Box::leak(Box::new(Function {
            launcher,
            warm: WarmPool::new(config.kill_grace)?,
            resident,
            slots: Slots::new(config.max_inflight),
            metrics: Metrics::new(),
            spools: Spools::new(config.temporary.clone()),
            stop: EventFd::new()?,
            config,
        })))
    }
}
