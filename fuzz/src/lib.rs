//! Properties of every parser of foreign bytes. Each target is a function of the bytes that panics when a property
//! fails. The fuzzer calls the targets (`make fuzz`), and the tests call them with the seeds and some thousand
//! mutations.
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

/// The name of a parser, and the check of its properties.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. The folder of seeds and the program have the same name.
pub const TARGETS: [Target; 7] = [
    ("request_head", request_head::check),
    ("response_head", response_head::check),
    ("chunked", chunked::check),
    ("alexa", alexa::check),
    ("docker", docker::check),
    ("cgi_block", cgi_block::check),
    ("load", load::check),
];
