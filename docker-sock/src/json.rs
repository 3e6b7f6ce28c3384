//! Fields of documents by their path (RFC 6901), with errors that name it.

use std::collections::HashMap;

use serde_json::Value;

use crate::Error;

/// A document and the call that it answers.
#[derive(Clone, Copy)]
pub(crate) struct Document<'a> {
    pub(crate) action: &'a str,
    pub(crate) value: &'a Value,
}

impl<'a> Document<'a> {
    /// What is at `path`; absent and null are the same to the engine.
    pub(crate) fn at(self, path: &str) -> Option<&'a Value> {
        self.value.pointer(path).filter(|value| !value.is_null())
    }

    /// A text; absent is empty, as the engine leaves empty fields out.
    pub(crate) fn text(self, path: &str) -> Result<String, Error> {
        match self.at(path) {
            None => Ok(String::new()),
            Some(value) => value.as_str().map(str::to_owned).ok_or_else(|| self.wrong(path, "a string")),
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
            Some(value) => value.as_u64().map(Some).ok_or_else(|| self.wrong(path, "a number")),
        }
    }

    /// A yes or no; absent is no.
    pub(crate) fn flag(self, path: &str) -> Result<bool, Error> {
        match self.at(path) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(path, "true or false")),
        }
    }

    /// What `read` makes of each item of a list; absent is empty. Errors name the item.
    pub(crate) fn each<T>(
        self,
        path: &str,
        mut read: impl FnMut(Document<'a>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let Some(value) = self.at(path) else { return Ok(Vec::new()) };
        let items = value.as_array().ok_or_else(|| self.wrong(path, "a list"))?;
        let mut read = |(place, value)| {
            read(Document { value, ..self }).map_err(|error| error.within(&format!("{path}/{place}")))
        };
        items.iter().enumerate().map(&mut read).collect()
    }

    /// What `read` makes of each value of a map; absent is empty. Errors name the key.
    pub(crate) fn each_value<T>(
        self,
        path: &str,
        mut read: impl FnMut(Document<'a>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let Some(value) = self.at(path) else { return Ok(Vec::new()) };
        let entries = value.as_object().ok_or_else(|| self.wrong(path, "a map"))?;
        let mut read = |(key, value): (&String, &'a Value)| {
            let key = key.replace('~', "~0").replace('/', "~1"); // RFC 6901 section 3
            read(Document { value, ..self }).map_err(|error| error.within(&format!("{path}/{key}")))
        };
        entries.iter().map(&mut read).collect()
    }

    /// A map of texts; absent is empty.
    pub(crate) fn map(self, path: &str) -> Result<HashMap<String, String>, Error> {
        let Some(value) = self.at(path) else { return Ok(HashMap::new()) };
        let entries = value.as_object().ok_or_else(|| self.wrong(path, "a map"))?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let pair = |(name, value): (&String, &Value)| Some((name.clone(), text(value)?));
        entries.iter().map(|entry| pair(entry).ok_or_else(|| self.wrong(path, "a map of strings"))).collect()
    }

    pub(crate) fn wrong(self, path: &str, expected: &'static str) -> Error {
        Error::Field { action: self.action.to_owned(), field: path.to_owned(), expected }
    }
}
