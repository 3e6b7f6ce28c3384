//! A set as a sorted list, for few values. `BTreeSet` takes several kilobytes of code for each type.

/// A set of small values.
pub(crate) struct SortedSet<T>(Vec<T>);

impl<T: Ord + Copy> SortedSet<T> {
    /// An empty set.
    pub(crate) const fn new() -> SortedSet<T> {
        SortedSet(Vec::new())
    }

    /// Adds a value. Returns whether it was not there yet.
    pub(crate) fn insert(&mut self, value: T) -> bool {
        let place = self.0.binary_search(&value);
        if let Err(place) = place {
            self.0.insert(place, value);
        }
        place.is_err()
    }

    pub(crate) fn contains(&self, value: &T) -> bool {
        self.0.binary_search(value).is_ok()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn extend(&mut self, values: impl IntoIterator<Item = T>) {
        for value in values {
            self.insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_there_once() {
        let mut set = SortedSet::new();
        assert_eq!([5, 1, 3, 5, 1].map(|value| set.insert(value)), [true, true, true, false, false]);
        set.extend([3, 4]);
        assert_eq!(set.len(), 4);
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6].map(|value| set.contains(&value)),
            [false, true, false, true, true, true, false]
        );
    }
}
