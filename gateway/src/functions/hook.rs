//! Something to be called, once it is known.

use std::sync::OnceLock;

/// Something to be called, once it is known.
#[derive(Default)]
pub(crate) struct Hook(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl Hook {
    pub(super) fn set(&self, hook: impl Fn() + Send + Sync + 'static) {
        assert!(self.0.set(Box::new(hook)).is_ok(), "set once");
    }

    pub(crate) fn call(&self) {
        if let Some(hook) = self.0.get() {
            hook();
        }
    }
}
