//! The gateway: one address for all functions of a Docker Swarm, or of this machine.
//!
//! The program (`main.rs`) needs [`Config`], [`run`] and [`Error`]; the fuzz targets need [`alexa`] and [`load`].
//! Everything else is private, so that the compiler still finds unused code.
#![forbid(unsafe_code)]

mod access;
mod access_log;
pub mod alexa;
mod app;
mod authority;
mod balance;
mod base64;
mod call;
mod caller;
mod config;
mod control;
mod digest;
mod edge;
mod failure;
mod function;
mod functions;
mod kind;
mod listen;
pub mod load;
mod metrics;
mod network;
mod provider;
mod proxies;
mod route;
mod scaler;
mod secrets;

pub use app::{Error, run};
pub use config::Config;
