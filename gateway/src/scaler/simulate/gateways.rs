//! Several gateways before one function: each with its own part of the load, its own memory, and what the others tell.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::load::{Load, Random};
use super::{BOUNDS, LAG, STEP};
use crate::function::FunctionName;
use crate::load::{Instance, Load as Told, Page};
use crate::provider::Peer;
use crate::scaler::decide::{Bounds, Memory, Signals};
use crate::scaler::peers::Peers;

/// Between two questions to a peer.
const ASK: u64 = 250;

/// How long a call takes.
const SERVICE: Duration = Duration::from_millis(100);

/// How long a replica takes to start.
const START: Duration = Duration::from_secs(2);

/// Whether and how a gateway is there.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Well,
    /// It serves its calls, and answers no other gateway.
    Mute,
    /// Its process has ended; the engine knows it a second later.
    Gone,
}

struct Gateway {
    load: Load,
    state: State,
    since: Duration,
    in_flight: f64,
    ended: f64,
    memory: Memory,
    peers: Peers,
    next_tick: Duration,
    next_ask: Duration,
}

/// What one gateway asked the engine for.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ask {
    second: u64,
    gateway: usize,
    from: u32,
    to: u32,
}

struct World {
    began: Instant,
    at: Duration,
    bounds: Bounds,
    gateways: Vec<Gateway>,
    /// When each replica is ready.
    replicas: Vec<Duration>,
    seen_later: Vec<(Duration, u32)>,
    seen: u32,
    changes: u64,
    asks: Vec<Ask>,
    random: Random,
}

fn instance(number: usize) -> Instance {
    Instance(10 + number as u64)
}

fn address(number: usize) -> std::net::SocketAddr {
    ([10, 0, 1, number as u8], 8080).into()
}

impl World {
    /// A gateway for each load. The first of them is the one that takes away.
    fn new(bounds: Bounds, wanted: u32, loads: &[Load]) -> World {
        let began = Instant::now(); // only differences to it count
        let gateway = |(number, load): (usize, &Load)| Gateway {
            load: *load,
            state: State::Well,
            since: Duration::ZERO,
            in_flight: 0.0,
            ended: 0.0,
            memory: Memory::new(began),
            peers: Peers::new(instance(number)),
            next_tick: Duration::from_millis(37 * number as u64),
            next_ask: Duration::from_millis(91 * number as u64),
        };
        World {
            began,
            at: Duration::ZERO,
            bounds,
            gateways: loads.iter().enumerate().map(gateway).collect(),
            replicas: vec![Duration::ZERO; wanted as usize],
            seen_later: Vec::new(),
            seen: wanted,
            changes: 0,
            asks: Vec::new(),
            random: Random(7),
        }
    }

    /// So many seconds; what was asked for in them.
    fn play(&mut self, seconds: u64) -> Vec<Ask> {
        let (until, before) = (self.at + Duration::from_secs(seconds), self.asks.len());
        while self.at < until {
            while let Some((_, replicas)) = self.seen_later.first().filter(|(seen_at, _)| *seen_at <= self.at)
            {
                self.changes += u64::from(self.seen != *replicas);
                self.seen = *replicas;
                self.seen_later.remove(0);
            }
            let ready = self.ready();
            for number in 0..self.gateways.len() {
                self.serve(number, ready);
                self.ask(number);
                self.tick(number, ready);
            }
            self.at += STEP;
        }
        self.asks[before..].to_vec()
    }

    fn becomes(&mut self, number: usize, state: State) {
        (self.gateways[number].state, self.gateways[number].since) = (state, self.at);
    }

    fn ready(&self) -> u32 {
        self.replicas.iter().filter(|ready_at| **ready_at <= self.at).count() as u32
    }

    fn serve(&mut self, number: usize, ready: u32) {
        let gateway = &mut self.gateways[number];
        let parts = SERVICE.as_secs_f64() / STEP.as_secs_f64();
        let load = gateway.load.at(self.at) * f64::from(self.bounds.target);
        let served = if ready > 0 { gateway.in_flight / parts } else { 0.0 };
        gateway.ended += served;
        gateway.in_flight += load / parts - served;
        if load == 0.0 && gateway.in_flight < 0.5 || gateway.state == State::Gone {
            gateway.in_flight = 0.0;
        }
    }

    /// The gateway asks all others.
    fn ask(&mut self, number: usize) {
        if self.at < self.gateways[number].next_ask || self.gateways[number].state == State::Gone {
            return;
        }
        let now = self.began + self.at;
        let is_known = |gateway: &Gateway| {
            gateway.state != State::Gone || self.at < gateway.since + Duration::from_secs(1)
        };
        let others = self.gateways.iter().enumerate();
        let others: Vec<_> =
            others.filter(|(other, gateway)| *other != number && is_known(gateway)).collect();
        let peers: Vec<_> =
            others.iter().map(|(other, _)| Peer { address: address(*other), is_expected: true }).collect();
        let pages: Vec<_> = others.iter().map(|(other, gateway)| (*other, gateway.page(*other))).collect();
        let gateway = &mut self.gateways[number];
        gateway.peers.list(&peers, now);
        for (other, page) in pages {
            match page {
                Some(page) => gateway.peers.take(address(other), page, now),
                None => gateway.peers.fail(address(other), "no answer".to_owned()),
            }
        }
        gateway.next_ask = self.at + Duration::from_millis(ASK);
        gateway.next_tick = self.at; // the scaler is woken
    }

    fn tick(&mut self, number: usize, ready: u32) {
        let (now, pause) = (self.began + self.at, 80 + self.random.below(40));
        let gateway = &mut self.gateways[number];
        if self.at < gateway.next_tick || gateway.state == State::Gone {
            return;
        }
        gateway.next_tick = self.at + Duration::from_millis(pause);
        let view = gateway.peers.view(now);
        let others = view.load(&function());
        let signals = Signals {
            in_flight: gateway.in_flight.round() as usize + others.in_flight as usize,
            calls: gateway.ended as u64 + others.ended,
            turnovers: view.turnovers,
            wanted: self.seen,
            changes: self.changes,
            ready,
            is_held: false,
            is_kept: !view.may_shrink(now),
        };
        let Some(to) = gateway.memory.decide(&self.bounds, &signals, now) else { return };
        self.asks.push(Ask { second: self.at.as_secs(), gateway: number, from: self.seen, to });
        // Nothing is done where the engine has other replicas than the gateway thought.
        if self.replicas.len() == self.seen as usize {
            self.replicas.resize(to as usize, self.at + START);
            self.seen_later.push((self.at + LAG, to));
        }
    }
}

impl Gateway {
    fn page(&self, number: usize) -> Option<Page> {
        let load = Told { in_flight: self.in_flight.round() as u32, ended: self.ended as u64, kept: 0 };
        let page = Page { instance: instance(number), functions: HashMap::from([(function(), load)]) };
        (self.state == State::Well).then_some(page)
    }
}

fn function() -> FunctionName {
    FunctionName::parse(b"echo").unwrap()
}

fn shrinks(asks: &[Ask]) -> Vec<Ask> {
    asks.iter().filter(|ask| ask.to < ask.from).copied().collect()
}

const NONE: Load = Load::Constant(0.0);

/// A call that does not end: a WebSocket.
const ONE_CALL: Load = Load::Constant(0.1);

fn to_zero() -> Bounds {
    Bounds { zero_after: Some(Duration::from_secs(10)), ..BOUNDS }
}

#[test]
fn the_sum_decides_however_the_load_is_spread() {
    for loads in [
        &[Load::Constant(2.9), Load::Constant(2.9)][..],
        &[Load::Constant(5.8), NONE],
        &[NONE, Load::Constant(5.8)],
        &[Load::Constant(1.8), Load::Constant(4.0)],
        &[Load::Constant(2.0), Load::Constant(1.0), Load::Constant(2.8)],
        &[Load::Noisy(2.5, 0.2), Load::Noisy(2.5, 0.2)],
    ] {
        let mut world = World::new(BOUNDS, 1, loads);
        world.play(5);
        assert!((5..=7).contains(&world.seen), "{loads:?}: {} after 5 s", world.seen);
        let asks = world.play(595);
        assert!((5..=6).contains(&world.seen), "{loads:?}: {}", world.seen);
        assert!(asks.len() <= 2, "{loads:?}: {asks:?}");
    }
}

#[test]
fn nothing_that_one_uses_goes_to_zero_because_another_is_idle() {
    for loads in [[ONE_CALL, NONE], [NONE, ONE_CALL], [Load::Constant(0.9), NONE]] {
        let mut world = World::new(to_zero(), 1, &loads);
        let asks = world.play(600);
        assert_eq!((asks, world.seen), (Vec::new(), 1), "{loads:?}");
    }
}

#[test]
fn when_all_are_idle_it_goes_to_zero_once_and_by_one_of_them() {
    let ends = Load::Steps(&[(0.0, 0.5), (30.0, 0.0)]);
    for loads in [[ends, NONE], [NONE, ends], [ends, ends]] {
        let mut world = World::new(to_zero(), 1, &loads);
        let asks = world.play(120);
        assert!(
            matches!(asks[..], [Ask { gateway: 0, from: 1, to: 0, second: 40..45 }]),
            "{loads:?} {asks:?}"
        );
    }
}

#[test]
fn a_load_that_moves_from_one_to_the_other_moves_no_replica() {
    let first = Load::Steps(&[(0.0, 4.0), (100.0, 0.0), (200.0, 4.0)]);
    let second = Load::Steps(&[(0.0, 0.0), (100.0, 4.0), (200.0, 0.0)]);
    let mut world = World::new(BOUNDS, 4, &[first, second]);
    let asks = world.play(300);
    assert!(asks.iter().all(|ask| ask.to > 3 && ask.to < 7) && asks.len() <= 4, "{asks:?}");
}

#[test]
fn a_peer_that_is_silent_keeps_its_replicas_and_growth_goes_on() {
    for mute in [0, 1] {
        let mut world = World::new(to_zero(), 1, &[Load::Constant(2.8), Load::Constant(2.8)]);
        world.play(30);
        assert_eq!(world.seen, 6);
        world.becomes(mute, State::Mute);
        world.gateways[1 - mute].load = NONE;
        // The silent one hears the other, and may take away what neither of them needs.
        let shrinks_of_both = shrinks(&world.play(300));
        assert!(shrinks_of_both.iter().all(|ask| ask.gateway == mute && ask.to >= 3), "{shrinks_of_both:?}");
        world.gateways[1 - mute].load = Load::Constant(8.8);
        world.play(10);
        assert!((9..=12).contains(&world.seen), "{}", world.seen);
        world.becomes(mute, State::Well);
        world.gateways[1 - mute].load = NONE;
        world.gateways[mute].load = NONE;
        let shrinks = shrinks(&world.play(300));
        assert!(world.seen == 0 && shrinks.iter().all(|ask| ask.gateway == 0), "{shrinks:?}");
    }
}

#[test]
fn what_a_dead_peer_used_is_kept_for_a_minute_and_then_goes() {
    for dead in [0, 1] {
        let mut world = World::new(BOUNDS, 1, &[Load::Constant(2.8), Load::Constant(2.8)]);
        world.play(90);
        world.becomes(dead, State::Gone);
        world.gateways[dead].load = NONE;
        assert_eq!(world.play(58), [], "also no growth by a load that was counted twice");
        let asks = world.play(120);
        assert!(world.seen == 3 && asks.iter().all(|ask| ask.gateway != dead), "{asks:?}");
    }
}

#[test]
fn a_first_replica_is_asked_for_at_once_by_whoever_has_the_call() {
    for caller in [0, 1] {
        let mut loads = [NONE, NONE];
        loads[caller] = Load::Steps(&[(20.0, 0.5)]);
        let mut world = World::new(to_zero(), 0, &loads);
        let asks = world.play(21);
        assert!(matches!(asks[0], Ask { second: 20, from: 0, to: 1, .. }), "{asks:?}");
        assert_eq!(asks[0].gateway, caller);
        world.becomes(1 - caller, State::Mute);
        world.play(60);
        assert_eq!(world.seen, 1);
    }
}
