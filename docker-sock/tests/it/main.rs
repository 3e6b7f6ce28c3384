//! The client against scripted engines, byte for byte, over UNIX sockets and TCP.

mod answers;
mod daemon;
mod documents;
mod events;
mod faults;
mod fields;
mod limits;
mod negotiation;
mod update;
