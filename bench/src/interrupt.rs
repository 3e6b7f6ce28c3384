//! Ctrl-C and SIGTERM: what has been started is ended before the program is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::flag::{register, register_conditional_shutdown};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// The exit code of a program that was interrupted.
pub const EXIT_CODE: u8 = 130;

static SEEN: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on these signals no longer end the program at once; a second one does.
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

/// Whether there was one; all that takes long asks, and stops.
#[must_use]
pub fn seen() -> bool {
    SEEN.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}
