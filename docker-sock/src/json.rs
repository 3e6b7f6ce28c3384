//! Fields of documents by their path (RFC 6901), with errors that name it.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use crate::Error;
use crate::tape::{Node, Tape, escaped};

/// How deep a document may be nested, as with `serde_json`; the engine's own are nested ten deep.
pub(crate) const MAX_DEPTH: usize = 128;

/// A document, or a part of one, and the call that it answers.
#[derive(Clone, Copy)]
pub(crate) struct Document<'a> {
    pub(crate) action: &'a str,
    text: &'a str,
    nodes: &'a [Node],
    /// The part's index among the nodes.
    own: usize,
}

impl<'a> Document<'a> {
    /// Reads a text.
    ///
    /// # Errors
    /// [`Error::Json`] when it is not JSON.
    pub(crate) fn read(action: &'a str, text: &'a [u8], tape: &'a mut Tape) -> Result<Document<'a>, Error> {
        let not_json = || Error::Json { action: action.to_owned(), reason: reason(text) };
        let text = std::str::from_utf8(text).map_err(|_| not_json())?;
        let nodes = tape.read(text).map_err(|_| not_json())?;
        Ok(Document { action, text, nodes, own: 0 })
    }

    fn node(self) -> Node {
        self.nodes[self.own]
    }

    /// As it is written in the text.
    fn raw(self) -> &'a str {
        &self.text[self.node().start as usize..self.node().end as usize]
    }

    /// What is at `path`; absent and null are the same to the engine.
    pub(crate) fn at(self, path: &str) -> Option<Document<'a>> {
        let found = path.split('/').skip(1).try_fold(self, |part, name| part.member(name));
        found.filter(|found| found.raw() != "null")
    }

    /// The last member of this name: of a repeated one the last counts.
    fn member(self, name: &str) -> Option<Document<'a>> {
        let named = self.members()?.filter(|(key, _)| key.is_string(name));
        named.last().map(|(_, value)| value)
    }

    /// The names and values of a map.
    fn members(self) -> Option<impl Iterator<Item = (Document<'a>, Document<'a>)>> {
        let mut key = self.own + 1;
        self.raw().starts_with('{').then_some(())?;
        Some(std::iter::from_fn(move || {
            let value = Document { own: key + 1, ..self };
            let name = Document { own: key, ..self };
            (key < self.node().next as usize).then(|| key = value.node().next as usize)?;
            Some((name, value))
        }))
    }

    /// The text of a string.
    fn string(self) -> Option<Cow<'a, str>> {
        let text = self.raw().strip_prefix('"')?.strip_suffix('"')?;
        let Some(mut escape) = text.find('\\') else { return Some(Cow::Borrowed(text)) };
        let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
        loop {
            let (character, length) = escaped(&rest.as_bytes()[escape..])?;
            plain.push_str(&rest[..escape]);
            plain.push(character);
            rest = &rest[escape + length..];
            let Some(next) = rest.find('\\') else { break };
            escape = next;
        }
        Some(Cow::Owned(plain + rest))
    }

    fn is_string(self, text: &str) -> bool {
        self.string().is_some_and(|string| string == text)
    }

    /// A text; absent is empty, as the engine leaves empty fields out.
    pub(crate) fn text(self, path: &str) -> Result<String, Error> {
        match self.at(path) {
            None => Ok(String::new()),
            Some(value) => value.string().map(Cow::into_owned).ok_or_else(|| self.wrong(path, "a string")),
        }
    }

    /// A text that must be there.
    pub(crate) fn needed_text(self, path: &str) -> Result<String, Error> {
        let text = self.text(path)?;
        if text.is_empty() { Err(self.wrong(path, "a string")) } else { Ok(text) }
    }

    /// A number; absent is `None`.
    pub(crate) fn number(self, path: &str) -> Result<Option<u64>, Error> {
        match self.at(path) {
            None => Ok(None),
            Some(value) => value.raw().parse().map(Some).map_err(|_| self.wrong(path, "a number")),
        }
    }

    /// A yes or no; absent is no.
    pub(crate) fn flag(self, path: &str) -> Result<bool, Error> {
        match self.at(path) {
            None => Ok(false),
            Some(value) => value.raw().parse().map_err(|_| self.wrong(path, "true or false")),
        }
    }

    /// What `read` makes of each item of a list; absent is empty. Errors name the item.
    pub(crate) fn each<T>(
        self,
        path: &str,
        mut read: impl FnMut(Document<'a>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let Some(list) = self.at(path) else { return Ok(Vec::new()) };
        if !list.raw().starts_with('[') {
            return Err(self.wrong(path, "a list"));
        }
        let (mut items, mut own) = (Vec::new(), list.own + 1);
        while own < list.node().next as usize {
            let item = Document { own, ..self };
            let within = |error: Error| error.within(&format!("{path}/{}", items.len()));
            items.push(read(item).map_err(within)?);
            own = item.node().next as usize;
        }
        Ok(items)
    }

    /// What `read` makes of each value of a map; absent is empty. Errors name the key.
    pub(crate) fn each_value<T>(
        self,
        path: &str,
        mut read: impl FnMut(Document<'a>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let Some(map) = self.at(path) else { return Ok(Vec::new()) };
        let members = map.members().ok_or_else(|| self.wrong(path, "a map"))?;
        let read = |(key, value): (Document<'a>, Document<'a>)| {
            read(value).map_err(|error| {
                let key = key.string().unwrap_or_default().replace('~', "~0").replace('/', "~1"); // RFC 6901 section 3
                error.within(&format!("{path}/{key}"))
            })
        };
        members.map(read).collect()
    }

    /// A map of texts; absent is empty.
    pub(crate) fn map(self, path: &str) -> Result<HashMap<String, String>, Error> {
        let Some(map) = self.at(path) else { return Ok(HashMap::new()) };
        let members = map.members().ok_or_else(|| self.wrong(path, "a map"))?;
        let pair = |(name, value): (Document<'_>, Document<'_>)| {
            Some((name.string()?.into_owned(), value.string()?.into_owned()))
        };
        members.map(|member| pair(member).ok_or_else(|| self.wrong(path, "a map of strings"))).collect()
    }

    pub(crate) fn wrong(self, path: &str, expected: &'static str) -> Error {
        Error::Field { action: self.action.to_owned(), field: path.to_owned(), expected }
    }
}

/// Why a text is not JSON.
pub(crate) fn reason(text: &[u8]) -> String {
    let error = serde_json::from_slice::<Value>(text).err();
    error.map_or_else(|| "a number is out of range".to_owned(), |error| error.to_string())
}
