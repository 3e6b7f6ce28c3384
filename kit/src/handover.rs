//! What the gateway tells the fwatchdog that it starts for a replica of `provider=local`. Both programs know these names
//! from here alone.
//!
//! The gateway binds the replica's socket, and the child inherits it as descriptor 3. No message says that fwatchdog is
//! ready: the kernel queues connections as soon as the socket is bound. To end, the gateway sends SIGTERM: fwatchdog
//! finishes its calls, and ends them at a second one. A fwatchdog that refuses a setting exits with
//! [`crate::arguments::EXIT_CONFIGURATION`].

/// The number of inherited listening sockets (sd_listen_fds(3)): always [`ONE_LISTENER`].
pub const ENV_LISTEN_FDS: &str = "LISTEN_FDS";

/// The value of [`ENV_LISTEN_FDS`].
pub const ONE_LISTENER: &str = "1";

/// The process that the sockets are meant for (sd_listen_fds(3)). The gateway does not set this variable, since it knows
/// no id before the child runs.
pub const ENV_LISTEN_PID: &str = "LISTEN_PID";

/// The names of the sockets (sd_listen_fds(3)). Neither program uses them.
pub const ENV_LISTEN_FDNAMES: &str = "LISTEN_FDNAMES";

/// The process with which fwatchdog ends: the gateway's id. Only the child itself can ask the kernel for that
/// (`PR_SET_PDEATHSIG`, prctl(2)).
pub const ENV_PARENT: &str = "FAAS_PARENT_PID";

/// The function's name. It begins every message of this fwatchdog, since all of them write to the gateway's log.
pub const ENV_FUNCTION: &str = "FAAS_FUNCTION";

/// The variables that are meant for fwatchdog alone: its processes do not get them.
pub const PRIVATE: [&str; 5] = [ENV_LISTEN_FDS, ENV_LISTEN_PID, ENV_LISTEN_FDNAMES, ENV_PARENT, ENV_FUNCTION];

/// The setting of fwatchdog with the command of the function's process.
pub const ENV_FPROCESS: &str = "fprocess";

/// The setting of fwatchdog with its port, which an inherited socket makes void.
pub const ENV_PORT: &str = "port";

/// The setting of fwatchdog that leaves out the lock file. The gateway sets it: replicas would share the file.
pub const ENV_SUPPRESS_LOCK: &str = "suppress_lock";

/// The setting of fwatchdog for how long calls may take after SIGTERM: as long as the gateway lets a call take.
pub const ENV_DRAIN_TIMEOUT: &str = "drain_timeout";

/// The setting of fwatchdog for how it runs the process. The gateway looks for [`MODE_HTTP`] in the functions file.
pub const ENV_MODE: &str = "mode";

/// The mode in which the process itself is an HTTP server.
pub const MODE_HTTP: &str = "http";

/// The setting of fwatchdog for where that server listens. The gateway refuses the same address for two replicas.
pub const ENV_UPSTREAM_URL: &str = "upstream_url";
