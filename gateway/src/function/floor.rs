//! How many replicas a function has without load, where no label says so: as many as somebody asked for last.
//!
//! The gateway writes the number of replicas too. So with each write it notes what somebody had asked for, and what it
//! set instead. As long as the number is still the one that the gateway set, the note is true; any other number is what
//! somebody asks for now. Of the note and the number, which are written at once, every gateway reads the same.

use std::fmt;

/// The note that the gateway keeps in a label of a service when it writes the number of its replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// The replicas that somebody asked for.
    pub(crate) asked: u32,
    /// The number of replicas that the gateway has set since.
    pub(crate) set: u32,
}

impl Note {
    pub(crate) const EXPECTED: &str = "two integers such as 2/5";

    /// Reads what [`Note`] writes.
    pub(crate) fn parse(text: &str) -> Option<Note> {
        let (asked, set) = text.split_once('/')?;
        let number = |text: &str| {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit()); // `parse` alone would take `+5`
            text.parse().ok().filter(|_| is_number)
        };
        Some(Note { asked: number(asked)?, set: number(set)? })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.asked, self.set)
    }
}

/// The replicas that somebody asked for last, of a service with this note and so many replicas.
pub(crate) fn asked(note: Option<Note>, replicas: u32) -> u32 {
    note.filter(|note| note.set == replicas).map_or(replicas, |note| note.asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        for note in [Note { asked: 4, set: 7 }, Note { asked: 0, set: u32::MAX }] {
            assert_eq!(Note::parse(&note.to_string()), Some(note));
        }
        for text in ["", "4", "/", "4/", "/4", "4/7/", "+4/7", "4/ 7", "-1/2", "4/4294967296", "a/b"] {
            assert_eq!(Note::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_number_that_the_gateway_did_not_set_is_somebodys() {
        let note = Some(Note { asked: 4, set: 7 });
        for (note, replicas, want) in [(None, 5, 5), (note, 7, 4), (note, 9, 9), (note, 4, 4), (note, 0, 0)] {
            assert_eq!(asked(note, replicas), want, "{note:?} {replicas}");
        }
    }
}
