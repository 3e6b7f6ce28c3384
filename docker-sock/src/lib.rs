//! The Docker Engine API over its socket, as far as functions on a Swarm need it: what runs where, what
//! happens, and how many replicas a service has.
//!
//! Works from Engine 1.13 (API 1.24) on; the version is agreed on with the first call and again after the
//! engine was replaced. Every call has a deadline, every answer a bound. A spec that is sent back is the
//! document that was read, edited.
#![forbid(unsafe_code)]

mod engine;
mod error;
mod events;
mod host;
mod items;
mod json;
mod own;
mod tape;
mod types;
mod version;

pub use engine::{Engine, MAX_ANSWER_BYTES, Tasks};
pub use error::Error;
pub use events::{EventStream, MAX_EVENT_BYTES};
pub use host::{Access, Host};
pub use items::MAX_ITEM_BYTES;
pub use own::{container_id, own_container_id};
pub use types::{Address, Container, Event, Info, Mode, Network, Service, Task, is_update_over};
pub use version::Version;
