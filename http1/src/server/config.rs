//! The bounds of a server, and its figures.

use std::time::Duration;

use super::memory::MAX_HEAD_MEMORY;

/// The most listeners of a server. Each is looked at whenever accepting goes on after a pause.
pub const MAX_LISTENERS: usize = 128;

/// The bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// How its threads are named.
    pub name: &'static str,
    /// The largest head, in bytes.
    pub max_header_bytes: usize,
    /// The most fields of a head, at most [`MAX_HEADERS`](crate::head::MAX_HEADERS) and what
    /// is added to so many.
    pub max_headers: usize,
    /// The largest body, in bytes; 0 is no limit.
    pub max_body: u64,
    /// From a connection's first byte of a head, or its beginning, to the end of the head.
    pub header_timeout: Duration,
    /// How long a connection is kept between requests.
    pub idle_timeout: Duration,
    /// How long a body may stop arriving.
    pub body_stall_timeout: Duration,
    /// How long a client may stop reading its answer.
    pub write_stall_timeout: Duration,
    /// The most connections. Beyond it the one that has waited longest is closed, or, when all are being
    /// served, the new one is answered 503.
    pub max_connections: usize,
    /// The most memory for heads of more than 512 bytes, in bytes: unfinished ones, and those of requests that wait or
    /// are served, with what of their bodies was read ahead. Beyond it the largest unfinished heads are refused, of
    /// these the oldest first, and requests with heads over 2 KiB while that is not enough. So are those of a client
    /// whose requests take three quarters of it. See [`head_memory`](super::head_memory).
    pub head_memory: usize,
    /// The most connections of one client. Beyond it its own one that has waited longest is closed, or, when all of
    /// them are being served, the new one is answered 429. A client is an IPv4 address, or the /64 of an IPv6 address.
    pub max_connections_per_client: usize,
    /// The most requests that are served at a time. As many may wait for a worker; more are answered 503.
    pub max_workers: usize,
    /// The most requests of one client that are served at a time. It has the same part of the places to wait; more of
    /// it are answered 429.
    pub max_workers_per_client: usize,
    /// Threads that poll, from one to 64. More than one is of use where they serve calls themselves.
    pub pollers: usize,
    /// Whether the service is told of each answer that is over, see [`Service::answered`](super::Service::answered).
    pub tells_answers: bool,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            name: "http",
            max_header_bytes: 64 * 1024,
            max_headers: 128,
            max_body: 0,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_stall_timeout: Duration::from_secs(30),
            write_stall_timeout: Duration::from_secs(30),
            max_connections: 1024,
            head_memory: MAX_HEAD_MEMORY,
            max_connections_per_client: usize::MAX,
            max_workers: 512,
            max_workers_per_client: usize::MAX,
            pollers: 1,
            tells_answers: false,
        }
    }
}

impl ServerConfig {
    pub(super) fn body_limit(&self) -> u64 {
        if self.max_body == 0 { u64::MAX } else { self.max_body }
    }

    /// Whether clients are told apart.
    pub(super) fn tells_clients(&self) -> bool {
        self.max_connections_per_client < self.max_connections
            || self.max_workers_per_client < self.max_workers
    }

    /// Requests of one client that may wait for something other than a worker: three quarters of its connections.
    pub(super) fn max_waits_per_client(&self) -> usize {
        let connections = self.max_connections_per_client.min(self.max_connections);
        connections - connections / 4
    }

    /// Requests that may wait for a worker: a turn for each.
    pub(super) fn max_waiting(&self) -> usize {
        self.max_workers.max(64)
    }
}

/// What a server is doing, as of a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections between requests, or new and silent.
    pub connections_idle: usize,
    /// Connections that have sent a part of a head.
    pub connections_head: usize,
    /// Connections whose request is served or waits for a worker.
    pub connections_active: usize,
    /// Connections that were refused and are being closed.
    pub connections_closing: usize,
    /// Requests that a worker or a poller serves.
    pub workers_busy: usize,
    /// Workers that serve no request.
    pub workers_idle: usize,
    /// Requests that wait for a worker.
    pub waiting: usize,
    /// Connections that could not be accepted, for want of descriptors or memory, since the start.
    pub accept_errors: u64,
    /// Panics of the service, since the start.
    pub panics: u64,
}
