//! The replicas of a function without load and without a label for it: as many as an operator asked for last.
//!
//! The gateway sets the number of replicas too. With each change it writes a note: the number that the operator asked
//! for, and the number that the gateway set. While the service has the number that the gateway set, the note holds. Any
//! other number was set by an operator since. Note and number are written together, so that every gateway reads the
//! same.

use std::fmt;

/// The note that the gateway writes to a label of a service when it sets the number of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// The replicas that an operator asked for.
    pub(crate) asked: u32,
    /// The replicas that the gateway set.
    pub(crate) set: u32,
}

impl Note {
    pub(crate) const EXPECTED: &str = "two integers such as 2/5";

    /// Reads the text that `Display` writes.
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

/// The replicas that an operator asked for last, given a service's note and its number of replicas.
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
    fn a_number_that_the_gateway_did_not_set_is_the_operators() {
        let note = Some(Note { asked: 4, set: 7 });
        for (note, replicas, want) in [(None, 5, 5), (note, 7, 4), (note, 9, 9), (note, 4, 4), (note, 0, 0)] {
            assert_eq!(asked(note, replicas), want, "{note:?} {replicas}");
        }
    }
}
