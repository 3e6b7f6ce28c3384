//! See `fuzz::docker`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::docker::check(data));
