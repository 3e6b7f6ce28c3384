//! What holds of every scene: loads of each kind, fast and slow functions, replicas that start fast or slowly,
//! ticks as they come.

use std::time::Duration;

use super::load::Load;
use super::{BOUNDS, Event, Row, Scene, Ticks};
use crate::scaler::decide::Bounds;

const MINUTE: Duration = Duration::from_secs(60);

const LOADS: [(&str, Load); 14] = [
    ("a little", Load::Constant(0.3)),
    ("one", Load::Constant(1.0)),
    ("three", Load::Constant(3.0)),
    ("five and a half", Load::Constant(5.5)),
    ("ten", Load::Constant(10.0)),
    ("more than there may be", Load::Constant(40.0)),
    ("noise around four", Load::Noisy(4.0, 0.8)),
    ("noise around nine", Load::Noisy(9.0, 0.2)),
    ("step", Load::Steps(&[(0.0, 0.5), (20.0, 7.0), (90.0, 1.0)])),
    ("ramp", Load::Lines(&[(0.0, 0.0), (90.0, 15.0), (180.0, 0.0)])),
    ("sine", Load::Sine(0.5, 8.0, 90.0)),
    ("square", Load::Square(0.5, 6.0, 70.0)),
    ("bursts", Load::Bursts(0.5, 9.0, 20)),
    ("spike", Load::Steps(&[(0.0, 0.5), (20.0, 18.0), (21.0, 0.5)])),
];

const SERVICES: [Duration; 4] =
    [Duration::from_millis(10), Duration::from_millis(200), Duration::from_secs(2), Duration::from_secs(30)];

const STARTS: [Duration; 3] = [Duration::from_millis(100), Duration::from_secs(2), Duration::from_secs(20)];

const TICKS: [Ticks; 3] = [Ticks::Usual, Ticks::Wild, Ticks::Every(2000)];

fn asks(rows: &[Row]) -> impl Iterator<Item = (&Row, u32)> {
    rows.iter().filter_map(|row| Some((row, row.asked?)))
}

/// No ask is out of bounds, a step too far, or straight to the minimum; none down within a minute of one up.
fn check_asks(scene: &Scene, rows: &[Row], what: &str) {
    let Bounds { min, max, step, zero_after, .. } = scene.bounds;
    let mut up_at = None;
    let mut down_at: Option<Duration> = None;
    for (row, replicas) in asks(rows) {
        let what = format!("{what}: {row:?}");
        assert!(replicas != row.wanted && replicas <= max, "{what}");
        if replicas > row.wanted {
            assert!(replicas >= min, "{what}");
            up_at = Some(row.at);
            continue;
        }
        if replicas == 0 {
            assert!(zero_after.is_some() && row.in_flight == 0 && row.wanted <= min, "{what}");
        } else {
            assert!(replicas >= min && row.wanted - replicas <= step, "{what}");
            assert!(replicas > min || row.wanted <= 2 * min, "straight to the minimum: {what}");
        }
        assert!(up_at.is_none_or(|at| row.at >= at + MINUTE), "up and down: {what}");
        assert!(down_at.is_none_or(|at| row.at >= at + Duration::from_secs(10)), "hasty: {what}");
        down_at = Some(row.at);
    }
}

/// A load that stays as it is is answered by going up, or down, and at most once the other way.
fn check_turns(scene: &Scene, rows: &[Row], what: &str) {
    if matches!(scene.load, Load::Constant(_)) {
        let ups: Vec<bool> = asks(rows).map(|(row, replicas)| replicas > row.wanted).collect();
        let turns = ups.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(turns <= 1, "{what}: {:?}", asks(rows).collect::<Vec<_>>());
    }
}

#[test]
fn no_load_on_any_function_leads_to_an_ask_that_breaks_a_rule() {
    for (name, load) in LOADS {
        for service in SERVICES {
            for start in STARTS {
                for slots in [None, Some(BOUNDS.target)] {
                    for ticks in TICKS {
                        let scene = Scene { service, start, slots, ticks, ..Scene::new(name, load, 270) };
                        let what = format!("{name}, {service:?}, {start:?}, {slots:?}, {ticks:?}");
                        let rows = scene.play();
                        check_asks(&scene, &rows, &what);
                        check_turns(&scene, &rows, &what);
                    }
                }
            }
        }
    }
}

/// From the moment when a load is in flight that needs so many replicas, they are wanted within two seconds.
#[test]
fn a_load_that_needs_five_gets_five_in_two_seconds() {
    for ms in [10, 50, 200, 500, 1000, 5000, 30_000] {
        for start in [100, 500, 2000] {
            for slots in [None, Some(10)] {
                let scene = Scene {
                    service: Duration::from_millis(ms),
                    start: Duration::from_millis(start),
                    slots,
                    ..Scene::new("five", Load::Steps(&[(0.0, 0.3), (20.0, 5.0)]), 240)
                };
                let rows = scene.play();
                let needed = rows.iter().find(|row| row.in_flight >= 45).expect("a load").at;
                let wanted = rows.iter().find(|row| row.wanted >= 5).expect("replicas").at;
                assert!(wanted <= needed + Duration::from_secs(2), "{scene:?}: {needed:?} {wanted:?}");
            }
        }
    }
}

#[test]
fn a_load_gets_what_it_needs_and_at_last_no_more() {
    for (level, enough) in
        [(0.3, 1), (1.0, 1), (1.05, 1), (1.3, 2), (3.0, 3), (5.5, 6), (10.0, 10), (19.0, 19)]
    {
        for service in [Duration::from_millis(10), Duration::from_millis(200), Duration::from_secs(2)] {
            for slots in [None, Some(11)] {
                for start in STARTS {
                    let scene = Scene { service, slots, start, ..Scene::new("", Load::Constant(level), 400) };
                    let last = *scene.play().last().expect("rows");
                    let most = if slots.is_some() { enough + 1 } else { enough };
                    assert!((enough..=most).contains(&last.wanted), "{scene:?}: {last:?}");
                    assert_eq!(last.ready, last.wanted, "{scene:?}");
                }
            }
        }
    }
}

#[test]
fn noise_does_not_hide_a_need() {
    for ms in [50, 200, 1000] {
        let service = Duration::from_millis(ms);
        let rows = Scene { service, ..Scene::new("noise", Load::Noisy(5.0, 0.7), 60) }.play();
        let needed = rows.iter().find(|row| row.in_flight >= 45).expect("a load").at;
        let wanted = rows.iter().find(|row| row.wanted >= 5).expect("replicas").at;
        assert!(wanted <= needed + Duration::from_secs(3), "{service:?}: {needed:?} {wanted:?}");
    }
}

/// Where calls wait for a replica, five replicas' load leads to no more than twice the six that it needs with some
/// room, however slowly they start.
#[test]
fn replicas_that_start_slowly_do_not_look_like_too_few() {
    for start in STARTS {
        for ms in [50, 100, 200, 500, 1000] {
            let scene = Scene {
                service: Duration::from_millis(ms),
                start,
                slots: Some(10),
                ..Scene::new("slow", Load::Steps(&[(0.0, 0.5), (20.0, 5.0)]), 100)
            };
            let wanted = scene.play().iter().map(|row| row.wanted).max();
            assert!((Some(5)..=Some(13)).contains(&wanted), "{scene:?}: {wanted:?}");
        }
    }
}

#[test]
fn after_a_load_the_minimum_comes_back() {
    for (name, load) in LOADS {
        let ended = Load::Steps(&[(0.0, 18.0), (60.0, 0.0)]);
        for min in [1, 3] {
            for zero_after in [None, Some(Duration::from_secs(30))] {
                let bounds = Bounds { min, zero_after, ..BOUNDS };
                // A stable window, a part of it, and a pause for each step of four or a half.
                let scene = Scene { bounds, ..Scene::new(name, ended, 60 + 65 + 90) };
                let rows = scene.play();
                check_asks(&scene, &rows, name);
                let last = if zero_after.is_some() { 0 } else { min };
                assert_eq!(rows.last().map(|row| row.wanted), Some(last), "{scene:?}");
                let busy = Scene { bounds, wanted: 4, ..Scene::new(name, load, 150) };
                assert!(busy.play().iter().all(|row| row.wanted > 0), "{busy:?}");
            }
        }
    }
}

#[test]
fn an_engine_that_fails_is_not_stormed() {
    for ticks in [Ticks::Usual, Ticks::Wild, Ticks::Every(10)] {
        for (wanted, load) in [
            (1, Load::Constant(9.0)),
            (1, Load::Lines(&[(0.0, 0.0), (300.0, 20.0)])),
            (1, Load::Noisy(5.0, 1.0)),
            (1, Load::Bursts(0.5, 9.0, 4)),
            (0, Load::Constant(0.2)),
            (12, Load::Constant(0.2)),
        ] {
            let events = vec![(0, Event::Fails(true))];
            let scene = Scene { events, ticks, wanted, ..Scene::new("fails", load, 300) };
            let rows = scene.play();
            // With pauses of 2, 4, 8, 16 and then 30 s; as the need rises some more in the first 2 s.
            let early = asks(&rows).filter(|(row, _)| row.at < Duration::from_secs(30)).count();
            let count = asks(&rows).count();
            assert!((1..=20).contains(&count), "{scene:?}: {count}");
            assert!(count - early <= 12, "{scene:?}: {count} {early}");
        }
    }
}

#[test]
fn whatever_happens_no_ask_breaks_a_rule() {
    let events = vec![
        (15, Event::Scale(9)),
        (40, Event::Scale(1)),
        (50, Event::Fails(true)),
        (70, Event::Scale(0)),
        (80, Event::Fails(false)),
        (100, Event::Update(true)),
        (140, Event::Restart),
        (150, Event::Update(false)),
        (200, Event::Scale(30)),
    ];
    for (name, load) in LOADS {
        for min in [1, 2] {
            let bounds = Bounds { min, ..BOUNDS };
            let scene = Scene { bounds, events: events.clone(), ..Scene::new(name, load, 450) };
            let rows = scene.play();
            let down = asks(&rows).filter(|(row, replicas)| *replicas < row.wanted);
            assert!(asks(&rows).all(|(row, _)| !row.is_held || row.wanted == 0), "{name}: in an update");
            for (row, replicas) in down {
                let at = row.at.as_secs();
                assert!(row.wanted - replicas <= BOUNDS.step && replicas >= min, "{name}: {row:?}");
                assert!(at >= 200, "within a minute of a change, or in an update: {name}: {row:?}");
            }
            assert!(rows.last().is_some_and(|row| (min..=20).contains(&row.wanted)), "{name}");
        }
    }
}

/// Seconds until a load that has ended is forgotten, and the replicas that it had are gone by steps.
const SETTLES: u64 = 60 + 65 + 90;

/// Whatever happens before, what somebody asked for last is there when there is no load: also for a new gateway, and
/// when the note of the old one is lost with a deployment, or comes back with a rollback.
#[test]
fn without_a_label_what_somebody_asked_for_last_comes_back() {
    let last = 60;
    for (events, want) in [
        (vec![], 4),
        (vec![Event::Restart], 4),
        (vec![Event::Scale(7)], 7),
        (vec![Event::Scale(2)], 2),
        (vec![Event::Scale(0)], 1),
        (vec![Event::Deploy(3)], 3),
        (vec![Event::Scale(7), Event::Restart], 7),
        (vec![Event::Scale(7), Event::Deploy(5), Event::Restart], 5),
        (vec![Event::Fails(true), Event::Restart, Event::Fails(false)], 4),
        (vec![Event::Update(true), Event::Restart, Event::Update(false)], 4),
    ] {
        for (level, zero_after) in [(0.5, None), (9.0, None), (9.0, Some(Duration::from_secs(600)))] {
            let load = match level {
                0.5 => Load::Steps(&[(0.0, 0.5), (90.0, 0.0)]),
                _ => Load::Steps(&[(0.0, 9.0), (90.0, 0.0)]),
            };
            let bounds = Bounds { zero_after, ..BOUNDS };
            let at = |(place, event): (usize, &Event)| (last - 10 + 3 * place as u64, *event);
            let events: Vec<_> = events.iter().enumerate().map(at).collect();
            let scene = Scene {
                bounds,
                has_min: false,
                wanted: 4,
                events,
                ..Scene::new("floor", load, 90 + SETTLES)
            };
            let rows = scene.play();
            assert_eq!(rows.last().map(|row| row.wanted), Some(want), "{scene:?}");
            let is_kept = |(row, replicas): (&Row, u32)| replicas >= row.min;
            assert!(asks(&rows).all(is_kept), "below what somebody asked for: {scene:?}");
        }
    }
}

/// A rollback takes back the last write only: the number and the note that were written together.
#[test]
fn a_rollback_brings_a_number_back_with_its_note() {
    let load = Load::Steps(&[(0.0, 9.0), (90.0, 0.0)]);
    for (events, want) in [
        (vec![(60, Event::Rollback)], 4),
        (vec![(60, Event::Scale(12)), (63, Event::Rollback)], 4),
        (vec![(60, Event::Deploy(12)), (63, Event::Rollback)], 4),
        (vec![(60, Event::Scale(12)), (63, Event::Deploy(14)), (66, Event::Rollback)], 12),
    ] {
        let scene = Scene { has_min: false, wanted: 4, events, ..Scene::new("back", load, 90 + SETTLES) };
        assert_eq!(scene.play().last().map(|row| row.wanted), Some(want), "{scene:?}");
    }
}

/// From no replica the first call brings back what was there before the gateway took it away.
#[test]
fn to_zero_and_back_keeps_what_somebody_asked_for() {
    let bounds = Bounds { zero_after: Some(Duration::from_secs(30)), ..BOUNDS };
    let load = Load::Steps(&[(0.0, 0.5), (20.0, 0.0), (120.0, 0.5)]);
    let scene = Scene { bounds, has_min: false, wanted: 3, ..Scene::new("zero", load, 240) };
    let wanted: Vec<u32> = scene.play().iter().map(|row| row.wanted).collect();
    assert!(wanted.contains(&0), "{scene:?}");
    assert_eq!(wanted.last(), Some(&3), "{scene:?}");
}
