//! Makes a PNG narrower: the image on STDIN, at most the query's `width`, the smaller image on STDOUT.
//!
//! Rows are processed one by one, so memory does not grow with the image, unless it is interlaced. Output
//! begins when the new image is complete. A failure is one line on STDOUT and STDERR, and exit code 1.
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

/// The query of the request, set by fwatchdog.
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

#[allow(clippy::disallowed_methods)] // the one place
fn query() -> String {
    std::env::var_os(ENV_QUERY).unwrap_or_default().to_string_lossy().into_owned()
}

/// STDERR may have no reader; the exit code tells the failure too.
fn log(line: &str) {
    let _ = writeln!(io::stderr(), "resize: {line}");
}
