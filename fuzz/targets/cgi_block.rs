//! See `fuzz::cgi_block`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::cgi_block::check(data));
