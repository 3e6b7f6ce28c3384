//! The two forms in which a moment is written here: for logs and for HTTP.

use crate::number::push_decimal;

/// RFC 3339 in UTC with milliseconds: `2026-11-23T09:20:00.123Z`. `seconds` counts from 1970.
#[must_use]
pub fn timestamp(seconds: u64, ms: u32) -> String {
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = time_of_day(seconds);
    let mut text = String::with_capacity(24);
    let parts =
        [(year, 4, '-'), (month, 2, '-'), (day, 2, 'T'), (hour, 2, ':'), (minute, 2, ':'), (second, 2, '.')];
    for (number, width, after) in parts.into_iter().chain([(u64::from(ms), 3, 'Z')]) {
        push_decimal(&mut text, number, width);
        text.push(after);
    }
    text
}

/// The bytes of an HTTP date.
pub const HTTP_DATE_BYTES: usize = 29;

/// The date of an HTTP message: `Mon, 23 Nov 2026 09:20:00 GMT` (RFC 9110 section 5.6.7).
#[must_use]
pub fn http_date(seconds: u64) -> [u8; HTTP_DATE_BYTES] {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]; // 1970 began on a Thursday
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let days = seconds / 86_400;
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = time_of_day(seconds);
    let mut text = *b"---, -- --- ---- --:--:-- GMT";
    text[..3].copy_from_slice(DAYS[(days % 7) as usize].as_bytes());
    text[8..11].copy_from_slice(MONTHS[(month - 1) as usize].as_bytes());
    for (at, number) in
        [(5, day), (12, year / 100 % 100), (14, year % 100), (17, hour), (20, minute), (23, second)]
    {
        text[at..at + 2].copy_from_slice(&[b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]);
    }
    text
}

fn time_of_day(seconds: u64) -> (u64, u64, u64) {
    (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// The Gregorian date of a day counted from 1970-01-01, by 400-year eras that begin in March.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_match_known_dates() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "1994-11-06T08:49:37.000Z", "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "2000-02-28T23:59:59.000Z", "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "2000-02-29T00:00:00.000Z", "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z", "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z", "Mon, 01 Mar 2100 00:00:00 GMT"),
        ];
        for (seconds, log, http) in cases {
            assert_eq!((timestamp(seconds, 0).as_str(), &http_date(seconds)[..]), (log, http.as_bytes()));
        }
    }
}
