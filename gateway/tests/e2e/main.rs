//! End to end: the images of the gateway and of functions on a real Swarm, called from outside of it.
//!
//! Each test has services of its own and removes them; they run one at a time, since some stop the engine.

mod calls;
mod engine;
mod image;
mod kills;
mod lab;
mod load;
