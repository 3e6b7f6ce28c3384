//! The items of a JSON list, cut out of an answer as it comes: of a long list one item at a time is held.

/// The longest item. The engine's store takes no larger service (its log of changes has a bound of 1.5 MB).
pub const MAX_ITEM_BYTES: usize = 4 * 1024 * 1024;

/// What is at the place that is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The start of the answer.
    Start,
    /// The first item, or the end of the list.
    FirstItem,
    /// An item, behind a comma.
    NextItem,
    /// The rest of an item.
    Item { depth: usize, in_string: bool, is_escaped: bool },
    /// Behind the list.
    End,
    /// Within something else than a list.
    Other,
}

/// A list that is being read.
#[derive(Debug)]
pub(crate) struct Items {
    place: Place,
    /// The item, or all of an answer that is no list.
    held: Vec<u8>,
}

/// Why the answer is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    NotAList,
    ItemTooLong,
}

/// The end of a list, or another answer, whole.
#[derive(Debug)]
pub(crate) enum End {
    List,
    Other(Vec<u8>),
}

impl Items {
    pub(crate) fn new() -> Items {
        Items { place: Place::Start, held: Vec::new() }
    }

    /// Reads on, and hands over each item that ends in `piece`. Whether an item is JSON is for `each` to see.
    pub(crate) fn feed(&mut self, mut piece: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<(), Flaw> {
        while let Some(first) = piece.first().copied() {
            if let Place::Item { .. } | Place::Other = self.place {
                piece = self.hold(piece, each)?;
                continue;
            }
            if !matches!(first, b' ' | b'\n' | b'\r' | b'\t') {
                self.place = match (self.place, first) {
                    (Place::Start, b'[') => Place::FirstItem,
                    (Place::Start, _) => Place::Other,
                    (Place::FirstItem, b']') => Place::End,
                    (Place::End, _) | (_, b',' | b']' | b'}' | b':') => return Err(Flaw::NotAList),
                    _ => Place::Item { depth: 0, in_string: false, is_escaped: false },
                };
                if let Place::Item { .. } | Place::Other = self.place {
                    continue; // its first byte is a part of it
                }
            }
            piece = &piece[1..];
        }
        Ok(())
    }

    /// Keeps what is of the item; what is left of `piece` behind it.
    fn hold<'a>(&mut self, piece: &'a [u8], each: &mut dyn FnMut(&[u8])) -> Result<&'a [u8], Flaw> {
        let end = self.end_in(piece);
        let (own, rest) = piece.split_at(end.unwrap_or(piece.len()));
        if self.held.len() + own.len() > MAX_ITEM_BYTES {
            return Err(Flaw::ItemTooLong);
        }
        if end.is_some() && self.held.is_empty() {
            each(own);
        } else {
            self.held.extend_from_slice(own);
            if end.is_some() {
                each(&self.held);
                self.held.clear();
            }
        }
        let Some(after) = rest.first() else { return Ok(rest) };
        self.place = if *after == b',' { Place::NextItem } else { Place::End };
        Ok(&rest[1..])
    }

    /// Where the item ends in `piece`: at the comma or the bracket behind it.
    fn end_in(&mut self, piece: &[u8]) -> Option<usize> {
        let Place::Item { mut depth, mut in_string, mut is_escaped } = self.place else { return None };
        for (place, byte) in piece.iter().enumerate() {
            if in_string {
                match byte {
                    _ if is_escaped => is_escaped = false,
                    b'\\' => is_escaped = true,
                    b'"' => in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => in_string = true,
                b'{' | b'[' => depth += 1,
                b',' | b']' if depth == 0 => return Some(place),
                b'}' | b']' => depth = depth.saturating_sub(1), // where it is 0 the item is no JSON
                _ => {}
            }
        }
        self.place = Place::Item { depth, in_string, is_escaped };
        None
    }

    /// The answer has ended.
    pub(crate) fn end(self) -> Result<End, Flaw> {
        match self.place {
            Place::End => Ok(End::List),
            Place::Start | Place::Other => Ok(End::Other(self.held)),
            Place::FirstItem | Place::NextItem | Place::Item { .. } => Err(Flaw::NotAList),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The items of a list that comes in pieces of this size.
    fn items(text: &str, size: usize) -> Result<Vec<String>, Flaw> {
        let (mut items, mut found) = (Items::new(), Vec::new());
        let mut each = |item: &[u8]| found.push(String::from_utf8_lossy(item).trim().to_owned());
        text.as_bytes().chunks(size).try_for_each(|piece| items.feed(piece, &mut each))?;
        match items.end()? {
            End::List => Ok(found),
            End::Other(_) => Err(Flaw::NotAList),
        }
    }

    #[test]
    fn items_are_cut_out_wherever_the_list_is_split() {
        let cases: [(&str, &[&str]); 5] = [
            (" [ ] \n", &[]),
            ("[1]", &["1"]),
            (r#"[{"a":"],\"}{"},  [1,[2]] ,null]"#, &[r#"{"a":"],\"}{"}"#, "[1,[2]]", "null"]),
            (r#"["\\","ä",-1.5e3]"#, &[r#""\\""#, "\"ä\"", "-1.5e3"]),
            ("[\n  {\n  }\n]\n", &["{\n  }"]),
        ];
        for (text, want) in cases {
            for size in 1..=text.len() {
                assert_eq!(items(text, size).unwrap(), want, "{text} in pieces of {size}");
            }
            for end in 1..text.trim_end().len() {
                assert!(
                    items(&String::from_utf8_lossy(&text.as_bytes()[..end]), 3).is_err(),
                    "{text} cut at {end}"
                );
            }
        }
        for text in ["[] []", "[],", "[,1]", "[1,]", "[1,,2]", "{}", "", "[}", "[:1]"] {
            assert_eq!(items(text, 2), Err(Flaw::NotAList), "{text}");
        }
    }

    #[test]
    fn the_longest_item_and_one_that_is_longer() {
        let list = |size: usize| format!("[\"{}\"]", "x".repeat(size - 2));
        assert_eq!(items(&list(MAX_ITEM_BYTES), 1000).unwrap()[0].len(), MAX_ITEM_BYTES);
        assert_eq!(items(&list(MAX_ITEM_BYTES + 1), 1000), Err(Flaw::ItemTooLong));
    }
}
