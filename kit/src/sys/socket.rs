//! Stream sockets whose calls never block: a call that would have to wait says so, and the caller
//! waits with [`poll`](fn@super::poll) under its deadline. Writing to a closed peer is an error, never a
//! signal (`MSG_NOSIGNAL`).

use std::fs::{File, Permissions};
use std::io::{self, IoSlice};
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{PollFd, Ready, check, check_room, check_size, poll, retry, unless_blocked};
use crate::Deadline;

/// Connections that the kernel keeps ready to be accepted. The kernel lowers it to `somaxconn`.
const BACKLOG: i32 = 4096;

/// The same of a UNIX socket, which only this host can reach.
const UNIX_BACKLOG: i32 = 128;

/// Where `tcpi_bytes_acked` is in `struct tcp_info`: behind 8 bytes, 24 numbers of 32 bits and 2 of 64
/// (linux/tcp.h). The crate's structure ends before it.
const BYTES_ACKED: usize = 8 + 24 * 4 + 2 * 8;

/// A connected stream socket, TCP or UNIX.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Connects over TCP, with `TCP_NODELAY`.
    ///
    /// # Errors
    /// What connect(2) says, or `TimedOut` when the deadline passes first.
    pub fn connect(address: SocketAddr, deadline: Deadline) -> io::Result<Socket> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let socket = Socket::new(family)?;
        let (storage, size) = encode(address);
        socket.finish_connect((&raw const storage).cast(), size, deadline)?;
        socket.set_nodelay()?;
        Ok(socket)
    }

    /// Begins to connect over TCP, with `TCP_NODELAY`, and does not wait: [`Socket::connected`] tells.
    ///
    /// # Errors
    /// What connect(2) says at once.
    pub fn begin_connect(address: SocketAddr) -> io::Result<Socket> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let socket = Socket::new(family)?;
        let (storage, size) = encode(address);
        socket.start_connect((&raw const storage).cast(), size)?;
        socket.set_nodelay()?;
        Ok(socket)
    }

    /// Whether a connect that was begun is done.
    ///
    /// # Errors
    /// What connect(2) would say.
    pub fn connected(&self) -> io::Result<bool> {
        if !self.wait(Ready::WRITE, Deadline::after(Duration::ZERO))?.is_any() {
            return Ok(false);
        }
        self.outcome().map(|()| true)
    }

    /// How a connect that is over has ended.
    fn outcome(&self) -> io::Result<()> {
        match self.option(libc::SOL_SOCKET, libc::SO_ERROR)? {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// Connects to a UNIX socket.
    ///
    /// # Errors
    /// As [`Socket::connect`]; `InvalidInput` for a path that a socket address has no room for (over 107
    /// bytes, unix(7)).
    pub fn connect_unix(path: &Path, deadline: Deadline) -> io::Result<Socket> {
        let address = encode_path(path)?;
        let socket = Socket::new(libc::AF_UNIX)?;
        let size = mem::size_of::<libc::sockaddr_un>() as libc::socklen_t;
        socket.finish_connect((&raw const address).cast(), size, deadline)?;
        Ok(socket)
    }

    fn new(family: i32) -> io::Result<Socket> {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the call takes no pointers.
        let fd = check(unsafe { libc::socket(family, kind, 0) })?;
        // SAFETY: the kernel just returned this descriptor, and nothing else owns it.
        Ok(Socket(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn finish_connect(
        &self,
        address: *const libc::sockaddr,
        size: libc::socklen_t,
        deadline: Deadline,
    ) -> io::Result<()> {
        if self.start_connect(address, size)? {
            return Ok(());
        }
        match self.wait(Ready::WRITE, deadline)?.is_any() {
            true => self.outcome(),
            false => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Begins to connect; whether it is done.
    fn start_connect(&self, address: *const libc::sockaddr, size: libc::socklen_t) -> io::Result<bool> {
        // SAFETY: all callers pass a pointer to an address of `size` bytes that outlives this call.
        match check(unsafe { libc::connect(self.0.as_raw_fd(), address, size) }) {
            Ok(_) => Ok(true),
            // An interrupted connect goes on by itself, as one in progress does (connect(2)).
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => Ok(false),
            Err(error) => Err(error), // EAGAIN of a UNIX socket: its backlog is full
        }
    }

    /// Waits until the socket is ready for `wanted`; nothing is ready when the deadline passes.
    ///
    /// # Errors
    /// Only for want of kernel memory.
    pub fn wait(&self, wanted: Ready, deadline: Deadline) -> io::Result<Ready> {
        let mut fds = [PollFd::new(self.0.as_fd(), wanted)];
        poll(&mut fds, deadline)?;
        Ok(fds[0].ready())
    }

    /// Appends what has arrived to `buffer`, at most what its spare capacity holds; the caller reserves
    /// it. `Some(0)` is the end of the stream, `None` means nothing is there yet.
    ///
    /// # Errors
    /// What recv(2) says, such as a reset; `InvalidInput` without room.
    pub fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let spare = buffer.spare_capacity_mut();
        let (start, room) = (spare.as_mut_ptr(), spare.len());
        check_room(room)?;
        // SAFETY: the pointer and size are those of the vector's spare capacity.
        let call =
            || check_size(unsafe { libc::recv(self.0.as_raw_fd(), start.cast(), room, libc::MSG_DONTWAIT) });
        let received = unless_blocked(retry(call))?;
        if let Some(count) = received {
            let length = buffer.len() + count;
            // SAFETY: the kernel wrote `count` bytes from the old length on, at most the spare capacity.
            unsafe { buffer.set_len(length) };
        }
        Ok(received)
    }

    /// Looks whether something has arrived without taking it: `Some(0)` is the end of the stream, `None`
    /// means that nothing is there.
    ///
    /// # Errors
    /// What recv(2) says, such as a reset.
    pub fn peek(&self) -> io::Result<Option<usize>> {
        let mut byte = 0u8;
        let flags = libc::MSG_DONTWAIT | libc::MSG_PEEK;
        // SAFETY: the pointer is to one writable byte that lives through the call.
        let call = || check_size(unsafe { libc::recv(self.0.as_raw_fd(), (&raw mut byte).cast(), 1, flags) });
        unless_blocked(retry(call))
    }

    /// Sends what the socket takes of `bytes`: their number, or `None` when it takes none now. Cheaper than
    /// [`Socket::send`] with one part.
    ///
    /// # Errors
    /// What send(2) says, such as `BrokenPipe`.
    pub fn send_bytes(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let (start, size, flags) =
            (bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT);
        // SAFETY: the pointer and size are those of the slice, which the call only reads.
        let call = || check_size(unsafe { libc::send(self.0.as_raw_fd(), start, size, flags) });
        unless_blocked(retry(call))
    }

    /// Sends what the socket takes of `parts`, in one call: the number of bytes, or `None` when it takes
    /// none now.
    ///
    /// # Errors
    /// What sendmsg(2) says, such as `BrokenPipe`.
    pub fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        // SAFETY: msghdr is plain data for which all zeroes is valid: no name, no control message.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = parts.as_ptr().cast_mut().cast(); // IoSlice has the layout of iovec
        message.msg_iovlen = parts.len().min(16) as _;
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: the message points to `parts`, which outlives the call and is only read by it.
        let call = || check_size(unsafe { libc::sendmsg(self.0.as_raw_fd(), &raw const message, flags) });
        unless_blocked(retry(call))
    }

    /// The bytes that the peer's system has acknowledged since the connection began, the opening `SYN`
    /// among them; `None` where that is not known (UNIX sockets, Linux before 4.1). It can still be asked
    /// after a reset, and tells then whether the peer can have seen what was sent last (`tcpi_bytes_acked`,
    /// tcp(7)).
    #[must_use]
    pub fn bytes_acked(&self) -> Option<u64> {
        const END: usize = BYTES_ACKED + mem::size_of::<u64>();
        let mut info = [0u8; END];
        let mut size = END as libc::socklen_t;
        let (fd, place, room) = (self.0.as_raw_fd(), info.as_mut_ptr(), &raw mut size);
        // SAFETY: the pointers are to a buffer and its size, both of which live through the call.
        check(unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, place.cast(), room) }).ok()?;
        let bytes = info[BYTES_ACKED..].try_into().ok()?;
        (size as usize == END).then(|| u64::from_ne_bytes(bytes))
    }

    /// The bytes that were sent and that the peer's system has not acknowledged yet (`SIOCOUTQ`, tcp(7)). Of TCP alone:
    /// other sockets count their memory. `None` where the system does not tell.
    #[must_use]
    pub fn unacknowledged(&self) -> Option<u64> {
        let mut count = 0i32;
        // SAFETY: the pointer is to an integer, which the call writes, and which lives through it.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) }).ok()?; // SIOCOUTQ's number
        u64::try_from(count).ok()
    }

    /// Says that nothing more will be sent (`SHUT_WR`). A peer that is gone already is fine.
    pub fn shutdown_write(&self) {
        // SAFETY: the call takes no pointers.
        let _ = check(unsafe { libc::shutdown(self.0.as_raw_fd(), libc::SHUT_WR) });
    }

    /// Ends both directions at once and wakes whoever waits on the socket.
    pub fn shutdown_both(&self) {
        // SAFETY: the call takes no pointers.
        let _ = check(unsafe { libc::shutdown(self.0.as_raw_fd(), libc::SHUT_RDWR) });
    }

    /// Ends both directions in order, unless something has arrived that nobody has read: false then. What arrives
    /// meanwhile is dropped before it is acknowledged, so that its sender can tell from [`Socket::bytes_acked`] that
    /// nobody has seen it (`SO_ATTACH_FILTER`, socket(7)).
    #[must_use]
    pub fn shutdown_unread(&self) -> bool {
        let is_held = self.hold_input().is_ok(); // else there is a moment between the two
        let is_unread = matches!(self.peek(), Ok(Some(1..)));
        if !is_unread {
            self.shutdown_both();
        }
        if is_held {
            self.release_input();
        }
        !is_unread
    }

    /// Drops what arrives from now on, as if the network had lost it.
    fn hold_input(&self) -> io::Result<()> {
        let mut drop_all =
            libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 };
        let program = libc::sock_fprog { len: 1, filter: &raw mut drop_all };
        self.set_option(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    fn release_input(&self) {
        let _ = self.set_option(libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0i32); // it fails where there is none
    }

    /// Makes the coming close a reset, so that the peer cannot take what it has for the whole
    /// (`SO_LINGER` of zero, socket(7)).
    pub fn reset_on_close(&self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let _ = self.set_option(libc::SOL_SOCKET, libc::SO_LINGER, &linger); // a plain close then
    }

    /// Has the connection fail with `TimedOut` when the peer's system has not answered for `span` (whole seconds, at
    /// least one), be it to data or to the probes that are sent while nothing else is: a machine that lost its power or
    /// its network says no goodbye (`SO_KEEPALIVE`, `TCP_USER_TIMEOUT`, tcp(7)).
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn fail_without_peer(&self, span: Duration) -> io::Result<()> {
        let seconds = i32::try_from(span.as_secs()).unwrap_or(i32::MAX).max(1);
        let pause = (seconds / 3).max(1);
        self.set_option(libc::SOL_SOCKET, libc::SO_KEEPALIVE, &1i32)?;
        self.set_option(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, &pause)?;
        self.set_option(libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, &pause)?;
        self.set_option(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, &seconds.saturating_mul(1000))
    }

    fn set_nodelay(&self) -> io::Result<()> {
        self.set_option(libc::IPPROTO_TCP, libc::TCP_NODELAY, &1i32)
    }

    fn set_option<T>(&self, level: i32, name: i32, value: &T) -> io::Result<()> {
        let size = mem::size_of::<T>() as libc::socklen_t;
        let value: *const T = value;
        // SAFETY: the pointer and size describe `value`, which outlives the call and is only read by it.
        check(unsafe { libc::setsockopt(self.0.as_raw_fd(), level, name, value.cast(), size) })?;
        Ok(())
    }

    /// Whether this process is the one that listened for the connection, of a UNIX socket (unix(7), `SO_PEERCRED`).
    ///
    /// # Errors
    /// None that the kernel documents.
    pub fn is_to_itself(&self) -> io::Result<bool> {
        let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut size = mem::size_of::<libc::ucred>() as libc::socklen_t;
        let (place, room) = (&raw mut peer, &raw mut size);
        let (level, name) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
        // SAFETY: the pointers are to credentials and their size, both of which live through the call.
        check(unsafe { libc::getsockopt(self.0.as_raw_fd(), level, name, place.cast(), room) })?;
        Ok(peer.pid == std::process::id() as i32) // a process of another PID namespace is 0
    }

    fn option(&self, level: i32, name: i32) -> io::Result<i32> {
        let mut value = 0i32;
        let mut size = mem::size_of::<i32>() as libc::socklen_t;
        let (place, room) = (&raw mut value, &raw mut size);
        // SAFETY: the pointers are to an integer and its size, both of which live through the call.
        check(unsafe { libc::getsockopt(self.0.as_raw_fd(), level, name, place.cast(), room) })?;
        Ok(value)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Socket {
    /// Takes over a connected stream socket; its calls do not block whatever its flags say.
    fn from(fd: OwnedFd) -> Socket {
        Socket(fd)
    }
}

/// A listening TCP socket.
pub struct Listener(TcpListener);

impl Listener {
    /// Listens on `address`; port 0 takes a free one. `SO_REUSEADDR` is set, so that a restart does not
    /// wait for old connections.
    ///
    /// # Errors
    /// What bind(2) says, such as `AddrInUse`.
    pub fn bind(address: SocketAddr) -> io::Result<Listener> {
        Listener::adopt(TcpListener::bind(address)?)
    }

    /// Listens on `port` of every address: IPv6 and IPv4 where there is IPv6, else IPv4.
    ///
    /// # Errors
    /// What bind(2) says, such as `AddrInUse`.
    pub fn bind_any(port: u16) -> io::Result<Listener> {
        let six = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        match Listener::bind(six) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                Listener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
            }
            other => other,
        }
    }

    /// Listens on an IPv6 address and takes no connections of IPv4, so that another socket can have the same port there
    /// (`IPV6_V6ONLY`, ipv6(7)). Else as [`Listener::bind`].
    ///
    /// # Errors
    /// What bind(2) says, such as `AddrInUse`.
    pub fn bind_v6_only(address: SocketAddrV6) -> io::Result<Listener> {
        let socket = Socket::new(libc::AF_INET6)?;
        socket.set_option(libc::SOL_SOCKET, libc::SO_REUSEADDR, &1i32)?;
        socket.set_option(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &1i32)?;
        let (storage, size) = encode(address.into());
        // SAFETY: the pointer is to an address of `size` bytes that outlives this call.
        check(unsafe { libc::bind(socket.0.as_raw_fd(), (&raw const storage).cast(), size) })?;
        Listener::adopt(socket.0.into())
    }

    /// Takes over a socket that has an address, and may listen already, such as one that was inherited.
    ///
    /// # Errors
    /// When it is no such socket.
    pub fn adopt(listener: TcpListener) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        // The standard library listens with 128; calling listen(2) again only changes the backlog.
        // SAFETY: the call takes no pointers.
        check(unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) })?;
        Ok(Listener(listener))
    }

    /// Takes over an inherited descriptor, by its number, as a listening socket (`LISTEN_FDS`,
    /// sd_listen_fds(3)), once. A descriptor that this process has opened itself closes at an exec, which tells it from
    /// an inherited one: to be called before [`keep_descriptors`](super::child::keep_descriptors).
    ///
    /// # Errors
    /// When the descriptor is not open, not a listening TCP socket, or owned by somebody else in this process.
    pub fn inherit(fd: i32) -> io::Result<Listener> {
        static IS_TAKEN: AtomicBool = AtomicBool::new(false);
        // SAFETY: the call takes no pointers; it fails where the descriptor is not open.
        let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
        if flags & libc::FD_CLOEXEC != 0 || IS_TAKEN.swap(true, Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it was not inherited"));
        }
        // SAFETY: the call takes no pointers; the flag keeps the socket from this process's children.
        check(unsafe { libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC) })?;
        // SAFETY: it is open, nothing in this process owns it as the check above shows, and by the convention it was
        // passed to this process alone.
        let listener = TcpListener::from(unsafe { OwnedFd::from_raw_fd(fd) });
        listener.local_addr()?; // not a socket, or of another family
        Listener::adopt(listener)
    }

    /// The address it listens on, with the port that it was given.
    ///
    /// # Errors
    /// None that an open socket can have.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Takes one connection, with `TCP_NODELAY`, and its peer's address; `None` when there is none. An
    /// IPv4 peer of an IPv6 socket is shown by its IPv4 address.
    ///
    /// # Errors
    /// What accept(2) says; `EMFILE` and its like pass, and the connection waits in the backlog.
    pub fn accept(&self) -> io::Result<Option<(Socket, SocketAddr)>> {
        // SAFETY: sockaddr_storage is plain data for which all zeroes is valid.
        let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
        let mut size = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        let (place, room) = (&raw mut storage, &raw mut size);
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the pointers are to an address and its size, both of which live through the call.
        let call = || check(unsafe { libc::accept4(self.0.as_raw_fd(), place.cast(), room, flags) });
        let Some(fd) = unless_blocked(retry(call))? else {
            return Ok(None);
        };
        // SAFETY: the kernel just returned this descriptor, and nothing else owns it.
        let socket = Socket(unsafe { OwnedFd::from_raw_fd(fd) });
        let _ = socket.set_nodelay(); // fails only for a peer that is gone already
        Ok(Some((socket, decode(&storage))))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> OwnedFd {
        listener.0.into()
    }
}

/// Listens on a UNIX socket at a path that does not exist yet. The file has the mode, less the umask, from the moment
/// in which it appears: Linux makes it with the mode of the socket (`unix_bind` in net/unix/af_unix.c).
///
/// # Errors
/// What bind(2) says, such as `AddrInUse` for a path that exists; `InvalidInput` for one that a socket address has no
/// room for (over 107 bytes, unix(7)).
pub fn listen_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let address = encode_path(path)?;
    let socket = File::from(Socket::new(libc::AF_UNIX)?.0);
    socket.set_permissions(Permissions::from_mode(mode))?;
    let size = mem::size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: the pointer is to an address of `size` bytes that outlives this call.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) })?;
    // SAFETY: the call takes no pointers.
    check(unsafe { libc::listen(socket.as_raw_fd(), UNIX_BACKLOG) })?;
    let listener = UnixListener::from(OwnedFd::from(socket));
    listener.set_nonblocking(false)?;
    Ok(listener)
}

/// The kernel's form of a UNIX socket's path.
fn encode_path(path: &Path) -> io::Result<libc::sockaddr_un> {
    let bytes = path.as_os_str().as_bytes();
    let mut address =
        libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; 108] };
    if bytes.is_empty() || bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket's path has 1 to 107 bytes"));
    }
    for (slot, byte) in address.sun_path.iter_mut().zip(bytes) {
        *slot = *byte as libc::c_char;
    }
    Ok(address)
}

/// The kernel's form of an address, and its size (ip(7), ipv6(7)).
fn encode(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: sockaddr_storage is plain data for which all zeroes is valid.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let place = &raw mut storage;
    match address {
        SocketAddr::V4(v4) => {
            let form = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is at least as large and as aligned as every address type.
            unsafe { place.cast::<libc::sockaddr_in>().write(form) };
            (storage, mem::size_of::<libc::sockaddr_in>() as libc::socklen_t)
        }
        SocketAddr::V6(v6) => {
            let form = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: sockaddr_storage is at least as large and as aligned as every address type.
            unsafe { place.cast::<libc::sockaddr_in6>().write(form) };
            (storage, mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t)
        }
    }
}

/// The address that the kernel filled in; an unknown family is shown as 0.0.0.0:0.
fn decode(storage: &libc::sockaddr_storage) -> SocketAddr {
    let place: *const libc::sockaddr_storage = storage;
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage holds a sockaddr_in.
            let form = unsafe { &*place.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(form.sin_addr.s_addr.to_ne_bytes());
            SocketAddrV4::new(ip, u16::from_be(form.sin_port)).into()
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the storage holds a sockaddr_in6.
            let form = unsafe { &*place.cast::<libc::sockaddr_in6>() };
            let (ip, port) = (Ipv6Addr::from(form.sin6_addr.s6_addr), u16::from_be(form.sin6_port));
            match ip.to_ipv4_mapped() {
                Some(v4) => SocketAddrV4::new(v4, port).into(),
                None => SocketAddrV6::new(ip, port, form.sin6_flowinfo, form.sin6_scope_id).into(),
            }
        }
        _ => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SOON: Duration = Duration::from_secs(5);

    fn accepted(listener: &Listener) -> (Socket, SocketAddr) {
        let mut fds = [PollFd::new(listener.as_fd(), Ready::READ)];
        assert_eq!(poll(&mut fds, Deadline::after(SOON)).unwrap(), 1);
        listener.accept().unwrap().unwrap()
    }

    #[test]
    fn an_address_of_ipv6_alone_leaves_the_port_to_ipv4() {
        let Ok(six) = Listener::bind_v6_only(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0)) else {
            return; // there is no IPv6 here
        };
        let port = six.address().unwrap().port();
        let four = Listener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).unwrap();
        for (listener, address) in [
            (&six, SocketAddr::from((Ipv6Addr::LOCALHOST, port))),
            (&four, SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        ] {
            let _client = Socket::connect(address, Deadline::after(SOON)).unwrap();
            assert_eq!(accepted(listener).1.ip(), address.ip());
        }
    }

    #[test]
    fn a_connection_that_must_have_a_peer_is_probed() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let socket = Socket::connect(listener.address().unwrap(), Deadline::NEVER).unwrap();
        socket.fail_without_peer(Duration::from_secs(15)).unwrap();
        let option = |level, name| socket.option(level, name).unwrap();
        assert_eq!(option(libc::SOL_SOCKET, libc::SO_KEEPALIVE), 1);
        assert_eq!(option(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE), 5);
        assert_eq!(option(libc::IPPROTO_TCP, libc::TCP_KEEPINTVL), 5);
        assert_eq!(option(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT), 15_000);
    }

    #[test]
    fn addresses_survive_the_kernels_form() {
        for text in ["127.0.0.1:80", "[::1]:65535", "[fe80::1%3]:1", "255.1.2.3:0"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(decode(&encode(address).0), address);
        }
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:5".parse().unwrap();
        assert_eq!(decode(&encode(mapped).0), "10.0.0.1:5".parse().unwrap());
    }

    #[test]
    fn bytes_go_both_ways_and_the_end_is_seen() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = Socket::connect(listener.address().unwrap(), Deadline::after(SOON)).unwrap();
        let (server, peer) = accepted(&listener);
        assert!(peer.ip().is_loopback());
        let mut buffer = Vec::with_capacity(16);
        assert_eq!(server.receive(&mut buffer).unwrap(), None);
        assert_eq!(server.peek().unwrap(), None);
        assert_eq!(client.send(&[IoSlice::new(b"ab"), IoSlice::new(b"cd")]).unwrap(), Some(4));
        assert!(server.wait(Ready::READ, Deadline::after(SOON)).unwrap().is_readable());
        assert_eq!(server.peek().unwrap(), Some(1));
        assert_eq!(server.receive(&mut buffer).unwrap(), Some(4));
        assert_eq!(buffer, b"abcd");
        client.shutdown_write();
        assert!(server.wait(Ready::HANG_UP, Deadline::after(SOON)).unwrap().is_hung_up());
        assert_eq!(server.receive(&mut buffer).unwrap(), Some(0));
    }

    #[test]
    fn a_receive_into_no_room_is_not_the_end() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = Socket::connect(listener.address().unwrap(), Deadline::after(SOON)).unwrap();
        let refused = client.receive(&mut Vec::new()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_descriptor_is_inherited_once_and_never_taken_from_its_owner() {
        let owner = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = |fd| Listener::inherit(fd).map(drop).unwrap_err().kind();
        assert_eq!(refused(owner.as_raw_fd()), io::ErrorKind::InvalidInput);
        // SAFETY: the call takes no pointers; the copy does not close at an exec, as an inherited one.
        let copy = check(unsafe { libc::dup(owner.as_raw_fd()) }).unwrap();
        let listener = Listener::inherit(copy).unwrap();
        assert_eq!(listener.address().unwrap(), owner.local_addr().unwrap());
        assert_eq!(refused(copy), io::ErrorKind::InvalidInput);
        assert!(listener.address().is_ok(), "it is still open");
    }

    #[test]
    fn a_connection_is_ended_only_when_nobody_can_have_seen_what_comes_after() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = Socket::connect(listener.address().unwrap(), Deadline::after(SOON)).unwrap();
        let (server, _) = accepted(&listener);
        let mut buffer = Vec::with_capacity(16);
        client.send_bytes(b"a").unwrap();
        server.wait(Ready::READ, Deadline::after(SOON)).unwrap();
        assert!(!server.shutdown_unread(), "something is there");
        assert_eq!(server.receive(&mut buffer).unwrap(), Some(1));
        // What comes in the moment of its end is not taken, and comes again when it goes on.
        server.hold_input().unwrap();
        client.send_bytes(b"b").unwrap();
        assert_eq!((server.peek().unwrap(), client.bytes_acked()), (None, Some(2)));
        server.release_input();
        server.wait(Ready::READ, Deadline::after(SOON)).unwrap();
        assert_eq!(server.receive(&mut buffer).unwrap(), Some(1));
        server.hold_input().unwrap();
        client.send_bytes(b"c").unwrap();
        assert!(server.shutdown_unread());
        client.wait(Ready::READ, Deadline::after(SOON)).unwrap();
        assert_eq!(client.peek().unwrap(), Some(0), "an orderly end");
        assert_eq!(client.bytes_acked(), Some(3), "which acknowledges nothing");
    }

    #[test]
    fn a_send_to_a_reset_peer_is_an_error_and_not_a_signal() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = Socket::connect(listener.address().unwrap(), Deadline::after(SOON)).unwrap();
        let (server, _) = accepted(&listener);
        server.reset_on_close();
        drop(server);
        client.wait(Ready::READ, Deadline::after(SOON)).unwrap();
        assert!(client.peek().is_err());
        assert!(client.send(&[IoSlice::new(b"x")]).is_err());
    }

    #[test]
    fn acknowledged_bytes_tell_what_a_dead_peer_can_have_seen() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = Socket::connect(listener.address().unwrap(), Deadline::after(SOON)).unwrap();
        let (server, _) = accepted(&listener);
        assert_eq!(client.bytes_acked(), Some(1), "the opening alone");
        client.send(&[IoSlice::new(b"seen")]).unwrap();
        server.wait(Ready::READ, Deadline::after(SOON)).unwrap();
        assert_eq!(client.bytes_acked(), Some(5));
        server.reset_on_close();
        drop(server);
        let _ = client.send(&[IoSlice::new(b"lost")]);
        assert_eq!(client.bytes_acked(), Some(5));
        assert_eq!(Socket::new(libc::AF_UNIX).unwrap().bytes_acked(), None);
    }

    #[test]
    fn bytes_that_the_peer_has_not_received_are_unacknowledged() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = Socket::connect(listener.address().unwrap(), Deadline::after(SOON)).unwrap();
        let (server, _) = accepted(&listener);
        server.hold_input().unwrap();
        client.send_bytes(b"lost").unwrap();
        assert_eq!(client.unacknowledged(), Some(4));
        server.release_input();
        server.wait(Ready::READ, Deadline::after(SOON)).unwrap();
        assert_eq!(client.unacknowledged(), Some(0));
    }

    #[test]
    fn a_refused_connect_says_so() {
        // The other end of a connection: nobody listens there, and nobody else is given the port.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let held = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let address = held.local_addr().unwrap();
        let error = Socket::connect(address, Deadline::after(SOON)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = Socket::connect_unix(Path::new("/nonexistent/socket"), Deadline::NEVER).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let long = "x".repeat(108);
        let error = Socket::connect_unix(Path::new(&long), Deadline::NEVER).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_unix_socket_has_its_mode_from_the_start() {
        let folder = std::env::temp_dir().join(format!("kit-socket-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("socket");
        for mode in [0o600, 0o640] {
            let listener = listen_unix(&path, mode).unwrap();
            let found = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(found & 0o7777, mode, "{found:o}");
            let client = Socket::connect_unix(&path, Deadline::after(SOON)).unwrap();
            assert!(client.is_to_itself().unwrap());
            let (server, _) = listener.accept().unwrap();
            drop(server);
            assert!(client.wait(Ready::READ, Deadline::after(SOON)).unwrap().is_any());
            assert_eq!(listen_unix(&path, mode).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            std::fs::remove_file(&path).unwrap();
        }
        let long = folder.join("x".repeat(108));
        assert_eq!(listen_unix(&long, 0o600).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        std::fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn a_connect_that_nobody_answers_ends_at_its_deadline() {
        // A backlog of one that is full: further SYNs are dropped.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // SAFETY: the call takes no pointers.
        check(unsafe { libc::listen(listener.as_raw_fd(), 0) }).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        let error = loop {
            match Socket::connect(address, Deadline::after(Duration::from_millis(50))) {
                Ok(socket) => held.push(socket),
                Err(error) => break error,
            }
            assert!(held.len() < 16, "the backlog never filled");
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
