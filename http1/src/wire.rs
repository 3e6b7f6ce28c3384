//! The two halves of a connection, the same for clients and servers. [`Incoming`] takes framing away, and [`Outgoing`]
//! adds it. Nothing here blocks: the caller polls the socket and keeps the time.

use std::io::{self, IoSlice};

use kit::sys::Socket;

use crate::body::{Decoder, Framing, Length};
use crate::written::Written;
use crate::{Refusal, spare};

/// The next part of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// At least one byte, to be taken with `consume`.
    Data(&'a [u8]),
    /// No bytes yet: the caller waits until the socket is readable.
    Wait,
    /// The whole body was taken.
    End,
}

/// Why a body ends before its end.
#[derive(Debug)]
pub enum BodyError {
    /// The framing or the length is refused.
    Refused(Refusal),
    /// The peer closed the connection.
    Closed,
    /// The connection failed.
    Io(io::Error),
    /// The deadline passed.
    Timeout,
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BodyError::Refused(refusal) => write!(f, "body refused: {refusal}"),
            BodyError::Closed => f.write_str("connection closed in the middle of the body"),
            BodyError::Io(error) => write!(f, "body cannot be read: {error}"),
            BodyError::Timeout => f.write_str("body did not arrive in time"),
        }
    }
}

impl std::error::Error for BodyError {}

/// Bytes from the peer: a buffer, and how far the body in the buffer was decoded.
#[derive(Debug)]
pub(crate) struct Incoming {
    buffer: Vec<u8>,
    /// The bytes before this place were taken.
    taken: usize,
    /// From that place on: bytes of the body without framing, then bytes of framing.
    data: usize,
    gap: usize,
    /// The state of the framing behind the gap.
    decoder: Decoder,
    max_body: u64,
    /// The decoded bytes of the body.
    body_bytes: u64,
    /// The last read found fewer bytes than it had room for.
    is_drained: bool,
}

impl Incoming {
    pub(crate) fn new() -> Incoming {
        let decoder = Decoder::new(Framing::Empty);
        let (buffer, max_body) = (Vec::new(), u64::MAX);
        Incoming { buffer, taken: 0, data: 0, gap: 0, decoder, max_body, body_bytes: 0, is_drained: false }
    }

    /// Whether everything that had arrived was read, and nothing was reported since.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// Notes that more has arrived.
    pub(crate) fn notice(&mut self) {
        self.is_drained = false;
    }

    /// The bytes that arrived and were not taken.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    /// The bytes of memory that are held for what has arrived.
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    #[cfg(test)]
    /// Puts bytes that were read elsewhere behind the pending ones.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Throws away what has arrived.
    pub(crate) fn drop_pending(&mut self) {
        (self.taken, self.data, self.gap) = (self.buffer.len(), 0, 0);
    }

    /// Takes the first `length` pending bytes as a head.
    pub(crate) fn take_head(&mut self, length: usize) -> Vec<u8> {
        let mut head = spare::head();
        head.extend_from_slice(&self.pending()[..length]);
        self.taken += length;
        head
    }

    /// Begins a body behind the head that was taken. A length over `max_body` is refused at once. So is wrong framing
    /// among the bytes that came with the head: no part of such a request is passed on.
    pub(crate) fn begin(&mut self, framing: Framing, max_body: u64) -> Result<(), Refusal> {
        (self.decoder, self.max_body, self.body_bytes) = (Decoder::new(framing), max_body, 0);
        match framing {
            Framing::Length(length) if length > max_body => Err(Refusal::BodyTooLarge),
            Framing::Chunked => self.unframe(usize::MAX),
            _ => Ok(()),
        }
    }

    /// Begins the body of an answer, which may have any length.
    pub(crate) fn begin_answer(&mut self, framing: Framing) {
        (self.decoder, self.max_body, self.body_bytes) = (Decoder::of_answer(framing), u64::MAX, 0);
    }

    /// Whether the body was taken whole.
    pub(crate) fn is_done(&self) -> bool {
        self.data == 0 && self.decoder.is_done()
    }

    /// Reads once from the socket, at most `room` bytes beyond the pending ones, or as many as a kept buffer has room
    /// for. The buffer grows when reads fill it.
    pub(crate) fn fill(&mut self, socket: &Socket, room: usize) -> io::Result<Option<usize>> {
        if self.taken == self.buffer.len() {
            if self.buffer.capacity() < spare::FIRST_BYTES {
                spare::give(std::mem::replace(&mut self.buffer, spare::buffer())); // as `rest` may have left it
            }
            self.buffer.clear();
            self.taken = 0;
        } else if self.taken > 0 && self.buffer.len() == self.buffer.capacity() {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        if self.buffer.capacity() == self.buffer.len() {
            let more = self.buffer.capacity().clamp(spare::FIRST_BYTES, room.max(spare::FIRST_BYTES));
            self.buffer.reserve_exact(more);
        }
        let received = socket.receive(&mut self.buffer)?;
        let is_full = self.buffer.len() == self.buffer.capacity();
        self.is_drained = received.is_none() || !is_full && received != Some(0);
        if received.is_some() && is_full && self.buffer.capacity() < room.min(spare::MAX_BYTES) {
            self.buffer.reserve_exact(self.buffer.capacity());
        }
        Ok(received)
    }

    /// Gives the buffer back if it is empty, or large with few bytes in it.
    pub(crate) fn rest(&mut self) {
        match self.pending() {
            [] => spare::give(std::mem::take(&mut self.buffer)),
            pending if pending.len() < self.buffer.capacity() / 2 => {
                let small = pending.to_vec();
                spare::give(std::mem::replace(&mut self.buffer, small));
            }
            _ => return,
        }
        self.taken = 0;
    }

    /// The next part of the body. Reads once from the socket if no part has arrived.
    pub(crate) fn body(&mut self, socket: &Socket) -> Result<Body<'_>, BodyError> {
        loop {
            let has_to_look = self.data == 0 && !self.decoder.is_done();
            let next = if has_to_look { self.unframe(SMALL) } else { Ok(()) };
            if self.data > 0 {
                return Ok(Body::Data(&self.buffer[self.taken..self.taken + self.data]));
            }
            next.map_err(BodyError::Refused)?;
            if self.decoder.is_done() {
                return Ok(Body::End);
            }
            match self.fill(socket, spare::MAX_BYTES) {
                Ok(None) => {
                    self.rest();
                    return Ok(Body::Wait);
                }
                Ok(Some(0)) if self.decoder.ends_at_close() => {
                    self.decoder = Decoder::new(Framing::Empty);
                    return Ok(Body::End);
                }
                Ok(Some(0)) => return Err(BodyError::Closed),
                Ok(Some(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(BodyError::Closed);
                }
                Err(error) => return Err(BodyError::Io(error)),
            }
        }
    }

    /// Takes the framing away before the next data, and between chunks of at most `longest` bytes: many small chunks
    /// are sent on with one system call. An error concerns the bytes behind the data.
    fn unframe(&mut self, longest: usize) -> Result<(), Refusal> {
        loop {
            let (mut ahead, end) = (self.decoder.clone(), self.taken + self.data);
            let step = ahead.step(&self.buffer[end + self.gap..])?;
            if self.body_bytes.saturating_add(ahead.announced()) > self.max_body {
                return Err(Refusal::BodyTooLarge);
            }
            if self.data > 0 && step.data > longest {
                return Ok(()); // a piece of its own
            }
            let start = end + self.gap + step.skip;
            match self.data {
                0 => self.taken = start,
                _ => {
                    self.buffer.copy_within(start..start + step.data, end);
                    self.gap += step.skip;
                }
            }
            ahead.consume(step.data);
            self.decoder = ahead;
            self.data += step.data;
            self.body_bytes += step.data as u64;
            if step.data == 0 || self.decoder.is_done() {
                return Ok(());
            }
        }
    }

    /// Takes `count` bytes of what [`Incoming::body`] showed.
    pub(crate) fn consume(&mut self, count: usize) {
        self.taken += count;
        self.data -= count;
        if self.data == 0 {
            self.taken += std::mem::take(&mut self.gap);
        }
    }
}

/// How the end of a message's data is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The bytes left of the announced length.
    Length(u64),
    /// The bytes left of the chunk whose size was written.
    Chunked(u64),
    /// The end of the connection ends it.
    UntilClose,
    /// A body is not allowed (HEAD, 204, 304): data is dropped.
    Bodiless,
}

impl Mode {
    /// The mode for a body of the given length. `chunked` says whether the peer understands chunks.
    pub(crate) fn of(length: Length, chunked: bool) -> Mode {
        match length {
            Length::None => Mode::Length(0),
            Length::Known(length) => Mode::Length(length),
            Length::Unknown if chunked => Mode::Chunked(0),
            Length::Unknown => Mode::UntilClose,
        }
    }
}

/// Data up to this size is copied behind the bytes that wait to be sent, or to the chunk before: one piece is sent
/// faster than two.
const SMALL: usize = 1024;

/// Bytes to the peer: heads, framing and a little data that wait to be sent, and the mode.
#[derive(Debug)]
pub(crate) struct Outgoing {
    ready: Written,
    sent: usize,
    mode: Mode,
    finished: bool,
    /// The bytes that the socket took since the connection began.
    total: u64,
}

impl Outgoing {
    pub(crate) fn new() -> Outgoing {
        Outgoing { ready: Written::default(), sent: 0, mode: Mode::Bodiless, finished: true, total: 0 }
    }

    /// Gives memory back, for a connection that becomes idle.
    pub(crate) fn rest(&mut self) {
        self.ready = Written::default();
        self.sent = 0;
    }

    /// The bytes that the socket took since the connection began.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Begins a message with its finished head.
    pub(crate) fn begin(&mut self, head: Written, mode: Mode) {
        self.compact();
        if self.ready.is_empty() {
            self.ready = head;
        } else {
            self.ready.put(&head); // an interim response that the socket did not take
        }
        self.finished = false;
        self.mode = mode;
    }

    /// Adds bytes that stand on their own, such as an interim response.
    pub(crate) fn interim(&mut self, bytes: &[u8]) {
        self.ready.put(bytes);
    }

    /// Whether the message was sent whole.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished && self.is_empty()
    }

    /// Whether no byte waits to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.ready.len()
    }

    /// Sends the waiting bytes, then `data`, as far as the socket takes them. Returns how many bytes of `data` were
    /// taken; 0 means that the socket is full.
    pub(crate) fn write(&mut self, socket: &Socket, data: &[u8]) -> io::Result<usize> {
        let data = match self.mode {
            Mode::Bodiless => {
                self.flush(socket)?;
                return Ok(data.len());
            }
            Mode::Length(0) if !data.is_empty() => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "more data than the announced length",
                ));
            }
            Mode::Length(left) | Mode::Chunked(left) if left > 0 => &data[..data.len().min(clamp(left))],
            Mode::Chunked(_) if !data.is_empty() => {
                self.ready.put_hex(data.len() as u64);
                self.ready.put(b"\r\n");
                self.mode = Mode::Chunked(data.len() as u64);
                data
            }
            _ => data,
        };
        let ends_chunk = matches!(self.mode, Mode::Chunked(left) if left == data.len() as u64 && left > 0);
        let tail: &[u8] = if ends_chunk { b"\r\n" } else { b"" };
        self.send(socket, data, tail)
    }

    fn send(&mut self, socket: &Socket, data: &[u8], tail: &[u8]) -> io::Result<usize> {
        let ready = &self.ready[self.sent..];
        if ready.is_empty() && data.is_empty() {
            return Ok(0);
        }
        if !ready.is_empty() && data.len() <= SMALL {
            return self.send_small(socket, data, tail);
        }
        let all = [IoSlice::new(ready), IoSlice::new(data), IoSlice::new(tail)];
        let parts = if ready.is_empty() { &all[1..] } else { &all[..] };
        let parts = if tail.is_empty() { &parts[..parts.len() - 1] } else { parts };
        let sent = socket.send(parts)?.unwrap_or(0);
        self.total += sent as u64;
        let of_ready = sent.min(ready.len());
        let of_data = (sent - of_ready).min(data.len());
        let of_tail = sent - of_ready - of_data;
        self.sent += of_ready;
        self.compact();
        if of_data == data.len() {
            self.ready.put(&tail[of_tail..]);
        }
        if let Mode::Length(left) | Mode::Chunked(left) = &mut self.mode {
            *left -= of_data as u64;
        }
        Ok(of_data)
    }

    /// Sends data that is small enough to be copied behind the waiting bytes.
    fn send_small(&mut self, socket: &Socket, data: &[u8], tail: &[u8]) -> io::Result<usize> {
        self.ready.put(data);
        self.ready.put(tail);
        if let Mode::Length(left) | Mode::Chunked(left) = &mut self.mode {
            *left -= data.len() as u64;
        }
        self.flush(socket)?;
        Ok(data.len())
    }

    /// Ends the message and sends what is left. False when the socket is full: the caller calls again.
    ///
    /// # Errors
    /// `UnexpectedEof` when less than the announced length or chunk was written: the caller must break the connection off.
    pub(crate) fn finish(&mut self, socket: &Socket) -> io::Result<bool> {
        if !self.finished {
            match self.mode {
                Mode::Length(left) | Mode::Chunked(left) if left > 0 => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Mode::Chunked(_) => self.ready.put(b"0\r\n\r\n"),
                _ => {}
            }
            self.finished = true;
        }
        self.flush(socket)
    }

    /// Sends the waiting bytes. False when the socket is full.
    pub(crate) fn flush(&mut self, socket: &Socket) -> io::Result<bool> {
        while self.sent < self.ready.len() {
            match socket.send_bytes(&self.ready[self.sent..])? {
                Some(count) => {
                    self.sent += count;
                    self.total += count as u64;
                }
                None => return Ok(false),
            }
        }
        self.compact();
        Ok(true)
    }

    fn compact(&mut self) {
        if self.sent == self.ready.len() {
            self.rest();
        }
    }
}

fn clamp(left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    fn pair() -> (Socket, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Socket::from(OwnedFd::from(ours)), theirs)
    }

    /// Writes `pieces` through an `Outgoing` and answers what arrived.
    fn sent(mode: Mode, pieces: &[&[u8]]) -> Vec<u8> {
        let (socket, mut peer) = pair();
        let mut outgoing = Outgoing::new();
        outgoing.begin(Written::default(), mode);
        outgoing.interim(b"HEAD\r\n\r\n");
        for piece in pieces {
            assert_eq!(outgoing.write(&socket, piece).unwrap(), piece.len());
        }
        assert!(outgoing.finish(&socket).unwrap() && outgoing.is_finished());
        drop(socket);
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn each_mode_marks_its_end() {
        assert_eq!(sent(Mode::Length(5), &[b"he", b"llo"]), b"HEAD\r\n\r\nhello");
        assert_eq!(
            sent(Mode::of(Length::Unknown, true), &[b"he", b"llo"]),
            b"HEAD\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
        );
        assert_eq!(sent(Mode::of(Length::Unknown, true), &[]), b"HEAD\r\n\r\n0\r\n\r\n");
        assert_eq!(sent(Mode::Bodiless, &[b"hello"]), b"HEAD\r\n\r\n");
        assert_eq!(sent(Mode::of(Length::None, true), &[]), b"HEAD\r\n\r\n");
    }

    #[test]
    fn a_length_is_kept_to() {
        let (socket, _peer) = pair();
        let mut outgoing = Outgoing::new();
        outgoing.begin(Written::default(), Mode::Length(3));
        assert_eq!(outgoing.write(&socket, b"abcd").unwrap(), 3, "no more than announced");
        assert!(outgoing.write(&socket, b"d").is_err());
        outgoing.begin(Written::default(), Mode::Length(3));
        assert_eq!(outgoing.write(&socket, b"ab").unwrap(), 2);
        assert_eq!(outgoing.finish(&socket).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    /// The size of a chunk may be out before its data: an end in between would be taken for data.
    #[test]
    fn a_chunk_that_was_begun_is_kept_to() {
        let (socket, _peer) = pair();
        let data = vec![b'x'; 10 << 20];
        let mut outgoing = Outgoing::new();
        outgoing.begin(Written::default(), Mode::Chunked(0));
        while outgoing.write(&socket, &data).unwrap() > 0 {}
        assert!(matches!(outgoing.mode, Mode::Chunked(1..)));
        assert_eq!(outgoing.finish(&socket).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    /// A body that came with its head is kept in little memory, which is no measure for what is read next.
    #[test]
    fn the_next_message_is_read_whole_after_a_small_one() {
        let (socket, mut peer) = pair();
        let mut incoming = Incoming::new();
        peer.write_all(b"HEADhello").unwrap();
        assert_eq!(incoming.fill(&socket, 64 << 10).unwrap(), Some(9));
        assert_eq!(incoming.take_head(4), b"HEAD");
        incoming.begin(Framing::Length(5), u64::MAX).unwrap();
        incoming.rest();
        assert_eq!(incoming.body(&socket).unwrap(), Body::Data(b"hello"));
        incoming.consume(5);
        peer.write_all(&[b'x'; 5000]).unwrap();
        assert_eq!(incoming.fill(&socket, 64 << 10).unwrap(), Some(5000));
        assert!(incoming.is_drained());
    }

    #[test]
    fn a_full_socket_loses_and_repeats_nothing() {
        let (socket, mut peer) = pair();
        let data: Vec<u8> = (0..2_000_000u32).map(|i| (i * 7 % 251) as u8).collect();
        let expected = data.clone();
        let reader = std::thread::spawn(move || {
            let (mut incoming, mut got) = (Incoming::new(), Vec::new());
            incoming.begin(Framing::Chunked, u64::MAX).unwrap();
            let mut piece = [0; 777];
            loop {
                let count = peer.read(&mut piece).unwrap();
                incoming.push(&piece[..count]);
                let idle = pair().0;
                while let Body::Data(bytes) = incoming.body(&idle).unwrap_or(Body::Wait) {
                    let count = bytes.len();
                    got.extend_from_slice(bytes);
                    incoming.consume(count);
                }
                if incoming.is_done() {
                    return got;
                }
            }
        });
        let mut outgoing = Outgoing::new();
        outgoing.begin(Written::default(), Mode::Chunked(0));
        let mut rest = &data[..];
        while !rest.is_empty() {
            let piece = &rest[..rest.len().min(100_000)];
            match outgoing.write(&socket, piece).unwrap() {
                0 => drop(socket.wait(kit::sys::Ready::WRITE, kit::Deadline::NEVER).unwrap()),
                count => rest = &rest[count..],
            }
        }
        while !outgoing.finish(&socket).unwrap() {
            socket.wait(kit::sys::Ready::WRITE, kit::Deadline::NEVER).unwrap();
        }
        assert!(reader.join().unwrap() == expected);
    }

    #[test]
    fn a_body_is_read_to_its_end_and_what_follows_stays() {
        let (socket, mut peer) = pair();
        let mut incoming = Incoming::new();
        incoming.begin(Framing::Length(5), 5).unwrap();
        assert_eq!(incoming.body(&socket).unwrap(), Body::Wait);
        peer.write_all(b"helloGET /").unwrap();
        assert_eq!(incoming.body(&socket).unwrap(), Body::Data(b"hello"));
        incoming.consume(5);
        assert_eq!(incoming.body(&socket).unwrap(), Body::End);
        assert_eq!(incoming.pending(), b"GET /");
    }

    #[test]
    fn a_body_over_its_limit_is_refused_with_and_without_a_length() {
        let (socket, mut peer) = pair();
        let mut incoming = Incoming::new();
        assert_eq!(incoming.begin(Framing::Length(6), 5), Err(Refusal::BodyTooLarge));
        incoming.begin(Framing::Chunked, 5).unwrap();
        peer.write_all(b"5\r\nhello\r\n1\r\nx\r\n0\r\n\r\n").unwrap();
        assert_eq!(incoming.body(&socket).unwrap(), Body::Data(b"hello"));
        incoming.consume(5);
        assert!(matches!(incoming.body(&socket), Err(BodyError::Refused(Refusal::BodyTooLarge))));
    }

    /// What is shown of a body that has arrived whole, piece by piece, of which at most `most` bytes are taken at a
    /// time.
    fn shown(body: &[u8], max_body: u64, most: usize) -> (Vec<String>, Option<Refusal>) {
        let (socket, _peer) = pair();
        let (mut incoming, mut pieces) = (Incoming::new(), Vec::new());
        incoming.begin(Framing::Chunked, max_body).unwrap();
        incoming.push(body);
        loop {
            match incoming.body(&socket) {
                Ok(Body::Data(data)) => {
                    let piece = &data[..data.len().min(most)];
                    pieces.push(String::from_utf8(piece.to_vec()).unwrap());
                    let count = piece.len();
                    assert!(!incoming.is_done());
                    incoming.consume(count);
                }
                Ok(Body::End) => {
                    assert!(incoming.is_done() && incoming.pending() == b"GET");
                    return (pieces, None);
                }
                Ok(Body::Wait) => return (pieces, None),
                Err(BodyError::Refused(refusal)) => return (pieces, Some(refusal)),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn short_chunks_that_are_there_together_are_one_piece() {
        let long = "l".repeat(SMALL + 1);
        let long_and_short = format!("{long}bc");
        let long_chunk = format!("{:x}\r\n{long}\r\n", long.len());
        let cases = [
            ("1\r\na\r\n1;x=y\r\nb\r\n2\r\ncd\r\n0\r\nA: b\r\n\r\nGET".to_owned(), vec!["abcd"], None),
            ("1\r\na\r\n1\r\nb\r\n3\r\nc".to_owned(), vec!["abc"], None),
            ("1\r\na\r\n1\r\nb\r\n3".to_owned(), vec!["ab"], None),
            (format!("1\r\na\r\n{long_chunk}1\r\nb\r\n1\r\nc\r\n"), vec!["a", &long_and_short], None),
            ("1\r\na\r\n1\r\nb\r\nx".to_owned(), vec!["ab"], Some(Refusal::ChunkSize)),
            ("1\r\na\r\n1\r\nbx".to_owned(), vec!["ab"], Some(Refusal::ChunkCrlf)),
            ("5\r\nabcde\r\n1\r\nf\r\n".to_owned(), vec!["abcdef"], None),
        ];
        for (body, pieces, refusal) in cases {
            assert_eq!(
                shown(body.as_bytes(), u64::MAX, usize::MAX),
                (pieces.iter().map(|piece| (*piece).to_owned()).collect(), refusal),
                "{body}"
            );
            let (singles, same) = shown(body.as_bytes(), u64::MAX, 1);
            assert_eq!((singles.concat(), same), (pieces.concat(), refusal), "{body}");
        }
        let over = shown(b"5\r\nabcde\r\n1\r\nf\r\n", 5, usize::MAX);
        assert_eq!(over, (vec!["abcde".to_owned()], Some(Refusal::BodyTooLarge)));
    }

    #[test]
    fn what_came_with_a_head_is_checked_before_anything_of_it_is_shown() {
        let begin = |body: &[u8], max_body| {
            let mut incoming = Incoming::new();
            incoming.push(body);
            incoming.begin(Framing::Chunked, max_body)
        };
        for (body, max_body, want) in [
            (&b"1\r\na\r\n1\r\nb"[..], 2, Ok(())),
            (b"1\r\na\r\n0\r\n\r\n\0\0", 1, Ok(())),
            (b"1\r\na\r\n2\r", 2, Ok(())),
            (b"1\r\na\r\n2\r\n", 2, Err(Refusal::BodyTooLarge)),
            (b"1\r\na\r\n1\r\nbc", 2, Err(Refusal::ChunkCrlf)),
            (b"1\r\na\r\n-", 2, Err(Refusal::ChunkSize)),
        ] {
            assert_eq!(begin(body, max_body), want, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn the_end_of_the_connection_is_an_end_only_where_it_may_be() {
        for (framing, may) in
            [(Framing::UntilClose, true), (Framing::Length(6), false), (Framing::Chunked, false)]
        {
            let (socket, peer) = pair();
            let mut incoming = Incoming::new();
            incoming.begin(framing, u64::MAX).unwrap();
            drop(peer);
            match incoming.body(&socket) {
                Ok(Body::End) => assert!(may),
                Err(BodyError::Closed) => assert!(!may),
                other => panic!("{other:?}"),
            }
        }
    }
}
