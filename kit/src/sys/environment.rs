//! The environment of a child, as a value.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// The environment of a child: `NAME=value` entries in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    bytes: Vec<u8>,
    starts: Vec<u32>,
}

impl Environment {
    /// An environment of `variables`, such as [`crate::settings::inherited`].
    #[must_use]
    pub fn new(variables: &[(OsString, OsString)]) -> Environment {
        let mut environment = Environment::default();
        for (name, value) in variables {
            environment.set(name.as_bytes(), &[value.as_bytes()]);
        }
        environment
    }

    /// Sets a variable to `parts`, joined by nothing; an earlier value is replaced. NUL bytes are dropped,
    /// and so is a variable that could not be read back: one without a name or with `=` in it.
    pub fn set(&mut self, name: &[u8], parts: &[&[u8]]) {
        if name.is_empty() || name.iter().any(|byte| matches!(byte, b'=' | 0)) {
            return;
        }
        let start = self.bytes.len() as u32;
        match (0..self.starts.len()).find(|place| self.is_named(*place, name)) {
            Some(place) => self.starts[place] = start,
            None => self.starts.push(start),
        }
        self.bytes.extend_from_slice(name);
        self.bytes.push(b'=');
        for part in parts {
            self.bytes.extend(part.iter().filter(|byte| **byte != 0));
        }
        self.bytes.push(0);
    }

    /// Takes a variable away.
    pub fn remove(&mut self, name: &[u8]) {
        let bytes = &self.bytes;
        self.starts.retain(|start| !is_entry(&bytes[*start as usize..], name));
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let place = (0..self.starts.len()).find(|place| self.is_named(*place, name))?;
        let entry = &self.bytes[self.starts[place] as usize + name.len() + 1..];
        entry.split(|byte| *byte == 0).next()
    }

    fn is_named(&self, place: usize, name: &[u8]) -> bool {
        is_entry(&self.bytes[self.starts[place] as usize..], name)
    }

    /// The array that execve(2) takes: a pointer to each entry, then a null pointer. It is valid as long as
    /// `self` is not changed.
    pub(super) fn pointers(&self) -> Vec<*const libc::c_char> {
        let start = |start: &u32| self.bytes[*start as usize..].as_ptr().cast();
        self.starts.iter().map(start).chain([std::ptr::null()]).collect()
    }
}

fn is_entry(entry: &[u8], name: &[u8]) -> bool {
    entry.starts_with(name) && entry.get(name.len()) == Some(&b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_has_each_name_once() {
        let mut environment = Environment::default();
        environment.set(b"A", &[b"1"]);
        environment.set(b"AB", &[b"2"]);
        environment.set(b"A", &[b"3", b", ", b"4\0"]);
        for refused in [&b""[..], b"a=b", b"a\0"] {
            environment.set(refused, &[b"x"]);
        }
        assert_eq!(environment.get(b"A"), Some(&b"3, 4"[..]));
        assert_eq!(environment.pointers().len(), 3);
        environment.remove(b"A");
        assert_eq!((environment.get(b"A"), environment.get(b"AB")), (None, Some(&b"2"[..])));
    }
}
