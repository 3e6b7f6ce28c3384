//! The reader of a program's log, which may stop reading: a pipe that fills up.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::eventually;

/// `O_NONBLOCK`.
const O_NONBLOCK: i32 = 0o4000;

/// What fills the pipe; the reader leaves it out.
const FILLING: u8 = 0;

/// A pipe that is read only when the test asks for it.
pub struct Reader {
    writer: PipeWriter,
    /// The same ends once more. They do not wait, and the ends that programs get still do.
    filling: File,
    reading: File,
    _reader: PipeReader,
    text: Mutex<String>,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader::new()
    }
}

impl Reader {
    /// An empty pipe.
    ///
    /// # Panics
    /// When there is none to be had.
    #[must_use]
    pub fn new() -> Reader {
        let (reader, writer) = io::pipe().expect("a pipe");
        let again = |fd: i32, options: &mut std::fs::OpenOptions| {
            let options = options.custom_flags(O_NONBLOCK);
            options.open(format!("/proc/self/fd/{fd}")).expect("the pipe once more")
        };
        let filling = again(writer.as_raw_fd(), File::options().write(true));
        let reading = again(reader.as_raw_fd(), File::options().read(true));
        Reader { writer, filling, reading, _reader: reader, text: Mutex::default() }
    }

    /// The end that a program writes to.
    ///
    /// # Panics
    /// When descriptors have run out.
    #[must_use]
    pub fn stream(&self) -> Stdio {
        self.writer.try_clone().expect("a copy of the end").into()
    }

    /// Fills the pipe, so that the next write to it would wait.
    ///
    /// # Panics
    /// When the pipe is broken.
    pub fn fill(&self) {
        for size in [4096, 1] {
            let full = loop {
                if let Err(error) = (&self.filling).write_all(&vec![FILLING; size]) {
                    break error;
                }
            };
            assert_eq!(full.kind(), io::ErrorKind::WouldBlock, "{full}");
        }
    }

    /// All that was written so far.
    ///
    /// # Panics
    /// When the pipe is broken.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.lock();
        let mut room = [0; 64 * 1024];
        loop {
            match (&self.reading).read(&mut room) {
                Ok(count) => {
                    let written = room[..count].iter().copied().filter(|byte| *byte != FILLING).collect();
                    text.push_str(&String::from_utf8(written).expect("text"));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return text.clone(),
                Err(error) => panic!("reading the log: {error}"),
            }
        }
    }

    /// Reads on until a whole line holds `part`, and returns the line.
    ///
    /// # Panics
    /// When `timeout` passes first, with what was read.
    #[track_caller]
    pub fn wait_line(&self, part: &str, timeout: Duration) -> String {
        eventually(timeout, || {
            let text = self.text();
            let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            let line = whole.lines().find(|line| line.contains(part));
            line.map(str::to_owned).ok_or_else(|| format!("no line with `{part}` in\n{text}"))
        })
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
