//! Output that waits in a file for a client that sends its whole request before it reads. The file has no name: it is
//! gone whatever ends fwatchdog.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use kit::sys::limits;

/// The most that the files of all calls hold together: a small machine has this much on its disk.
const MAX_BYTES: u64 = 1 << 30;

/// The most bytes that are read back at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// The folder of the files, and how much they hold.
pub(crate) struct Spools {
    folder: PathBuf,
    /// The most that they hold together.
    limit: u64,
    used: AtomicU64,
}

impl Spools {
    pub(crate) fn new(folder: PathBuf) -> Spools {
        Spools { folder, limit: MAX_BYTES, used: AtomicU64::new(0) }
    }

    /// Takes so many bytes of the limit; false where they are not left.
    fn reserve(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A new file without a name.
    fn create(&self) -> io::Result<File> {
        let path = self.folder.join(format!(".fwatchdog-{:016x}", limits::random()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }
}

/// The output of one call that is not in memory: first in, first out.
pub(crate) struct Spool<'a> {
    spools: &'a Spools,
    file: Option<File>,
    /// The part of the file that was not read back.
    start: u64,
    end: u64,
    /// The piece that could not be written. It comes behind the file, and no more is taken.
    rest: Vec<u8>,
    /// Why no more is taken.
    refusal: Option<String>,
}

impl<'a> Spool<'a> {
    pub(crate) fn new(spools: &'a Spools) -> Spool<'a> {
        Spool { spools, file: None, start: 0, end: 0, rest: Vec::new(), refusal: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end && self.rest.is_empty()
    }

    /// Why no more is taken, until all was read back.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Takes a piece. A piece that the system does not write is held in memory, and is the last one.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        if self.refusal.is_none() {
            match self.write(piece) {
                Ok(()) => return,
                Err(why) => self.refusal = Some(why),
            }
        }
        self.rest.extend_from_slice(piece);
    }

    fn write(&mut self, piece: &[u8]) -> Result<(), String> {
        let (spools, size) = (self.spools, piece.len() as u64);
        let told = |error: io::Error| format!("{} (TMPDIR): {error}", spools.folder.display());
        if !spools.reserve(size) {
            return Err(format!(
                "files in {} (TMPDIR) hold {} bytes already",
                spools.folder.display(),
                spools.limit
            ));
        }
        let written = self.file().and_then(|(file, end)| file.write_all_at(piece, end));
        match written {
            Ok(()) => self.end += size,
            Err(_) => spools.release(size),
        }
        written.map_err(told)
    }

    /// The file, and where it ends.
    fn file(&mut self) -> io::Result<(&File, u64)> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.spools.create()?,
        };
        Ok((self.file.insert(file), self.end))
    }

    /// Appends the next piece to `output`.
    ///
    /// # Errors
    /// The system's error for the file; the output is lost then.
    pub(crate) fn pull(&mut self, output: &mut Vec<u8>) -> io::Result<()> {
        let size = (self.end - self.start).min(PIECE_BYTES as u64) as usize;
        if let Some(file) = self.file.as_ref().filter(|_| size > 0) {
            let before = output.len();
            output.resize(before + size, 0);
            file.read_exact_at(&mut output[before..], self.start)?;
            self.start += size as u64;
        }
        if self.start == self.end {
            self.rewind();
            output.append(&mut self.rest);
        }
        Ok(())
    }

    /// Empties the file, once all of it was read back.
    fn rewind(&mut self) {
        self.spools.release(self.end);
        (self.start, self.end, self.refusal) = (0, 0, None);
        // The disk gets its blocks back. A file that cannot be cut is closed, to the same effect.
        self.file = self.file.take().filter(|file| file.set_len(0).is_ok());
    }
}

impl Drop for Spool<'_> {
    fn drop(&mut self) {
        self.spools.release(self.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spools(folder: &str, limit: u64) -> Spools {
        Spools { folder: folder.into(), limit, used: AtomicU64::new(0) }
    }

    /// All that the spool holds.
    fn drained(spool: &mut Spool<'_>) -> Vec<u8> {
        let mut output = Vec::new();
        while !spool.is_empty() {
            let before = output.len();
            spool.pull(&mut output).unwrap();
            assert!(output.len() > before && output.len() - before <= PIECE_BYTES + 1000);
        }
        output
    }

    #[test]
    fn output_comes_back_in_its_order_whatever_the_sizes() {
        let bin = testkit::Bin::fwatchdog(); // for its folder
        let spools = spools(bin.dir().to_str().unwrap(), 10 << 20);
        let mut rng = testkit::rng::Rng::from_env();
        let (mut spool, mut want, mut got) = (Spool::new(&spools), Vec::new(), Vec::new());
        for step in 0..2000 {
            match rng.below(3) {
                0 | 1 => {
                    let piece = vec![step as u8; rng.below(5000) + 1];
                    want.extend_from_slice(&piece);
                    spool.push(&piece);
                }
                _ => spool.pull(&mut got).unwrap(),
            }
        }
        got.extend(drained(&mut spool));
        assert!(got == want && spool.is_empty());
        assert_eq!(spools.used.load(Ordering::Relaxed), 0);
        assert_eq!(std::fs::read_dir(bin.dir()).unwrap().count(), 0, "it has no name");
    }

    #[test]
    fn the_bound_is_one_for_all_calls_and_given_back() {
        let bin = testkit::Bin::fwatchdog(); // for its folder
        let spools = spools(bin.dir().to_str().unwrap(), 3000);
        let (mut first, mut second) = (Spool::new(&spools), Spool::new(&spools));
        first.push(&[1; 1000]);
        second.push(&[2; 2000]);
        assert_eq!((first.refusal(), second.refusal()), (None, None), "at the bound");
        second.push(&[3; 1]);
        assert!(second.refusal().unwrap().contains("3000 bytes"), "{:?}", second.refusal());
        assert_eq!(drained(&mut second), [&[2; 2000][..], &[3; 1]].concat(), "what was refused is not lost");
        assert_eq!(second.refusal(), None, "there is room again");
        drop(first);
        second.push(&[4; 3000]);
        assert_eq!(second.refusal(), None);
        drop(second);
        assert_eq!(spools.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn without_a_folder_or_with_a_full_disk_one_piece_is_held_and_the_reason_told() {
        let spools = spools("/no/such/folder", 1 << 20);
        let full = || OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        for (file, why) in [(None, "/no/such/folder (TMPDIR): No such file"), (Some(full()), "No space left")]
        {
            let mut spool = Spool::new(&spools);
            spool.file = file;
            spool.push(b"piece");
            assert!(spool.refusal().is_some_and(|refusal| refusal.contains(why)), "{:?}", spool.refusal());
            assert_eq!(spools.used.load(Ordering::Relaxed), 0);
            let mut output = b"first ".to_vec();
            spool.pull(&mut output).unwrap();
            assert!(output == b"first piece" && spool.is_empty());
        }
    }
}
