//! The scenes that are kept: a trace of each beside this code, a plot of each in the documents.
//! `UPDATE_GOLDEN=1` writes them anew; the difference is what a change of the rules means.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::load::Load;
use super::plot;
use super::{BOUNDS, Event, Row, Scene};
use crate::scaler::decide::Bounds;

const ENV_UPDATE: &str = "UPDATE_GOLDEN";

/// Between two lines of a trace in which nothing but the load changes.
const QUIET: Duration = Duration::from_secs(10);

/// The largest plot.
const MAX_PLOT_BYTES: usize = 20_000;

fn loads() -> Vec<Scene> {
    vec![
        Scene {
            title: "A step from half a replica's load to five, and back",
            ..Scene::new("step", Load::Steps(&[(0.0, 0.5), (20.0, 5.0), (120.0, 0.5)]), 300)
        },
        Scene {
            title: "A slow rise to twelve replicas' load, and a slow fall",
            ..Scene::new("ramp", Load::Lines(&[(10.0, 0.5), (130.0, 12.0), (250.0, 0.5)]), 380)
        },
        Scene { title: "A tide of four minutes", ..Scene::new("sine", Load::Sine(0.5, 9.5, 240.0), 480) },
        Scene {
            title: "On and off, each for 20 s",
            ..Scene::new("square", Load::Square(0.5, 6.0, 40.0), 240)
        },
        Scene {
            title: "Bursts of one to three seconds",
            ..Scene::new("bursts", Load::Bursts(0.7, 6.0, 25), 300)
        },
        Scene {
            title: "One spike of two seconds",
            ..Scene::new("spike", Load::Steps(&[(0.0, 0.5), (20.0, 15.0), (22.0, 0.5)]), 200)
        },
        Scene {
            title: "Replicas that start in 20 s and let calls wait, under five replicas' load",
            start: Duration::from_secs(20),
            slots: Some(10),
            ..Scene::new("slow-start", Load::Steps(&[(0.0, 0.5), (20.0, 5.0)]), 240)
        },
    ]
}

fn incidents() -> Vec<Scene> {
    let zero = Bounds { zero_after: Some(Duration::from_secs(60)), ..BOUNDS };
    vec![
        Scene {
            title: "From no replica: what waited is not counted",
            wanted: 0,
            start: Duration::from_secs(5),
            ..Scene::new("from-zero", Load::Steps(&[(20.0, 3.0)]), 120)
        },
        Scene {
            title: "To no replica, 60 s after the last call",
            bounds: zero,
            ..Scene::new("to-zero", Load::Steps(&[(0.0, 3.0), (60.0, 0.0), (280.0, 0.5)]), 320)
        },
        Scene {
            title: "A deployment resets five replicas to one, under five replicas' load",
            wanted: 5,
            events: vec![(60, Event::Scale(1))],
            ..Scene::new("deploy", Load::Constant(5.0), 120)
        },
        Scene {
            title: "Somebody asks for three, and then the load for six",
            has_min: false,
            events: vec![(20, Event::Scale(3))],
            ..Scene::new("by-hand", Load::Steps(&[(0.0, 0.8), (60.0, 6.0), (120.0, 0.8)]), 240)
        },
        Scene {
            title: "The engine refuses for a minute",
            events: vec![(10, Event::Fails(true)), (70, Event::Fails(false))],
            ..Scene::new("engine-fails", Load::Steps(&[(0.0, 0.5), (20.0, 5.0)]), 120)
        },
        Scene {
            title: "Replicas are replaced for 100 s while the load falls",
            wanted: 6,
            events: vec![(20, Event::Update(true)), (120, Event::Update(false))],
            ..Scene::new("update", Load::Steps(&[(0.0, 5.5), (30.0, 1.5)]), 220)
        },
        Scene {
            title: "An update is paused for 100 s while the load doubles",
            wanted: 3,
            events: vec![(20, Event::Update(true)), (120, Event::Update(false))],
            ..Scene::new("paused", Load::Steps(&[(0.0, 2.5), (30.0, 5.0)]), 180)
        },
        Scene {
            title: "A new gateway takes over",
            wanted: 6,
            events: vec![(60, Event::Restart)],
            ..Scene::new("restart", Load::Steps(&[(0.0, 5.5), (40.0, 1.5)]), 220)
        },
    ]
}

fn scenes() -> impl Iterator<Item = Scene> {
    loads().into_iter().chain(incidents())
}

fn trace(scene: &Scene, rows: &[Row]) -> String {
    let mut text = format!("# {}\n#  time    load in_flight wanted ready asked\n", scene.title);
    let mut last: Option<&Row> = None;
    for row in rows {
        let is_told = last.is_none_or(|last| {
            (row.wanted, row.ready) != (last.wanted, last.ready)
                || row.asked.is_some()
                || row.at >= last.at + QUIET
        });
        if is_told {
            let asked = row.asked.map_or("-".to_owned(), |replicas| replicas.to_string());
            let Row { load, in_flight, wanted, ready, .. } = row;
            let at = row.at.as_secs_f64();
            writeln!(text, "{at:7.2} {load:7.2} {in_flight:9} {wanted:6} {ready:5} {asked:>5}").unwrap();
            last = Some(row);
        }
    }
    text
}

/// The file below the gateway's folder is `text`, or becomes it when that is asked for.
fn keep(path: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    if testkit::variable(ENV_UPDATE).is_some() {
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let kept = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(kept == text, "{} differs, {ENV_UPDATE}=1 writes it anew, from:\n{text}", path.display());
}

#[test]
fn scenes_play_as_they_did() {
    for scene in scenes() {
        keep(&format!("src/scaler/traces/{}.golden", scene.name), &trace(&scene, &scene.play()));
    }
}

#[test]
fn plots_show_what_is_played() {
    for scene in scenes() {
        let plot = plot::svg(&scene, &scene.play());
        assert!(plot.len() < MAX_PLOT_BYTES, "{}: {} bytes", scene.name, plot.len());
        keep(&format!("../docs/scaling/{}.svg", scene.name), &plot);
    }
}

#[test]
fn nothing_is_kept_of_scenes_that_are_gone() {
    for (folder, end) in [("src/scaler/traces", "golden"), ("../docs/scaling", "svg")] {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
        for entry in fs::read_dir(&folder).expect("a folder") {
            let file = entry.expect("an entry").file_name().into_string().expect("a name");
            assert!(scenes().any(|scene| file == format!("{}.{end}", scene.name)), "{file}");
        }
    }
}

#[test]
fn every_scene_is_in_the_document() {
    let document = include_str!("../../../../docs/scaling.md");
    for scene in scenes() {
        let image = format!("![{}](scaling/{}.svg)", scene.title, scene.name);
        assert!(document.contains(&image), "{image} in docs/scaling.md");
    }
}
