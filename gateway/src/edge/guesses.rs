//! Slows down who guesses passwords. A client with too many wrong ones in a row of a minute is refused for the rest of
//! that minute, also with the right password: it would learn which one that is. Others notice nothing.
//!
//! Nothing waits here, and no more than [`MAX_CLIENTS`] clients are remembered: where there are more, the one that is
//! forgotten next anyway goes first. To be forgotten early costs an attacker as many other addresses, each of which
//! may guess as often.

use std::fmt;
use std::net::IpAddr;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use http1::server::client_network;
use kit::Guarded;
use kit::duration;

use crate::failure::Failure;

/// Wrong passwords that a client may send within [`WINDOW`]. People mistype a few; a script with an old password sends
/// many, and must not lock out the people behind the same address for long.
const MAX_GUESSES: u32 = 20;

/// How long wrong passwords are counted, from the first one on, and then forgotten.
const WINDOW: Duration = Duration::from_secs(60);

/// Clients that are remembered, in 48 KiB at most.
const MAX_CLIENTS: usize = 1024;

/// Between two lines in the log.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// The wrong passwords of all requests that ask for a password because of one setting or label.
pub(super) struct Watch<R = ()> {
    guesses: Guarded<Guesses<R>>,
    setting: &'static str,
}

impl<R: PartialEq + Clone> Watch<R> {
    pub(super) fn new(setting: &'static str) -> Watch<R> {
        Watch { guesses: Guarded::default(), setting }
    }

    /// Refuses a client that has sent too many wrong passwords, before the present one is looked at.
    pub(super) fn check(&self, realm: &R, client: IpAddr) -> Result<(), Failure> {
        self.refuse(self.guesses().refused_for(realm, client, Instant::now()))
    }

    /// Counts a wrong password, unless the client is refused. The log gets a line that begins with `what` now and then.
    pub(super) fn wrong(&self, realm: &R, client: IpAddr, what: &dyn fmt::Display) -> Result<(), Failure> {
        let (mut guesses, now) = (self.guesses(), Instant::now());
        self.refuse(guesses.refused_for(realm, client, now))?;
        let line = guesses.count(realm, client, now);
        drop(guesses);
        if let Some(line) = line {
            log::warn!("{what} from {client}, {line}");
        }
        Ok(())
    }

    fn refuse(&self, rest: Option<Duration>) -> Result<(), Failure> {
        rest.map_or(Ok(()), |rest| Err(Failure::TooManyGuesses(rest, self.setting)))
    }

    fn guesses(&self) -> MutexGuard<'_, Guesses<R>> {
        self.guesses.lock()
    }
}

/// The clients that have sent wrong passwords lately. `R` is what the passwords are for: wrong ones for one thing do not
/// count for another.
struct Guesses<R = ()> {
    clients: Vec<Client<R>>,
    said: Option<Instant>,
    /// Wrong passwords since the last line.
    unsaid: u64,
}

struct Client<R> {
    realm: R,
    network: IpAddr,
    since: Instant,
    wrong: u32,
}

impl<R> Default for Guesses<R> {
    fn default() -> Guesses<R> {
        Guesses { clients: Vec::new(), said: None, unsaid: 0 }
    }
}

impl<R> Client<R> {
    /// What is left of its minute.
    fn rest(&self, now: Instant) -> Duration {
        (self.since + WINDOW).saturating_duration_since(now)
    }
}

/// A line for the log.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// Wrong passwords of this client within its minute.
    wrong: u32,
    /// Wrong passwords of all clients that no line told of.
    unsaid: u64,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {} of {MAX_GUESSES} within {}", self.wrong, duration::format(WINDOW))?;
        match self.unsaid {
            0 => Ok(()),
            unsaid => write!(f, "; {unsaid} others since the last such line"),
        }
    }
}

impl<R: PartialEq + Clone> Guesses<R> {
    /// How long no password of the client is looked at.
    fn refused_for(&self, realm: &R, client: IpAddr, now: Instant) -> Option<Duration> {
        let network = client_network(client);
        let client = self.clients.iter().find(|known| known.network == network && known.realm == *realm)?;
        let rest = client.rest(now);
        (client.wrong >= MAX_GUESSES && !rest.is_zero()).then_some(rest)
    }

    /// Counts a wrong password; a line for the log now and then.
    fn count(&mut self, realm: &R, client: IpAddr, now: Instant) -> Option<Line> {
        let client = self.client(realm, client_network(client), now);
        client.wrong = client.wrong.saturating_add(1);
        let wrong = client.wrong;
        if self.said.is_some_and(|said| now.saturating_duration_since(said) < LOG_PAUSE) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(Line { wrong, unsaid: std::mem::take(&mut self.unsaid) })
    }

    /// The client, with no wrong passwords if it is new or its minute is over.
    fn client(&mut self, realm: &R, network: IpAddr, now: Instant) -> &mut Client<R> {
        let place = self.clients.iter().position(|known| known.network == network && known.realm == *realm);
        let place = place.unwrap_or_else(|| self.free_place(realm, network, now));
        let client = &mut self.clients[place]; // it was just found, or made
        if client.network != network || client.realm != *realm || client.rest(now).is_zero() {
            *client = Client { realm: realm.clone(), network, since: now, wrong: 0 };
        }
        client
    }

    /// The place of the client whose minute is over first; a new one while there is room.
    fn free_place(&mut self, realm: &R, network: IpAddr, now: Instant) -> usize {
        let oldest = self.clients.iter().enumerate().min_by_key(|(_, client)| client.since);
        match oldest {
            Some((place, client)) if client.rest(now).is_zero() => place,
            Some((place, _)) if self.clients.len() >= MAX_CLIENTS => place,
            _ => {
                self.clients.push(Client { realm: realm.clone(), network, since: now, wrong: 0 });
                self.clients.len() - 1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_is_refused_after_too_many_guesses_until_its_minute_is_over() {
        let (mut guesses, start) = (<Guesses>::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let (one, other) = (ip("10.0.0.1"), ip("10.0.0.2"));
        for _ in 0..MAX_GUESSES {
            assert_eq!(guesses.refused_for(&(), one, at(10)), None);
            guesses.count(&(), one, at(0));
        }
        for (seconds, left) in [(0, Some(60)), (10, Some(50)), (59, Some(1)), (60, None), (100, None)] {
            let left = left.map(Duration::from_secs);
            assert_eq!(guesses.refused_for(&(), one, at(seconds)), left, "{seconds}");
            assert_eq!(guesses.refused_for(&(), other, at(seconds)), None, "{seconds}");
        }
        guesses.count(&(), one, at(60));
        assert_eq!(guesses.refused_for(&(), one, at(60)), None, "its next minute");
    }

    #[test]
    fn the_addresses_of_one_network_are_one_client() {
        for (one, other, is_same) in [
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.2", false),
            ("10.0.0.1", "10.0.0.2", false),
        ] {
            assert_eq!(client_network(ip(one)) == client_network(ip(other)), is_same, "{one} {other}");
        }
    }

    #[test]
    fn the_oldest_is_forgotten_where_there_are_too_many() {
        let (mut guesses, start) = (<Guesses>::default(), Instant::now());
        let client = |number: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(number));
        let at = |number: u32| start + Duration::from_millis(u64::from(number));
        let many = MAX_CLIENTS as u32 + 10;
        for number in 0..many {
            for _ in 0..MAX_GUESSES {
                guesses.count(&(), client(number), at(number));
            }
        }
        assert_eq!(guesses.clients.len(), MAX_CLIENTS);
        let is_refused = |number| guesses.refused_for(&(), client(number), at(many)).is_some();
        assert_eq!(
            (0..many).filter(|number| !is_refused(*number)).collect::<Vec<_>>(),
            (0..10).collect::<Vec<_>>()
        );
        // Those whose minute is over make room first.
        let late = at(many) + WINDOW;
        guesses.count(&(), client(many), late);
        assert!(guesses.clients.len() == MAX_CLIENTS && size_of::<Client<()>>() * MAX_CLIENTS <= 48 << 10);
    }

    #[test]
    fn wrong_passwords_for_one_thing_do_not_count_for_another() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        let one = ip("10.0.0.1");
        (0..MAX_GUESSES).for_each(|_| _ = guesses.count(&"a", one, now));
        assert!(guesses.refused_for(&"a", one, now).is_some());
        assert!(guesses.refused_for(&"b", one, now).is_none());
        guesses.count(&"b", one, now);
        assert_eq!(guesses.clients.len(), 2);
    }

    #[test]
    fn lines_are_few_and_count_the_others() {
        let (mut guesses, start) = (<Guesses>::default(), Instant::now());
        let (one, other) = (ip("10.0.0.1"), ip("10.0.0.2"));
        assert_eq!(guesses.count(&(), one, start), Some(Line { wrong: 1, unsaid: 0 }));
        for _ in 0..5 {
            assert_eq!(guesses.count(&(), one, start), None);
        }
        assert_eq!(guesses.count(&(), other, start + LOG_PAUSE), Some(Line { wrong: 1, unsaid: 5 }));
        assert_eq!(guesses.count(&(), one, start + 2 * LOG_PAUSE), Some(Line { wrong: 7, unsaid: 0 }));
        assert_eq!(Line { wrong: 1, unsaid: 0 }.to_string(), "number 1 of 20 within 1m");
        let others = Line { wrong: 1, unsaid: 5 }.to_string();
        assert_eq!(others, "number 1 of 20 within 1m; 5 others since the last such line");
    }
}
