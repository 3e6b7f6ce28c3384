//! A function under load, an engine and a clock, all of them numbers: what `Memory::decide` makes of them.
//! Nothing waits, and a scene always plays the same way.

mod gateways;
mod load;
mod plot;
mod properties;
mod scenes;

use std::time::{Duration, Instant};

use super::decide::{Bounds, Memory, Signals};
use crate::function::floor::{self, Note};
use load::{Load, Random};

/// What the world moves on by.
const STEP: Duration = Duration::from_millis(10);

/// Until the gateway sees what the engine was told.
const LAG: Duration = Duration::from_millis(200);

/// What the gateway takes at once for one function, unless set otherwise; more is refused.
const MOST_CALLS: f64 = 768.0;

/// What happens in a scene beside its load.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    /// Somebody else asks the engine for so many replicas.
    Scale(u32),
    /// The same by a stack file, which knows nothing of the gateway's note.
    Deploy(u32),
    /// The service becomes again as it was before the last write.
    Rollback,
    /// The engine refuses, or takes, what it is asked for.
    Fails(bool),
    /// Replicas are being replaced, or no more.
    Update(bool),
    /// A new gateway, with what is in flight, and no memory.
    Restart,
}

/// How far apart the ticks are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ticks {
    /// About 100 ms while there are calls, else about 500 ms.
    Usual,
    /// So many milliseconds.
    Every(u64),
    /// Anything from 10 ms to 1 s.
    Wild,
}

#[derive(Clone, Debug)]
struct Scene {
    name: &'static str,
    title: &'static str,
    /// In replicas that are busy to their target.
    load: Load,
    /// How long a call takes.
    service: Duration,
    /// How many calls a replica serves at once, the others wait; `None`: all that come.
    slots: Option<u32>,
    /// How long a replica takes to start.
    start: Duration,
    bounds: Bounds,
    /// Whether a label has the minimum of `bounds`; else it is what somebody asked for.
    has_min: bool,
    wanted: u32,
    lasts: u64,
    /// Each with its second.
    events: Vec<(u64, Event)>,
    ticks: Ticks,
}

const BOUNDS: Bounds = Bounds { min: 1, max: 20, target: 10, step: 4, zero_after: None };

impl Scene {
    /// One of a usual function, for so many seconds; what is unusual is set afterwards.
    fn new(name: &'static str, load: Load, lasts: u64) -> Scene {
        Scene {
            name,
            title: "",
            load,
            service: Duration::from_millis(100),
            slots: None,
            start: Duration::from_secs(2),
            bounds: BOUNDS,
            has_min: true,
            wanted: 1,
            lasts,
            events: Vec::new(),
            ticks: Ticks::Usual,
        }
    }

    fn play(&self) -> Vec<Row> {
        World::new(self).play()
    }
}

/// What was seen and asked for at one tick.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    /// Since the scene began.
    at: Duration,
    /// In replicas that are busy to their target.
    load: f64,
    in_flight: u32,
    wanted: u32,
    ready: u32,
    asked: Option<u32>,
    min: u32,
    is_held: bool,
}

/// What the engine knows of the function and the gateway reads.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spec {
    replicas: u32,
    note: Option<Note>,
}

struct World<'a> {
    scene: &'a Scene,
    began: Instant,
    at: Duration,
    in_flight: f64,
    ended: f64,
    /// When each replica is ready, in the order of their start: as many as the engine wants.
    replicas: Vec<Duration>,
    spec: Spec,
    previous: Spec,
    /// What the gateway will see the engine want, and when.
    seen_later: Vec<(Duration, Spec)>,
    seen: Spec,
    changes: u64,
    fails: bool,
    updates: bool,
    memory: Memory,
    random: Random,
}

impl World<'_> {
    fn new(scene: &Scene) -> World<'_> {
        let began = Instant::now(); // only differences to it count
        let spec = Spec { replicas: scene.wanted, note: None };
        World {
            scene,
            began,
            at: Duration::ZERO,
            in_flight: 0.0,
            ended: 0.0,
            replicas: vec![Duration::ZERO; scene.wanted as usize],
            spec,
            previous: spec,
            seen_later: Vec::new(),
            seen: spec,
            changes: 0,
            fails: false,
            updates: false,
            memory: Memory::new(began),
            random: Random(7),
        }
    }

    fn play(mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut next_tick = Duration::ZERO;
        let mut events = self.scene.events.iter().peekable();
        while self.at <= Duration::from_secs(self.scene.lasts) {
            while let Some((_, event)) = events.next_if(|(second, _)| Duration::from_secs(*second) <= self.at)
            {
                self.happen(*event);
            }
            self.serve();
            if self.at >= next_tick {
                rows.push(self.tick());
                next_tick = self.at + self.pause();
            }
            self.at += STEP;
        }
        rows
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Scale(replicas) => self.write(Spec { replicas, ..self.spec }),
            Event::Deploy(replicas) => self.write(Spec { replicas, note: None }),
            Event::Rollback => self.write(self.previous),
            Event::Fails(fails) => self.fails = fails,
            Event::Update(updates) => self.updates = updates,
            Event::Restart => self.memory = Memory::new(self.began + self.at),
        }
    }

    fn write(&mut self, spec: Spec) {
        self.previous = std::mem::replace(&mut self.spec, spec);
        self.replicas.resize(spec.replicas as usize, self.at + self.scene.start);
        self.seen_later.push((self.at + LAG, spec));
    }

    /// What the gateway writes: nothing where somebody else was quicker.
    fn scale(&mut self, from: u32, to: u32) {
        let Spec { replicas, note } = self.spec;
        let is_own = note.is_some_and(|note| note.set == replicas); // that the gateway has not seen yet
        if replicas == from || is_own {
            let note = Note { asked: floor::asked(note, replicas), set: to };
            self.write(Spec { replicas: to, note: Some(note) });
        }
    }

    fn bounds(&self) -> Bounds {
        let asked = floor::asked(self.seen.note, self.seen.replicas);
        let bounds = self.scene.bounds;
        let min = if self.scene.has_min { bounds.min } else { asked.clamp(1, bounds.max) };
        Bounds { min, ..bounds }
    }

    fn ready(&self) -> u32 {
        self.replicas.iter().filter(|ready_at| **ready_at <= self.at).count() as u32
    }

    fn pause(&mut self) -> Duration {
        let jitter = self.random.below(40);
        Duration::from_millis(match self.scene.ticks {
            Ticks::Usual if self.in_flight >= 0.5 => 80 + jitter,
            Ticks::Usual => 480 + jitter,
            Ticks::Every(ms) => ms,
            Ticks::Wild => 10 + self.random.below(990),
        })
    }

    /// Calls come, and those that are served end after their time on average.
    fn serve(&mut self) {
        let load = self.scene.load.at(self.at) * f64::from(self.scene.bounds.target);
        let part = (STEP.as_secs_f64() / self.scene.service.as_secs_f64()).min(1.0);
        let whole = STEP.as_secs_f64() / self.scene.service.as_secs_f64();
        let served = match (self.ready(), self.scene.slots) {
            (0, _) => 0.0,
            (_, None) => self.in_flight,
            (ready, Some(slots)) => self.in_flight.min(f64::from(ready * slots)),
        };
        self.ended += served * part;
        self.in_flight = (self.in_flight - served * part + load * whole).min(MOST_CALLS);
        if load == 0.0 && self.in_flight < 0.5 {
            self.in_flight = 0.0;
        }
    }

    fn tick(&mut self) -> Row {
        let (at, ready) = (self.at, self.ready());
        while let Some((_, spec)) = self.seen_later.first().filter(|(seen_at, _)| *seen_at <= at) {
            self.changes += u64::from(self.seen.replicas != spec.replicas);
            self.seen = *spec;
            self.seen_later.remove(0);
        }
        let wanted = self.seen.replicas;
        let signals = Signals {
            in_flight: self.in_flight.round() as usize,
            calls: self.ended as u64,
            turnovers: 0,
            wanted,
            changes: self.changes,
            ready,
            is_held: self.updates,
            is_kept: false,
        };
        let bounds = self.bounds();
        let asked = self.memory.decide(&bounds, &signals, self.began + at);
        if let Some(replicas) = asked.filter(|_| !self.fails) {
            self.scale(wanted, replicas);
        }
        let (load, in_flight) = (self.scene.load.at(at), signals.in_flight as u32);
        let Bounds { min, .. } = bounds;
        Row { at, load, in_flight, wanted, ready, asked, min, is_held: self.updates }
    }
}
