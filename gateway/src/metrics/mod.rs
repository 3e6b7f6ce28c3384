//! What the gateway counts and how it tells Prometheus.

mod histogram;
mod series;
mod text;

pub(crate) use series::{FunctionSeries, InFlight, Rejected, Retry, Waiting};
pub(crate) use text::{CONTENT_TYPE, Snapshot, write};
