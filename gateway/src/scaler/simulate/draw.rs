//! A plain drawing of what came of a scenario.

use std::fmt::Write as _;

use super::scenarios::Scenario;
use super::{Point, Run};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 36.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 28.0;

/// The replicas that the load would need, those that are wanted, and those that can be called.
pub(super) fn svg(scenario: &Scenario, run: &Run) -> String {
    let seconds: Vec<&Point> = run.points.iter().step_by(10).collect();
    let highest = seconds.iter().map(|point| point.wanted).max().unwrap_or(1).max(2);
    let top = f64::from(highest) * 1.25;
    let x = |at: f64| LEFT + at / scenario.seconds * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value.min(top) / top * (HEIGHT - TOP - BOTTOM);
    let load = seconds.iter().map(|point| (point.at, point.in_flight as f64 / scenario.target()));
    let load: String = load.map(|(at, value)| format!("{:.1},{:.1} ", x(at), y(value))).collect();
    let steps = |of: &dyn Fn(&Point) -> u32| {
        let mut path = String::new();
        let mut before = None;
        for point in &run.points {
            let value = of(point);
            let (px, py) = (x(point.at), y(f64::from(value)));
            match before {
                None => _ = write!(path, "M{px:.1} {py:.1}"),
                Some(before) if before != value => _ = write!(path, "H{px:.1}V{py:.1}"),
                _ => continue,
            }
            before = Some(value);
        }
        format!("{path}H{:.1}", x(scenario.seconds))
    };
    let (wanted, ready) = (steps(&|point| point.wanted), steps(&|point| point.ready));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"16\" font-size=\"13\">{}</text>\n",
        scenario.title
    );
    for (place, (color, name)) in
        [("#9aa5b1", "calls in hand / target"), ("#c2410c", "wanted"), ("#1d4ed8", "ready")]
            .iter()
            .enumerate()
    {
        let at = LEFT + [0.0, 150.0, 220.0][place];
        let _ = writeln!(text, "<text x=\"{at}\" y=\"34\" fill=\"{color}\">{name}</text>");
    }
    let pitch = if highest > 8 { 5 } else { 1 };
    for value in (0..=highest).step_by(pitch) {
        let at = y(f64::from(value));
        let _ = writeln!(
            text,
            "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#e5e7eb\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{value}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    for place in 0..=6 {
        let at = scenario.seconds * f64::from(place) / 6.0;
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{at:.0} s</text>",
            x(at),
            HEIGHT - 10.0
        );
    }
    let _ = writeln!(
        text,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#9aa5b1\"/>\n\
         <path d=\"{ready}\" fill=\"none\" stroke=\"#1d4ed8\" stroke-width=\"2\"/>\n\
         <path d=\"{wanted}\" fill=\"none\" stroke=\"#c2410c\" stroke-width=\"2\" stroke-dasharray=\"5 3\"/>\n</svg>",
        load.trim_end()
    );
    text
}
