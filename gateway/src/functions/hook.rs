//! A callback that is set after the parts that call it were built.

use std::sync::OnceLock;

/// A callback; calls before it is set do nothing.
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
