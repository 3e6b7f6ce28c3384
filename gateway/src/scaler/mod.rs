//! How many replicas each function has: decided from the calls that the gateway sees, carried out by the provider.

mod asker;
mod decide;
mod peers;
mod run;
#[cfg(test)]
mod simulate;

pub(crate) use asker::Asker;
pub(crate) use run::Scaler;
