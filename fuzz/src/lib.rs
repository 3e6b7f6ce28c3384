//! What must hold of everything that takes bytes from others, whatever the bytes: a function of the bytes
//! for each such part, which panics where it does not hold. The fuzzer calls them (`make fuzz`), and so do
//! the tests, with the seeds and some thousand changes of them.
//!
//! Where two parts could disagree about where a message ends, the product is compared with a second reader
//! ([`rules`]) that is written from RFC 9112 alone, and slowly.
#![forbid(unsafe_code)]

pub mod alexa;
pub mod cgi_block;
pub mod chunked;
pub mod docker;
mod engine;
pub mod load;
pub mod request_head;
pub mod response_head;
pub mod rules;

/// A part, and what must hold of it.
pub type Target = (&'static str, fn(&[u8]));

/// All parts; each name is also that of its seeds and of its program.
pub const TARGETS: [Target; 7] = [
    ("request_head", request_head::check),
    ("response_head", response_head::check),
    ("chunked", chunked::check),
    ("alexa", alexa::check),
    ("docker", docker::check),
    ("cgi_block", cgi_block::check),
    ("load", load::check),
];
