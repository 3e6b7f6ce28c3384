//! The figures of several rounds, as one.

use std::fmt;

/// The median of some values, and how far they are apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    /// The spread of `values` without NaN; NaN when no value is left.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().filter(|value| !value.is_nan()).collect();
        values.sort_unstable_by(f64::total_cmp);
        if values.is_empty() {
            values.push(f64::NAN);
        }
        Spread { median: values[values.len() / 2], least: values[0], most: values[values.len() - 1] }
    }
}

/// `median (least-most)`, with as many decimals as the precision says, none by default; `-` for none.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(0);
        let (median, least, most) = (self.median, self.least, self.most);
        if median.is_nan() {
            return f.write_str("-");
        }
        let between = if least < 0.0 { " to " } else { "-" };
        write!(f, "{median:.decimals$} ({least:.decimals$}{between}{most:.decimals$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_ends() {
        let spread = Spread::of([3.0, 1.0, 2.0, 9.0, 2.5]);
        assert_eq!(spread, Spread { median: 2.5, least: 1.0, most: 9.0 });
        assert_eq!(spread.to_string(), "2 (1-9)");
        assert_eq!(format!("{spread:.1}"), "2.5 (1.0-9.0)");
        assert_eq!(Spread::of([f64::NAN]).to_string(), "-");
        assert_eq!(Spread::of([f64::NAN, 2.0, 1.0, 3.0]).to_string(), "2 (1-3)");
        assert_eq!(format!("{:.1}", Spread::of([-1.0])), "-1.0 (-1.0 to -1.0)");
    }
}
