//! HTTP/1.1 on sockets: heads, body framing, a bounded server and a pooled client.
//!
//! Both ends are strict (RFC 9112): what is refused, and why, is the list in [`Refusal`]. Heads and
//! framing are values without I/O; connections never block inside, so that one thread can move two
//! bodies at once, and every wait is under a deadline of the caller's.
#![forbid(unsafe_code)]

pub mod body;
pub mod client;
pub mod forward;
pub mod head;
mod name;
mod octets;
pub mod refusal;
pub mod server;
mod span;
mod spare;
mod upload;
mod wire;
pub mod writer;
pub mod written;

pub use body::Length;
pub use client::{ClientConfig, Connection, Endpoint, Error, Phase, Pool, Request, Response};
pub use head::{Headers, RequestHead, ResponseHead, Version};
pub use refusal::Refusal;
pub use server::{Exchange, Server, ServerConfig, Service, Stats, Waker};
pub use wire::{Body, BodyError};
pub use writer::HeadWriter;
