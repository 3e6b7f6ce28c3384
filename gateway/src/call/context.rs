//! What all calls share.

use std::sync::Arc;
use std::time::Duration;

use super::looks::Looks;
use super::upkeep::Upkeep;
use super::waits::Waits;
use crate::functions::Table;
use crate::metrics::Rejected;
use crate::proxies::Proxies;

/// The bounds of calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallLimits {
    pub(crate) upstream_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) body_stall_timeout: Duration,
    /// How long nothing may move where the protocol was changed.
    pub(crate) idle_timeout: Duration,
}

/// What all calls share.
pub(crate) struct Calls {
    pub(crate) limits: CallLimits,
    pub(crate) table: Arc<Table>,
    pub(crate) upkeep: Box<dyn Upkeep>,
    /// The proxies in front of the gateway that are believed.
    pub(crate) proxies: Proxies,
    /// Whether fields with `_` in their names go on to functions.
    pub(crate) keeps_underscores: bool,
    /// Requests that reached no function.
    pub(crate) rejected: Rejected,
    pub(crate) waits: Waits,
    pub(crate) looks: Looks,
}
