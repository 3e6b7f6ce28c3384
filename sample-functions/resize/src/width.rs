//! The requested width.

const MIN_WIDTH: u32 = 1;
const MAX_WIDTH: u32 = 2048;
const DEFAULT_WIDTH: u32 = 128;

/// How much of an invalid width a message repeats.
const MAX_SHOWN_CHARS: usize = 20;

/// The first `width=` of a query, or the default.
///
/// # Errors
/// When the value is no width.
pub(crate) fn from_query(query: &str) -> Result<u32, String> {
    let Some(text) = query.split('&').find_map(|pair| pair.strip_prefix("width=")) else {
        return Ok(DEFAULT_WIDTH);
    };
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let width = text.parse().ok().filter(|width| is_number && (MIN_WIDTH..=MAX_WIDTH).contains(width));
    width.ok_or_else(|| {
        let shown: String = text.chars().take(MAX_SHOWN_CHARS).collect();
        format!("expected `width` from {MIN_WIDTH} to {MAX_WIDTH}, got `{}`", shown.escape_debug())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_widths_are_parsed() {
        let good = [
            ("", 128),
            ("height=3", 128),
            ("xwidth=3", 128),
            ("width=1", 1),
            ("width=2048", 2048),
            ("width=0064", 64),
            ("x=1&width=64&width=3", 64),
        ];
        for (query, want) in good {
            assert_eq!(from_query(query), Ok(want), "{query}");
        }
        for text in ["0", "2049", "", "-1", "+1", "1.5", " 1", "64px", "4294967296", "%31"] {
            let want = format!("expected `width` from 1 to 2048, got `{text}`");
            assert_eq!(from_query(&format!("width={text}")), Err(want));
        }
    }

    #[test]
    fn a_message_repeats_a_bounded_part_of_the_value() {
        let error = from_query(&format!("width={}", "9".repeat(1000))).expect_err("it is too large");
        assert_eq!(error, format!("expected `width` from 1 to 2048, got `{}`", "9".repeat(MAX_SHOWN_CHARS)));
    }
}
