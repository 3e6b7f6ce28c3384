//! Ctrl-C and SIGTERM: the program ends its children, then itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::flag::{register, register_conditional_shutdown};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// The exit code of a program that was interrupted.
pub const EXIT_CODE: u8 = 130;

static SEEN: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on the first signal sets a flag, and the second one ends the program.
///
/// # Panics
/// When the kernel refuses.
pub fn watch() {
    let flag = SEEN.get_or_init(Arc::default);
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        let set = register_conditional_shutdown(signal, i32::from(EXIT_CODE), Arc::clone(flag))
            .and_then(|_| register(signal, Arc::clone(flag)));
        set.unwrap_or_else(|error| panic!("signal {signal}: {error}"));
    }
}

/// Whether a signal came. Long loops check this and stop.
#[must_use]
pub fn seen() -> bool {
    SEEN.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}
