//! stub
use crate::labels::Labels;
use std::time::{Duration, Instant};
pub(crate) struct Bounds {
    min: u32,
}
impl From<&Labels> for Bounds {
    fn from(labels: &Labels) -> Bounds {
        Bounds { min: labels.scale_min }
    }
}
pub(crate) struct Signals {
    pub(crate) in_flight: usize,
    pub(crate) calls: u64,
    pub(crate) wanted: u32,
    pub(crate) ready: u32,
    pub(crate) may_shrink: bool,
}
pub(crate) struct Memory {
    asked: Option<Instant>,
}
impl Memory {
    pub(crate) fn new(_: Instant) -> Memory {
        Memory { asked: None }
    }
    pub(crate) fn decide(&mut self, bounds: &Bounds, s: &Signals, now: Instant) -> Option<u32> {
        if s.wanted == 0 && s.in_flight > 0 && self.asked.is_none_or(|at| now - at > Duration::from_secs(2)) {
            self.asked = Some(now);
            return Some(bounds.min.max(1));
        }
        if s.wanted > 0 {
            self.asked = None;
        }
        None
    }
}
