//! Makes a PNG narrower: the image on STDIN, the query's `width` at most, the smaller image on STDOUT.
//!
//! Nothing is written before the new image is complete; where there is none, one line on STDOUT and STDERR says
//! why, and the exit code is 1.
#![forbid(unsafe_code)]

mod image;
mod scale;
mod width;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use image::Image;

/// The query of the request; fwatchdog sets it.
const ENV_QUERY: &str = "Http_Query";

/// Room for any PNG that may be decoded, unless its compression is of no use.
const MAX_INPUT_BYTES: u64 = 16 * 1024 * 1024;

fn main() -> ExitCode {
    let (answer, code) = match resize() {
        Ok(png) => (png, ExitCode::SUCCESS),
        Err(reason) => {
            log(&reason);
            (format!("{reason}\n").into_bytes(), ExitCode::FAILURE)
        }
    };
    let mut stdout = io::stdout().lock();
    match stdout.write_all(&answer).and_then(|()| stdout.flush()) {
        Ok(()) => code,
        Err(error) => {
            log(&format!("failed to write STDOUT: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn resize() -> Result<Vec<u8>, String> {
    let width = width::from_query(&query())?;
    let mut png = Vec::new();
    let read = io::stdin().lock().take(MAX_INPUT_BYTES + 1).read_to_end(&mut png);
    read.map_err(|error| format!("failed to read STDIN: {error}"))?;
    if png.len() as u64 > MAX_INPUT_BYTES {
        return Err(format!("expected a PNG of at most {MAX_INPUT_BYTES} bytes, got more"));
    }
    let image = Image::decode(&png)?;
    scale::to_width(image, width).encode()
}

#[allow(clippy::disallowed_methods)] // this is the one place
fn query() -> String {
    std::env::var_os(ENV_QUERY).unwrap_or_default().to_string_lossy().into_owned()
}

/// Nobody may be left to read STDERR; the exit code says it all the same.
fn log(line: &str) {
    let _ = writeln!(io::stderr(), "resize: {line}");
}
