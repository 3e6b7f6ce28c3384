//! Waiting for descriptors: poll(2) for a few, epoll(7) for many, eventfd(2) to wake either.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::{check, check_size, retry, unless_blocked};
use crate::Deadline;

/// What a descriptor is waited for, or was found to be ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready(u32);

impl Ready {
    /// Nothing but errors and the end of the connection, which are always reported.
    pub const NONE: Ready = Ready(0);
    /// Something can be read, or the end of the stream.
    pub const READ: Ready = Ready(libc::POLLIN as u32);
    /// Something can be written.
    pub const WRITE: Ready = Ready(libc::POLLOUT as u32);
    /// The peer shut its writing side down, or all of it.
    pub const HANG_UP: Ready = Ready(libc::POLLRDHUP as u32);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }

    /// This set if `wanted`, else nothing.
    #[must_use]
    pub const fn when(self, wanted: bool) -> Ready {
        if wanted { self } else { Ready::NONE }
    }

    /// Whether a read would not block: data, the end of the stream, or an error to be fetched.
    #[must_use]
    pub const fn is_readable(self) -> bool {
        self.0 & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) as u32 != 0
    }

    /// Whether a write would not block, be it for an error to be fetched.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.0 & (libc::POLLOUT | libc::POLLHUP | libc::POLLERR) as u32 != 0
    }

    /// Whether the peer went away, or shut its writing side down where that was asked for.
    #[must_use]
    pub const fn is_hung_up(self) -> bool {
        self.0 & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as u32 != 0
    }

    /// Whether there is anything at all.
    #[must_use]
    pub const fn is_any(self) -> bool {
        self.0 != 0
    }
}

/// One descriptor in a call of [`poll`]. It borrows the descriptor, which therefore stays open.
#[repr(transparent)]
pub struct PollFd<'fd> {
    raw: libc::pollfd,
    owner: PhantomData<BorrowedFd<'fd>>,
}

impl<'fd> PollFd<'fd> {
    /// Waits on `fd` for `wanted`.
    #[must_use]
    pub fn new(fd: BorrowedFd<'fd>, wanted: Ready) -> PollFd<'fd> {
        PollFd::of(fd.as_raw_fd(), wanted)
    }

    /// Waits on `fd` if there is one; else the entry is there but never ready.
    #[must_use]
    pub fn maybe(fd: Option<BorrowedFd<'fd>>, wanted: Ready) -> PollFd<'fd> {
        PollFd::of(fd.map_or(-1, |fd| fd.as_raw_fd()), wanted)
    }

    pub(super) fn of(fd: i32, wanted: Ready) -> PollFd<'fd> {
        PollFd { raw: libc::pollfd { fd, events: wanted.0 as i16, revents: 0 }, owner: PhantomData }
    }

    /// What the last call found.
    #[must_use]
    pub fn ready(&self) -> Ready {
        Ready(u32::from(self.raw.revents as u16))
    }
}

/// Waits until one of `fds` is ready or the deadline passes; answers how many are ready, 0 at the
/// deadline. Signals do not end the wait (poll(2)).
///
/// # Errors
/// Only for want of kernel memory.
pub fn poll(fds: &mut [PollFd<'_>], deadline: Deadline) -> io::Result<usize> {
    loop {
        let timeout = timeout_ms(deadline.remaining());
        // SAFETY: PollFd is a transparent pollfd, and the pointer and length are those of the slice.
        let result =
            check(unsafe { libc::poll(fds.as_mut_ptr().cast(), fds.len() as libc::nfds_t, timeout) });
        match result {
            Ok(0) if !deadline.has_passed() => {} // the timeout has only the resolution of a millisecond
            Ok(count) => return Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Milliseconds for the kernel, rounded up so that nobody spins at the end; -1 is for ever.
fn timeout_ms(left: Option<Duration>) -> i32 {
    left.map_or(-1, |left| i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX))
}

/// An epoll instance. A descriptor in it is either armed for one report at a time (`EPOLLONESHOT`): after a
/// report it stays silent until [`Epoll::arm`], so that exactly one thread acts on it. Or it is watched: every
/// change is reported, once (`EPOLLET`), and whoever acts on it reads or writes until the call would block.
pub struct Epoll(OwnedFd);

/// One report of [`Epoll::wait`].
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Event(libc::epoll_event);

impl Event {
    /// Room for a report.
    pub const EMPTY: Event = Event(libc::epoll_event { events: 0, u64: 0 });

    /// The token under which the descriptor was added.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.0.u64
    }

    /// What it is ready for.
    #[must_use]
    pub fn ready(&self) -> Ready {
        Ready(self.0.events)
    }
}

impl Epoll {
    /// A new, empty instance.
    ///
    /// # Errors
    /// When descriptors or kernel memory have run out.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: the call takes no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel just returned this descriptor, and nothing else owns it.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Adds a descriptor, armed. It leaves the instance when it is closed.
    ///
    /// # Errors
    /// When kernel memory has run out or the descriptor cannot be waited for.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64, wanted: Ready) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, one_shot(token, wanted))
    }

    /// Arms a descriptor again, or changes what it is waited for.
    ///
    /// # Errors
    /// When it was never added.
    pub fn arm(&self, fd: BorrowedFd<'_>, token: u64, wanted: Ready) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, one_shot(token, wanted))
    }

    /// Adds a descriptor, to be told when it becomes readable, writable or its peer hangs up. It leaves the
    /// instance when it is closed.
    ///
    /// # Errors
    /// As [`Epoll::add`].
    pub fn watch(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, every_change(token))
    }

    /// Has a watched descriptor's state reported once more, whether or not it changed.
    ///
    /// # Errors
    /// When it was never added.
    pub fn watch_again(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, every_change(token))
    }

    /// Takes a descriptor out.
    ///
    /// # Errors
    /// When it was never added.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, one_shot(0, Ready::NONE))
    }

    fn control(&self, operation: i32, fd: BorrowedFd<'_>, mut event: libc::epoll_event) -> io::Result<()> {
        // SAFETY: the pointer is to a valid event that lives through the call; both descriptors are open.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event) })?;
        Ok(())
    }

    /// Waits for reports, at most as many as `events` has room for, and answers how many there are: 0 when
    /// `timeout` passed or a signal came.
    ///
    /// # Errors
    /// None that a valid instance can have.
    pub fn wait(&self, events: &mut [Event], timeout: Option<Duration>) -> io::Result<usize> {
        let (room, timeout) = (events.len() as i32, timeout_ms(timeout));
        // SAFETY: Event is a transparent epoll_event, and the pointer and length are those of the slice.
        let result =
            check(unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr().cast(), room, timeout) });
        match result {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }
}

fn one_shot(token: u64, wanted: Ready) -> libc::epoll_event {
    libc::epoll_event { events: wanted.0 | libc::EPOLLONESHOT as u32, u64: token }
}

fn every_change(token: u64) -> libc::epoll_event {
    let wanted = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
    libc::epoll_event { events: wanted as u32, u64: token }
}

/// A descriptor that any thread can make readable, to wake the one that polls it.
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A new one, not readable.
    ///
    /// # Errors
    /// When descriptors or kernel memory have run out.
    pub fn new() -> io::Result<EventFd> {
        // SAFETY: the call takes no pointers.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the kernel just returned this descriptor, and nothing else owns it.
        Ok(EventFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Makes it readable. It cannot block: a full counter is readable already.
    pub fn notify(&self) {
        let one = 1u64;
        // SAFETY: the pointer is to eight readable bytes that live through the call.
        let _ = check_size(unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) });
    }

    /// Waits until it is readable, or the deadline. It may return early: whoever waits looks again anyway.
    pub fn wait(&self, deadline: Deadline) {
        let _ = poll(&mut [PollFd::new(self.as_fd(), Ready::READ)], deadline); // fails for want of memory only
    }

    /// Makes it unreadable again, before the waker's work is looked for, so that no wake is lost.
    pub fn clear(&self) {
        let mut count = 0u64;
        // SAFETY: the pointer is to eight writable bytes that live through the call.
        let read = || check_size(unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) });
        let _ = unless_blocked(retry(read)); // nothing to clear is fine
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_round_up_and_saturate() {
        assert_eq!(timeout_ms(None), -1);
        assert_eq!(timeout_ms(Some(Duration::ZERO)), 0);
        assert_eq!(timeout_ms(Some(Duration::from_nanos(1))), 1);
        assert_eq!(timeout_ms(Some(Duration::from_micros(1001))), 2);
        assert_eq!(timeout_ms(Some(Duration::MAX)), i32::MAX);
    }

    #[test]
    fn an_event_wakes_poll_once_cleared_it_does_not() {
        let event = EventFd::new().unwrap();
        event.notify();
        event.notify();
        let mut fds = [PollFd::new(event.as_fd(), Ready::READ), PollFd::maybe(None, Ready::READ)];
        assert_eq!(poll(&mut fds, Deadline::NEVER).unwrap(), 1);
        assert!(fds[0].ready().is_readable() && !fds[1].ready().is_any());
        event.clear();
        assert_eq!(poll(&mut fds, Deadline::after(Duration::ZERO)).unwrap(), 0);
    }

    #[test]
    fn epoll_reports_once_until_armed() {
        let (epoll, event) = (Epoll::new().unwrap(), EventFd::new().unwrap());
        epoll.add(event.as_fd(), 7, Ready::READ).unwrap();
        event.notify();
        let mut events = [Event::EMPTY; 4];
        assert_eq!(epoll.wait(&mut events, None).unwrap(), 1);
        assert_eq!(events[0].token(), 7);
        assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0, "one shot");
        epoll.arm(event.as_fd(), 8, Ready::READ).unwrap();
        assert_eq!(epoll.wait(&mut events, None).unwrap(), 1);
        assert_eq!(events[0].token(), 8);
        epoll.remove(event.as_fd()).unwrap();
        assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
    }

    #[test]
    fn what_is_watched_is_reported_with_each_change() {
        let (epoll, event) = (Epoll::new().unwrap(), EventFd::new().unwrap());
        let mut events = [Event::EMPTY; 4];
        let mut reports = || epoll.wait(&mut events, Some(Duration::ZERO)).unwrap();
        epoll.watch(event.as_fd(), 7).unwrap();
        assert_eq!((reports(), reports()), (1, 0), "writable from the start");
        event.notify();
        assert_eq!((reports(), reports()), (1, 0));
        event.notify();
        assert_eq!((reports(), reports()), (1, 0), "without having been read");
        epoll.watch_again(event.as_fd(), 7).unwrap();
        assert_eq!((reports(), reports()), (1, 0), "without a change");
    }
}
