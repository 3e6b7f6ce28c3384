//! A client that is cheap beside a process for each request: one write and mostly one read. The client sends one fixed
//! request, and knows enough of HTTP for fwatchdog's answers to that request.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What is sent, and expected back.
pub const BODY: &[u8] = b"hello";

/// No answer takes longer, unless something is broken.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Calls one server over a kept connection.
pub struct Caller {
    to: SocketAddr,
    stream: Option<TcpStream>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Caller {
    /// One that calls `to`.
    ///
    /// # Panics
    /// When nobody listens there.
    #[must_use]
    pub fn new(to: SocketAddr) -> Caller {
        let head = format!("POST / HTTP/1.1\r\nHost: {to}\r\nContent-Length: {}\r\n\r\n", BODY.len());
        let request = [head.as_bytes(), BODY].concat();
        let stream = connect(to).unwrap_or_else(|error| panic!("{to}: {error}"));
        Caller { to, stream: Some(stream), request, answer: Vec::with_capacity(4096) }
    }

    /// One call. False when the answer is not 200 with the body that was sent; the next call then opens a new
    /// connection.
    pub fn call(&mut self) -> bool {
        let is_good = self.exchange().unwrap_or(false);
        if !is_good {
            self.stream = None;
        }
        is_good
    }

    fn exchange(&mut self) -> io::Result<bool> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(connect(self.to)?),
        };
        stream.write_all(&self.request)?;
        self.answer.clear();
        let mut room = [0; 4096];
        loop {
            match stream.read(&mut room)? {
                0 => return Ok(false),
                count => self.answer.extend_from_slice(&room[..count]),
            }
            if let Some(is_good) = judge(&self.answer) {
                return Ok(is_good);
            }
        }
    }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Whether the answer is as expected; `None` while more of the answer must come.
fn judge(answer: &[u8]) -> Option<bool> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let (head, body) = answer.split_at(end);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let is_echo = match length {
        Some(length) if body.len() < length => return None,
        Some(_) => body == BODY,
        None if !body.ends_with(b"0\r\n\r\n") => return None,
        None => body.windows(BODY.len()).any(|window| window == BODY),
    };
    Some(is_echo && head.starts_with("http/1.1 200 "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged_once_they_are_whole() {
        let known = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        for answer in [&known[..], chunked] {
            for cut in 0..answer.len() {
                assert_eq!(judge(&answer[..cut]), None, "{cut}");
            }
            assert_eq!(judge(answer), Some(true));
        }
        assert_eq!(judge(b"HTTP/1.1 500 X\r\nContent-Length: 5\r\n\r\nhello"), Some(false));
        assert_eq!(judge(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nworld"), Some(false));
        assert_eq!(judge(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Some(false));
    }
}
