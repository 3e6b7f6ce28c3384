//! What calls ask of those who keep replicas running.

use kit::Deadline;

/// What calls ask of the parts that keep replicas running.
pub(crate) trait Upkeep: Send + Sync {
    /// A call waits for a first replica.
    fn wants_replica(&self);

    /// A replica of the function refused a connection: the table may be old.
    fn replica_refused(&self, function: &str);

    /// Has the provider look again, until the deadline at most.
    fn look_again(&self, deadline: Deadline);
}
