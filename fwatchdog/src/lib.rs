//! fwatchdog turns any process into an HTTP function: the body of a request goes to STDIN, STDOUT becomes the body of
//! the answer, and each request has a process of its own.
//!
//! Public is what the program and the fuzz targets need.
#![forbid(unsafe_code)]

pub mod app;
mod call;
pub mod cgi;
mod command_line;
pub mod config;
mod function;
mod lock_file;
mod metrics;
mod process;
mod refusal_text;
mod resident;
mod service;
mod slots;
mod spool;
