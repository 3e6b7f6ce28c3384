//! A scene as a picture: its load, what is in flight, the replicas wanted and ready, all in replicas.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Row, Scene};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 280.0;
/// The corners of the field between the axes.
const LEFT: f64 = 40.0;
const TOP: f64 = 52.0;
const RIGHT: f64 = WIDTH - 14.0;
const BOTTOM: f64 = HEIGHT - 34.0;

/// The most points of a curve.
const POINTS: u64 = 240;

const LOAD: &str = "#d9d9d9";
const IN_FLIGHT: &str = "#2b6cb0";
const WANTED: &str = "#c2410c";
const READY: &str = "#15803d";

struct Scale {
    seconds: f64,
    replicas: f64,
}

impl Scale {
    fn x(&self, at: Duration) -> f64 {
        LEFT + at.as_secs_f64() / self.seconds * (RIGHT - LEFT)
    }

    fn y(&self, replicas: f64) -> f64 {
        BOTTOM - replicas.min(self.replicas) / self.replicas * (BOTTOM - TOP)
    }
}

/// The first round distance that gives at most `most` parts.
fn tick(whole: f64, most: f64) -> f64 {
    let round = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0];
    round.into_iter().find(|tick| whole / tick <= most).unwrap_or(300.0)
}

pub(super) fn svg(scene: &Scene, rows: &[Row]) -> String {
    let highest = rows.iter().fold(1.0, |high: f64, row| high.max(row.load).max(f64::from(row.wanted)));
    let scale = Scale { seconds: scene.lasts as f64, replicas: (highest * 1.15).ceil() };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\" fill=\"#333\">\n\
         <title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-size=\"13\">{}</text>\n",
        scene.title, scene.title
    );
    legend(&mut text);
    axes(&mut text, &scale);
    curves(&mut text, &scale, scene, rows);
    text.push_str("</svg>\n");
    text
}

fn legend(text: &mut String) {
    let entries = [
        (LOAD, "load", 9, ""),
        (IN_FLIGHT, "in flight / target", 1, ""),
        (WANTED, "wanted", 2, ""),
        (READY, "ready", 2, " stroke-dasharray=\"5 3\""),
    ];
    let mut x = LEFT;
    for (color, name, width, dashes) in entries {
        let (end, words) = (x + 22.0, x + 28.0);
        writeln!(
            text,
            "<path d=\"M{x} 35H{end}\" stroke=\"{color}\" stroke-width=\"{width}\"{dashes}/>\
             <text x=\"{words}\" y=\"39\">{name}</text>"
        )
        .unwrap();
        x = words + 7.0 * name.len() as f64 + 14.0;
    }
}

fn axes(text: &mut String, scale: &Scale) {
    let step = tick(scale.replicas, 6.0);
    let mut level = 0.0;
    while level <= scale.replicas {
        let (y, words) = (scale.y(level), LEFT - 6.0);
        writeln!(
            text,
            "<path d=\"M{LEFT} {y:.1}H{RIGHT}\" stroke=\"#eee\"/>\
             <text x=\"{words}\" y=\"{:.1}\" text-anchor=\"end\">{level}</text>",
            y + 4.0
        )
        .unwrap();
        level += step;
    }
    let step = tick(scale.seconds, 12.0);
    let mut second = 0.0;
    while second <= scale.seconds {
        let x = scale.x(Duration::from_secs_f64(second));
        let (end, words) = (BOTTOM + 4.0, BOTTOM + 16.0);
        writeln!(
            text,
            "<path d=\"M{x:.1} {BOTTOM}V{end}\" stroke=\"#333\"/>\
             <text x=\"{x:.1}\" y=\"{words}\" text-anchor=\"middle\">{second}</text>"
        )
        .unwrap();
        second += step;
    }
    writeln!(
        text,
        "<path d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\" fill=\"none\" stroke=\"#333\"/>\n\
         <text x=\"{RIGHT}\" y=\"{}\" text-anchor=\"end\">seconds</text>\
         <text x=\"{RIGHT}\" y=\"39\" text-anchor=\"end\">replicas</text>",
        HEIGHT - 5.0
    )
    .unwrap();
}

fn curves(text: &mut String, scale: &Scale, scene: &Scene, rows: &[Row]) {
    let target = f64::from(scene.bounds.target);
    let load = curve(scale, scene.lasts, rows, |row| row.load);
    writeln!(text, "<path d=\"M{LEFT} {BOTTOM}L{load}V{BOTTOM}Z\" fill=\"{LOAD}\"/>").unwrap();
    let in_flight = curve(scale, scene.lasts, rows, |row| f64::from(row.in_flight) / target);
    writeln!(text, "<path d=\"M{in_flight}\" fill=\"none\" stroke=\"{IN_FLIGHT}\"/>").unwrap();
    let wanted = steps(scale, rows, |row| row.wanted);
    writeln!(text, "<path d=\"{wanted}\" fill=\"none\" stroke=\"{WANTED}\" stroke-width=\"2\"/>").unwrap();
    let ready = steps(scale, rows, |row| row.ready);
    writeln!(
        text,
        "<path d=\"{ready}\" fill=\"none\" stroke=\"{READY}\" stroke-width=\"2\" stroke-dasharray=\"5 3\"/>"
    )
    .unwrap();
}

/// The highest value in each part of the time, as points of a path.
fn curve(scale: &Scale, lasts: u64, rows: &[Row], value: impl Fn(&Row) -> f64) -> String {
    let part = |row: &Row| row.at.as_millis() as u64 * POINTS / (lasts * 1000 + 1);
    let mut points = String::new();
    for rows in rows.chunk_by(|a, b| part(a) == part(b)) {
        let highest = rows.iter().map(&value).fold(0.0, f64::max);
        write!(points, "{:.1} {:.1} ", scale.x(rows[0].at), scale.y(highest)).unwrap();
    }
    points.trim_end().to_owned()
}

/// A path that is level from each change to the next.
fn steps(scale: &Scale, rows: &[Row], value: impl Fn(&Row) -> u32) -> String {
    let mut path = String::new();
    for rows in rows.chunk_by(|a, b| value(a) == value(b)) {
        let letter = if path.is_empty() { 'M' } else { 'L' };
        let (x, y) = (scale.x(rows[0].at), scale.y(f64::from(value(&rows[0]))));
        if letter == 'L' {
            write!(path, "H{x:.1}V{y:.1}").unwrap();
        } else {
            write!(path, "M{x:.1} {y:.1}").unwrap();
        }
    }
    write!(path, "H{:.1}", scale.x(rows[rows.len() - 1].at)).unwrap();
    path
}
