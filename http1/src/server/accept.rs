//! How the first poller accepts connections, and makes room for them: for a client within its share of connections, and
//! within the bound on all.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kit::sys::Ready;

use super::clients::Client;
use super::conn::{Accepted, Conn};
use super::memory::Share;
use super::poller::{FIRST_LISTENER, Poller};
use super::shared::put_back;
use super::table::Phase;
use crate::Refusal;

/// The most connections accepted in a row before other events have their turn.
const ACCEPTS: usize = 64;

/// The longest that a listener's queue is here (listen(2), net.core.somaxconn).
const MAX_BACKLOG: usize = 4096;

/// How long accepting rests after the system ran out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The most connections that are tried when room is needed. A request may just be arriving on any of them.
const ROOM_TRIES: usize = 64;

/// What the first poller does with its listener.
impl Poller {
    pub(super) fn accept(&mut self, which: usize) {
        let mut has_failed = false;
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.get(which) else { return };
            match listener.accept() {
                Ok(Some((socket, peer))) => {
                    has_failed = false;
                    self.welcome((socket, peer, which as u8));
                }
                Ok(None) => break,
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    self.count_failure(&error);
                    // What was given up may be taken by others, so that it is tried once.
                    if has_failed || !self.make_room(None) {
                        self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
                        return;
                    }
                    has_failed = true;
                }
            }
        }
        self.listen(which);
    }

    /// Accepts everything queued, then closes each listener at once, so that no request can arrive in between.
    pub(super) fn stop_accepting(&mut self) {
        while let Some(listener) = self.listeners.pop() {
            let which = self.listeners.len() as u8;
            for _ in 0..MAX_BACKLOG {
                match listener.accept() {
                    Ok(Some((socket, peer))) => self.welcome((socket, peer, which)),
                    Err(error) if is_of_the_connection(&error) => {}
                    Ok(None) | Err(_) => break,
                }
            }
            // Another process may have it too: it would go on being reported.
            let _ = self.lane().epoll.remove(listener.as_fd());
        }
        self.shared.has_stopped_accepting.store(true, Ordering::Release);
    }

    pub(super) fn listen(&self, which: usize) {
        let Some(listener) = self.listeners.get(which) else { return };
        let token = FIRST_LISTENER + which as u64;
        if let Err(error) = self.lane().epoll.arm(listener.as_fd(), token, Ready::READ) {
            log::error!("listening again failed: {error}");
        }
    }

    /// Descriptors or memory ran out. New connections stay in the listener's backlog.
    fn count_failure(&self, error: &io::Error) {
        if self.shared.accept_errors.fetch_add(1, Ordering::Relaxed).is_multiple_of(100) {
            log::warn!("cannot accept connections: {error}; see max_connections and the limit of open files");
        }
    }

    /// Gives up the least useful connection, of one client or of all. A connection whose request is just arriving is
    /// read instead. False when all connections are being served.
    fn make_room(&mut self, client: Option<&Arc<Client>>) -> bool {
        let is_of = |of: Option<&Arc<Client>>| {
            client.is_none_or(|client| of.is_some_and(|other| Arc::ptr_eq(client, other)))
        };
        for _ in 0..ROOM_TRIES {
            let lanes = self.shared.lanes.iter();
            let least = lanes.filter_map(|lane| {
                lane.table()
                    .least_useful(|conn| is_of(conn.client.as_ref()))
                    .map(|(rank, token)| (rank, token, lane))
            });
            let Some((_, token, lane)) = least.min_by_key(|(rank, ..)| *rank) else { return false };
            let taken = lane.table().take(token);
            match taken {
                Some(mut conn) if conn.end_unread() => {
                    if conn.phase == Phase::Body {
                        let is_own = client.is_some();
                        let refusal = if is_own { Refusal::TooManyOfClient } else { Refusal::Overloaded };
                        conn.refuse(&*self.shared, refusal);
                    }
                    self.forget(conn);
                    return true;
                }
                Some(conn) if conn.poller == self.number && conn.phase == Phase::Body => {
                    self.await_body(conn)
                }
                Some(conn) if conn.poller == self.number => self.read(conn),
                Some(mut conn) => {
                    match conn.phase {
                        Phase::Body => conn.since = Instant::now(),
                        _ => conn.enter(Phase::Head, Instant::now()),
                    }
                    put_back(&self.shared, conn);
                }
                None => {} // its poller has it
            }
        }
        false
    }

    /// Makes room for one more connection, first among those of its client. Why there is none.
    fn find_room(&mut self, client: Option<&Arc<Client>>) -> Result<(), Refusal> {
        let most = self.shared.config.max_connections_per_client;
        while client.is_some_and(|client| client.connections() > most) {
            if !self.make_room(client) {
                return Err(Refusal::TooManyOfClient);
            }
        }
        while self.shared.is_full() {
            if !self.make_room(None) {
                return Err(Refusal::Overloaded);
            }
        }
        Ok(())
    }

    fn welcome(&mut self, accepted: Accepted) {
        let address = accepted.1.ip();
        let tells_clients = self.shared.config.tells_clients();
        let is_proxied = tells_clients && self.shared.service.is_proxy(address);
        // A proxy brings many clients, so that the share of one says nothing.
        let client = (tells_clients && !is_proxied).then(|| self.shared.clients.find(address));
        let room = self.find_room(client.as_ref());
        self.last_given = (self.last_given + 1) % self.shared.lanes.len();
        let shared = Arc::clone(&self.shared);
        let lane = &shared.lanes[self.last_given];
        let mut table = lane.table(); // held, so that its poller finds the connection in its place
        let token = table.reserve();
        let share = Share::of(&shared.memory);
        let mut conn = Box::new(Conn::new(accepted, self.last_given, token, share));
        (conn.client, conn.is_proxied) = (client, is_proxied);
        let added = match shared.relays {
            true => lane.epoll.watch(conn.socket.as_fd(), token.number()),
            false => lane.epoll.add(conn.socket.as_fd(), token.number(), Ready::READ),
        };
        match added.map(|()| room) {
            Ok(Ok(())) => {
                table.put(conn);
                // The first of a poller that sleeps, whose time begins. A watched one is reported at once.
                if table.len() == 1 && !shared.relays && self.last_given != self.number {
                    lane.wake.notify();
                }
            }
            Ok(Err(refusal)) => {
                drop(table);
                // One more than allowed, for as long as it takes to be told so: the next one takes its place.
                self.refuse(conn, refusal);
            }
            Err(error) => {
                log::warn!("cannot wait for a connection: {error}");
                drop(conn);
                table.release(token);
            }
        }
    }
}

/// Errors of accept(2) that concern one connection, which is gone, and not the listener.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, HostUnreachable, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), ConnectionAborted | HostUnreachable | NetworkDown | NetworkUnreachable)
        || error.raw_os_error() == Some(EPROTO)
}

/// Protocol error: the connection died before it was accepted (accept(2)).
const EPROTO: i32 = 71;
