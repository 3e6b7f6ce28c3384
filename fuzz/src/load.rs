//! The page on which gateways tell each other their calls.

use gateway::load::{self, Load, Page};

/// * A page is what its lines say, each of them read on its own.
/// * What is written of a page is that page again.
/// * A page over the limit is refused, and so is a page without its last byte or with bytes behind it.
pub fn check(data: &[u8]) {
    let found = Page::parse(data);
    assert_eq!(found.is_some(), is_page(data), "is a page");
    let Some(page) = found else { return };
    let lines = data.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(page.functions.len(), lines - 1);
    let text = load::write(page.instance, page.functions.iter().map(|(name, load)| (name, *load)));
    let again = Page::parse(text.as_bytes()).expect("what is written is a page");
    let mut want = page;
    want.functions.retain(|_, load| *load != Load::default());
    assert_eq!(again, want);
    assert_eq!(Page::parse(&data[..data.len() - 1]), None, "without its last byte");
    assert_eq!(Page::parse(&[data, b"x"].concat()), None, "with something behind it");
}

/// The rules, byte by byte.
fn is_page(data: &[u8]) -> bool {
    let Some((b'\n', rest)) = data.split_last() else { return false };
    let mut lines = rest.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let is_first = first.len() == 23
        && first.starts_with(b"load 1 ")
        && first[7..].iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut names = std::collections::HashSet::new();
    is_first
        && data.len() <= load::MAX_BYTES
        && lines.all(|line| {
            let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
            fields.len() == 4
                && is_name(fields[0])
                && is_number(fields[1], u128::from(u32::MAX))
                && is_number(fields[2], u128::from(u64::MAX))
                && is_number(fields[3], u128::from(u32::MAX))
                && names.insert(fields[0].to_vec())
        })
}

fn is_name(name: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric();
    (1..=128).contains(&name.len())
        && name.first().is_some_and(is_plain)
        && name.iter().all(|byte| is_plain(byte) || b"_.-".contains(byte))
}

fn is_number(digits: &[u8], max: u128) -> bool {
    let mut number = 0u128;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return false;
        }
        number = (number * 10 + u128::from(digit - b'0')).min(u128::from(u64::MAX) + 1);
    }
    !digits.is_empty() && number <= max
}
