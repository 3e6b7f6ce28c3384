//! The delay of single events from the backend.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use bench::backend::{EVENT_DATA, EVENT_PAUSE, now_us};
use bench::cost::Meter;
use bench::interrupt;
use bench::load::Target;
use bench::pace::Pace;
use bench::run::Run;

/// An event that comes later than this is no event.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The digits of the time in an event.
const TIME_DIGITS: usize = 20;

/// The delays of the events that `clients` get within `span`.
pub(crate) fn run(server: &[u32], target: &Target, clients: usize, span: Duration) -> Result<Run, String> {
    let mut streams = Vec::new();
    for _ in 0..clients {
        streams.push(connect(target).map_err(|error| format!("connect: {error}"))?);
        thread::sleep(EVENT_PAUSE / clients as u32); // so that the events do not come all at once
    }
    let meter = Meter::start(server);
    let begin = now_us();
    let delays: Result<Vec<Vec<u64>>, String> = thread::scope(|scope| {
        let span_us = span.as_micros() as u64;
        let listen = |stream| scope.spawn(move || listen(stream, begin, begin + span_us));
        let threads: Vec<_> = streams.into_iter().map(listen).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    });
    let (cpu, rss) = meter.stop();
    let delays = delays?.concat();
    let sent = clients as f64 * span.as_secs_f64() / EVENT_PAUSE.as_secs_f64();
    if (delays.len() as f64) < 0.8 * sent - clients as f64 {
        return Err(format!("{} of {sent} events came", delays.len()));
    }
    Ok(Run::new(Pace::new(delays, 0, span), cpu, rss))
}

fn connect(target: &Target) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&target.addr, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", target.path, target.addr);
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}

/// The delays of the events that were sent after `begin` and came before `end`.
fn listen(mut stream: TcpStream, begin: u64, end: u64) -> Result<Vec<u64>, String> {
    let (mut delays, mut text, mut room) = (Vec::new(), Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut room).map_err(|error| format!("no event: {error}"))?;
        let now = now_us();
        if length == 0 || interrupt::seen() {
            return Err("the stream was ended".to_owned());
        }
        if now >= end {
            return Ok(delays);
        }
        text.extend_from_slice(&room[..length]);
        while let Some(sent) = next_event(&mut text) {
            if sent >= begin {
                delays.push(now - sent);
            }
        }
    }
}

/// The sending time of the next whole event. Removes the input up to the end of that event.
fn next_event(text: &mut Vec<u8>) -> Option<u64> {
    let data = EVENT_DATA.as_bytes();
    let from = text.windows(data.len()).position(|window| window == data)? + data.len();
    let sent = std::str::from_utf8(text.get(from..from + TIME_DIGITS)?).ok()?.parse().ok()?;
    text.drain(..from + TIME_DIGITS);
    Some(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_once_they_are_whole() {
        let mut text = Vec::new();
        let whole = format!("23\r\n{EVENT_DATA}{:020}\n\n\r\n", 1234);
        for (place, byte) in whole.bytes().enumerate() {
            text.push(byte);
            let is_last = place == 4 + EVENT_DATA.len() + TIME_DIGITS - 1;
            assert_eq!(next_event(&mut text), is_last.then_some(1234), "{place}");
        }
    }
}
