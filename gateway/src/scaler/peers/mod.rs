//! The calls of the other gateways of the service, put together: values and times in, a [`View`] out.
//!
//! A peer that told its load a moment ago counts. One that should tell and does not, counts no more, and as long as it
//! is expected to tell nothing may be taken away: it may use what this gateway takes for idle.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::function::FunctionName;
use crate::load::{Instance, Load, Page};
use crate::provider::Peer;

/// Gateways that are asked. With more of them nothing is taken away.
pub(super) const MAX_PEERS: usize = 32;

/// How long a load counts after it was asked for: some tries, so that one that fails changes nothing.
const FRESH_TIME: Duration = Duration::from_secs(2);

/// How old the loads of all peers may be when something is taken away: a call that began since is not among them.
const SHRINK_TIME: Duration = Duration::from_millis(500);

/// The knowledge of one peer.
struct Record {
    address: SocketAddr,
    /// Since when it is known.
    since: Instant,
    /// Whether the provider still tells of it, and whether it should answer.
    is_listed: bool,
    is_expected: bool,
    /// Its last page, and when that was asked for.
    page: Option<(Page, Instant)>,
    /// It is this gateway.
    is_own: bool,
    /// Why the last question was not answered.
    failure: Option<String>,
    /// Its silence was said in the log.
    is_reported: bool,
}

impl Record {
    fn new(peer: Peer, now: Instant) -> Record {
        Record {
            address: peer.address,
            since: now,
            is_listed: true,
            is_expected: peer.is_expected,
            page: None,
            is_own: false,
            failure: None,
            is_reported: false,
        }
    }

    /// The page that counts, and when it was asked for.
    fn fresh(&self, now: Instant) -> Option<(&Page, Instant)> {
        let (page, asked) = self.page.as_ref()?;
        (now.saturating_duration_since(*asked) < FRESH_TIME).then_some((page, *asked))
    }

    fn tells_of(&self, name: &FunctionName) -> bool {
        self.page.as_ref().is_some_and(|(page, _)| page.functions.contains_key(name))
    }

    /// Whether it is silent though it should tell its load.
    fn is_silent(&self, now: Instant) -> bool {
        let is_expected = self.is_expected || self.page.is_some();
        !self.is_own && is_expected && self.fresh(now).is_none()
    }
}

/// All peers.
pub(super) struct Peers {
    own: Instance,
    records: Vec<Record>,
    /// More gateways are known than are asked.
    are_too_many: bool,
    /// That was said in the log.
    is_reported: bool,
    /// Calls that have ended at peers since they are known; of functions that some peer tells of.
    ended: HashMap<FunctionName, u64>,
    /// How often a peer came or went.
    turnovers: u64,
}

/// The other gateways as the scaler sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// The calls of all that count.
    loads: HashMap<FunctionName, Load>,
    /// How often a peer came or went: the use that it made of functions is not known in full then.
    pub(super) turnovers: u64,
    /// Whether this gateway is the one that takes replicas away.
    is_first: bool,
    /// When the oldest of the loads was asked for; `None` without peers.
    as_of: Option<Instant>,
    /// Whether all that should tell their load do.
    is_complete: bool,
}

impl View {
    /// Without other gateways.
    pub(super) fn alone() -> View {
        View { loads: HashMap::new(), turnovers: 0, is_first: true, as_of: None, is_complete: true }
    }

    /// The calls of a function at all other gateways, and the most that one of them keeps.
    pub(super) fn load(&self, name: &FunctionName) -> Load {
        self.loads.get(name).copied().unwrap_or_default()
    }

    /// Whether some other gateway has calls in hand.
    pub(super) fn is_busy(&self) -> bool {
        self.loads.values().any(|load| load.in_flight > 0)
    }

    /// Whether this gateway may take replicas away.
    pub(super) fn may_shrink(&self, now: Instant) -> bool {
        let is_old = |asked: Instant| now.saturating_duration_since(asked) > SHRINK_TIME;
        self.is_first && self.is_complete && !self.as_of.is_some_and(is_old)
    }
}

impl Peers {
    pub(super) fn new(own: Instance) -> Peers {
        Peers {
            own,
            records: Vec::new(),
            are_too_many: false,
            is_reported: false,
            ended: HashMap::new(),
            turnovers: 0,
        }
    }

    /// Takes in which gateways the provider knows. One that it does not know any more is asked as long as it answers:
    /// it may still have calls in hand.
    pub(super) fn list(&mut self, peers: &[Peer], now: Instant) {
        for record in &mut self.records {
            let peer = peers.iter().find(|peer| peer.address == record.address);
            record.is_listed = peer.is_some();
            record.is_expected = peer.is_some_and(|peer| peer.is_expected);
        }
        let before = self.records.len();
        self.records.retain(|record| record.is_listed || !record.is_own && record.fresh(now).is_some());
        self.are_too_many = false;
        for peer in peers {
            if self.records.iter().any(|record| record.address == peer.address) {
                continue;
            }
            if self.records.len() == MAX_PEERS {
                self.are_too_many = true;
                break;
            }
            self.records.push(Record::new(*peer, now));
        }
        if self.records.len() < before {
            self.turnovers += 1;
        }
        let pages = self.records.iter().filter_map(|record| record.page.as_ref());
        let most = pages.map(|(page, _)| page.functions.len()).sum();
        if self.records.len() < before || self.ended.len() > most {
            let records = &self.records;
            let is_told = |name: &FunctionName| records.iter().any(|record| record.tells_of(name));
            self.ended.retain(|name, _| is_told(name));
        }
    }

    /// Whom to ask.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.records.iter().filter(|record| !record.is_own).map(|record| record.address)
    }

    /// Takes in what the peer at an address tells.
    pub(super) fn take(&mut self, address: SocketAddr, page: Page, asked: Instant) {
        let Some(record) = self.records.iter_mut().find(|record| record.address == address) else { return };
        record.failure = None;
        if page.instance == self.own {
            record.is_own = true;
            record.page = None;
            return;
        }
        match &record.page {
            Some((before, _)) if before.instance == page.instance => {
                for (name, load) in &page.functions {
                    let before = before.functions.get(name).copied().unwrap_or_default();
                    // It falls where a function was removed and added again.
                    let more = load.ended.checked_sub(before.ended).unwrap_or(load.ended);
                    let ended = self.ended.entry(name.clone()).or_default();
                    *ended = ended.saturating_add(more);
                }
            }
            _ => self.turnovers += 1,
        }
        record.page = Some((page, asked));
    }

    /// Takes in that the peer at an address did not answer, or not as it should.
    pub(super) fn fail(&mut self, address: SocketAddr, why: String) {
        if let Some(record) = self.records.iter_mut().find(|record| record.address == address) {
            record.failure = Some(why);
        }
    }

    pub(super) fn view(&self, now: Instant) -> View {
        let mut view = View { turnovers: self.turnovers, ..View::alone() };
        for (page, asked) in self.records.iter().filter_map(|record| record.fresh(now)) {
            view.is_first &= self.own < page.instance;
            view.as_of = Some(view.as_of.map_or(asked, |oldest| oldest.min(asked)));
            for (name, load) in &page.functions {
                let sum = view.loads.entry(name.clone()).or_default();
                sum.in_flight = sum.in_flight.saturating_add(load.in_flight);
                sum.kept = sum.kept.max(load.kept);
            }
        }
        for (name, ended) in &self.ended {
            view.loads.entry(name.clone()).or_default().ended = *ended;
        }
        view.is_complete = !self.are_too_many && !self.records.iter().any(|record| record.is_silent(now));
        view
    }

    /// Lines for the log about peers that do not tell their load.
    pub(super) fn news(&mut self, now: Instant) -> Vec<News> {
        let mut news = Vec::new();
        for record in &mut self.records {
            let is_old = now.saturating_duration_since(record.since) >= FRESH_TIME;
            let is_silent = record.is_listed && record.is_silent(now) && is_old;
            // Without a failure it is this gateway that could not ask.
            let why = record.failure.as_deref().filter(|_| is_silent);
            if why.is_some() == record.is_reported {
                continue;
            }
            record.is_reported = why.is_some();
            let address = record.address;
            news.push(match why {
                Some(why) => News::Bad(format!("the gateway at {address} does not tell its load: {why}")),
                None => News::Good(format!("the gateway at {address} tells its load")),
            });
        }
        if self.are_too_many && !self.is_reported {
            news.push(News::Bad(format!("there are more than {MAX_PEERS} gateways")));
        }
        self.is_reported = self.are_too_many;
        news
    }
}

/// A line for the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Why nothing is taken away from now on.
    Bad(String),
    Good(String),
}

#[cfg(test)]
mod tests;
