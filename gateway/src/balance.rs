//! Chooses the replica for one call: two are drawn at random, the one with less in flight wins.
//!
//! Two draws come close to the best choice without looking at every load, and do not send everybody to
//! the same replica when loads are seen late (Mitzenmacher, "The power of two choices", 2001).

/// What the caller thinks of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Usable,
    /// It failed lately: taken only when nothing better is left, so that it is never given up for good.
    Outlier,
    /// Not for this call: it was tried already.
    Excluded,
}

/// The place of the endpoint to use; `None` when all are excluded or there is none.
/// `random` makes the draws, where there is a choice: all 64 bits should be random.
pub(crate) fn pick<T>(
    endpoints: &[T],
    random: impl FnOnce() -> u64,
    load: impl Fn(&T) -> usize,
    standing: impl Fn(&T) -> Standing,
) -> Option<usize> {
    if let [only] = endpoints {
        return (standing(only) != Standing::Excluded).then_some(0);
    }
    let random = random();
    let draw = |class: Standing| {
        let members = || endpoints.iter().enumerate().filter(|(_, endpoint)| standing(endpoint) == class);
        let count = members().count() as u64;
        let (high, low) = (random >> 32, random & 0xffff_ffff);
        // A standing may change between two looks; then any member of the class will do.
        let nth = |n: u64| members().nth(n as usize).or_else(|| members().next());
        let first = nth(low.checked_rem(count)?)?;
        if count == 1 {
            return Some(first.0);
        }
        let second = nth((low % count + 1 + high % (count - 1)) % count).unwrap_or(first);
        Some(if load(second.1) < load(first.1) { second.0 } else { first.0 })
    };
    draw(Standing::Usable).or_else(|| draw(Standing::Outlier))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed sequence of well mixed numbers (splitmix64).
    fn randoms(count: u64) -> impl Iterator<Item = u64> {
        (1..=count).map(|n| {
            let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        })
    }

    /// How often each of `endpoints` (load, standing) is picked in `draws`.
    fn counts(endpoints: &[(usize, Standing)], draws: u64) -> Vec<u64> {
        let mut counts = vec![0; endpoints.len()];
        for random in randoms(draws) {
            if let Some(place) = pick(endpoints, || random, |e| e.0, |e| e.1) {
                counts[place] += 1;
            }
        }
        counts
    }

    use Standing::{Excluded, Outlier, Usable};

    #[test]
    fn none_when_there_is_nothing_to_pick() {
        assert_eq!(counts(&[], 10), Vec::<u64>::new());
        assert_eq!(counts(&[(0, Excluded), (0, Excluded)], 10), [0, 0]);
    }

    #[test]
    fn equal_loads_are_spread_evenly() {
        for size in [2, 3, 5, 10, 17] {
            let endpoints = vec![(4, Usable); size];
            let draws = 20_000 * size as u64;
            for (place, count) in counts(&endpoints, draws).into_iter().enumerate() {
                assert!((19_000..21_000).contains(&count), "{size} endpoints, {place}: {count}");
            }
        }
    }

    #[test]
    fn outliers_leave_an_even_spread_among_the_others() {
        let endpoints = [(0, Usable), (0, Outlier), (0, Outlier), (0, Usable), (0, Excluded), (0, Usable)];
        let got = counts(&endpoints, 30_000);
        for place in [0, 3, 5] {
            assert!((9_500..10_500).contains(&got[place]), "{got:?}");
        }
        assert_eq!((got[1], got[2], got[4]), (0, 0, 0));
    }

    #[test]
    fn of_two_the_less_loaded_one() {
        assert_eq!(counts(&[(1, Usable), (0, Usable)], 1000), [0, 1000]);
        assert_eq!(counts(&[(7, Usable), (8, Usable)], 1000), [1000, 0]);
        let got = counts(&[(0, Usable), (0, Usable), (0, Usable), (9, Usable)], 1000);
        assert_eq!(got[3], 0, "never drawn alone: {got:?}");
    }

    #[test]
    fn the_last_outliers_are_still_used() {
        let got = counts(&[(0, Outlier), (0, Excluded), (0, Outlier)], 1000);
        assert!(got[0] > 400 && got[2] > 400 && got[1] == 0, "{got:?}");
        assert_eq!(counts(&[(9, Outlier)], 10), [10]);
    }

    #[test]
    fn one_usable_is_taken_whatever_its_load() {
        assert_eq!(counts(&[(0, Outlier), (1000, Usable), (0, Excluded)], 100), [0, 100, 0]);
    }

    #[test]
    fn a_given_number_gives_a_given_pick() {
        let endpoints = [(3, Usable), (1, Usable), (2, Usable)];
        for random in randoms(100) {
            let once = pick(&endpoints, || random, |e| e.0, |e| e.1);
            assert_eq!(once, pick(&endpoints, || random, |e| e.0, |e| e.1));
        }
        for random in [0, u64::MAX, 1 << 32, u64::from(u32::MAX)] {
            assert!(pick(&endpoints, || random, |e| e.0, |e| e.1).is_some());
        }
    }

    #[test]
    fn a_standing_that_changes_between_looks_is_survived() {
        use std::cell::Cell;
        let looks = Cell::new(0);
        let standing = |_: &(usize, Standing)| {
            looks.set(looks.get() + 1);
            if looks.get() <= 3 { Usable } else { Outlier }
        };
        let endpoints = [(0, Usable); 3];
        assert!(pick(&endpoints, || 7, |e| e.0, standing).is_some());
    }
}
