//! How many replicas each function has: decided from the calls that the gateway sees, carried out by the provider.

mod decide;
mod run;
#[cfg(test)]
mod simulate;

pub(crate) use run::Scaler;
