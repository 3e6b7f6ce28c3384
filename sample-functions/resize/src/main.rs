//! Makes a PNG narrower: the image on STDIN, the query's `width` at most, the smaller image on STDOUT.
//!
//! Rows go through one by one, so that memory does not grow with the image, unless it is interlaced. Nothing is
//! written before the new image is complete; where there is none, one line on STDOUT and STDERR says why, and
//! the exit code is 1.
#![forbid(unsafe_code)]

mod image;
mod input;
mod scale;
mod width;

use std::io::{self, Write};
use std::process::ExitCode;

use image::Source;
use input::Input;
use scale::Scaler;

/// The query of the request; fwatchdog sets it.
const ENV_QUERY: &str = "Http_Query";

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
    let mut input = Input::new(Box::new(io::stdin().lock()));
    let mut source = Source::open(&mut input)?;
    let mut scaler = Scaler::new(source.shape(), width);
    let png = image::encode(scaler.shape(), |rows| {
        while let Some(old) = source.next_row()? {
            if let Some(new) = scaler.push(old) {
                image::put(rows, new)?;
            }
        }
        Ok(())
    })?;
    input.drain()?;
    Ok(png)
}

#[allow(clippy::disallowed_methods)] // this is the one place
fn query() -> String {
    std::env::var_os(ENV_QUERY).unwrap_or_default().to_string_lossy().into_owned()
}

/// Nobody may be left to read STDERR; the exit code says it all the same.
fn log(line: &str) {
    let _ = writeln!(io::stderr(), "resize: {line}");
}
