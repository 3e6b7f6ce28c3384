//! The environment of a child, as a value.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// The environment of a child: `NAME=value` entries in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Where the bytes of this copy begin, behind those that it was copied from.
    own: usize,
}

/// Where an entry begins, and how long its name is: names of other lengths are told apart without a look at them.
#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    name: u32,
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

    /// Becomes a copy of `base`, with room for `variables` more of `bytes` together. Takes memory only where its own is
    /// not enough.
    pub fn copy(&mut self, base: &Environment, variables: usize, bytes: usize) {
        self.bytes.clear();
        self.bytes.reserve(base.bytes.len() + bytes);
        self.bytes.extend_from_slice(&base.bytes);
        self.entries.clear();
        self.entries.reserve(base.entries.len() + variables);
        self.entries.extend_from_slice(&base.entries);
        self.own = base.bytes.len();
    }

    /// The memory that it has, in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Sets a variable to `parts`, joined by nothing; an earlier value is replaced. NUL bytes are dropped,
    /// and so is a variable that could not be read back: one without a name or with `=` in it.
    pub fn set(&mut self, name: &[u8], parts: &[&[u8]]) {
        let place = self.place(name);
        self.write(place, name, parts);
    }

    /// Sets a variable, or adds `separator` and `value` to one that was set in this copy already.
    pub fn add(&mut self, name: &[u8], separator: &[u8], value: &[u8]) {
        let place = self.place(name);
        let Some(own) = place.filter(|place| self.entries[*place].start as usize >= self.own) else {
            return self.write(place, name, &[value]);
        };
        let (start, end) = (self.bytes.len(), self.end(own));
        self.bytes.extend_from_within(self.entries[own].start as usize..end);
        self.entries[own].start = start as u32;
        self.write_value(&[separator, value]);
    }

    fn write(&mut self, place: Option<usize>, name: &[u8], parts: &[&[u8]]) {
        if name.is_empty() || name.iter().any(|byte| matches!(byte, b'=' | 0)) {
            return;
        }
        let entry = Entry { start: self.bytes.len() as u32, name: name.len() as u32 };
        match place {
            Some(place) => self.entries[place] = entry,
            None => self.entries.push(entry),
        }
        self.bytes.extend_from_slice(name);
        self.bytes.push(b'=');
        self.write_value(parts);
    }

    /// Writes a value, or what follows of one, and its NUL.
    fn write_value(&mut self, parts: &[&[u8]]) {
        for part in parts {
            match part.contains(&0) {
                true => self.bytes.extend(part.iter().filter(|byte| **byte != 0)),
                false => self.bytes.extend_from_slice(part),
            }
        }
        self.bytes.push(0);
    }

    /// Takes a variable away.
    pub fn remove(&mut self, name: &[u8]) {
        if let Some(place) = self.place(name) {
            self.entries.remove(place);
        }
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.place(name).map(|place| self.value(place))
    }

    fn place(&self, name: &[u8]) -> Option<usize> {
        for (place, entry) in self.entries.iter().enumerate() {
            if entry.name as usize == name.len() && self.bytes[entry.start as usize..].starts_with(name) {
                return Some(place);
            }
        }
        None
    }

    fn value(&self, place: usize) -> &[u8] {
        let Entry { start, name } = self.entries[place];
        &self.bytes[start as usize + name as usize + 1..self.end(place)]
    }

    /// Where the NUL of an entry is.
    fn end(&self, place: usize) -> usize {
        let start = self.entries[place].start as usize;
        let size = self.bytes[start..].iter().position(|byte| *byte == 0);
        start + size.unwrap_or_default() // each entry has one
    }

    /// The number of variables.
    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Appends a pointer to each entry, then a null pointer, as execve(2) takes them. They are valid as long as `self`
    /// is not changed.
    pub(super) fn write_pointers(&self, pointers: &mut Vec<*const libc::c_char>) {
        pointers.extend(self.entries.iter().map(|entry| self.bytes[entry.start as usize..].as_ptr().cast()));
        pointers.push(std::ptr::null());
    }
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
        assert_eq!(environment.count(), 2);
        environment.remove(b"A");
        assert_eq!((environment.get(b"A"), environment.get(b"AB")), (None, Some(&b"2"[..])));
    }

    #[test]
    fn a_copy_adds_to_its_own_values_and_replaces_others() {
        let mut environment = Environment::default();
        environment.set(b"A", &[b"stale"]);
        environment.set(b"C", &[b"3"]);
        let base = environment;
        let mut environment = Environment::default();
        environment.copy(&base, 1, 4);
        for (name, value) in [(b"A", &b"1"[..]), (b"B", b"2"), (b"A", b"\x004"), (b"A", b"5")] {
            environment.add(name, b", ", value);
        }
        let values = [b"A", b"B", b"C"].map(|name| environment.get(name).unwrap());
        assert_eq!(values, [&b"1, 4, 5"[..], b"2", b"3"]);
        assert_eq!(environment.count(), 3);
    }
}
