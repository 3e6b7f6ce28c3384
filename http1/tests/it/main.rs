//! Server and client over real sockets, against peers that keep the rules and peers that do not.

mod answers;
mod at_once;
mod client;
mod client_faults;
mod drain;
mod heads;
mod limits;
mod listeners;
mod load;
mod persistence;
mod refusals;
mod relays;
mod roundtrip;
mod support;
mod surplus;
mod timeouts;
mod waits;
