//! Names of fields.

/// Whether a field belongs to one connection, or is one that this crate writes itself (RFC 9110 section 7.6.1). Such a
/// field is not forwarded; neither is a field that `Connection` names. Names compare as in [`is_taken_for`]: a server
/// behind the next hop may take `Content_Length` for a length.
#[must_use]
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    let Some(first) = name.first() else { return false };
    let hop = match (name.len(), first | CASE) {
        (2, b't') => "te",
        (7, b't') => "trailer",
        (7, b'u') => "upgrade",
        (10, b'c') => "connection",
        (10, b'k') => "keep-alive",
        (14, b'c') => "content-length",
        (16, b'p') => "proxy-connection",
        (17, b't') => "transfer-encoding",
        (18, b'p') => "proxy-authenticate",
        (19, b'p') => "proxy-authorization",
        _ => return false,
    };
    is_taken_for(name, hop)
}

/// Whether programs may take the field `name` for the one called `other`, which has letters, digits and `-`: names
/// compare without case, and in variables, as those of the Common Gateway Interface, `-` becomes `_`.
#[must_use]
pub fn is_taken_for(name: &[u8], other: &str) -> bool {
    let as_variable =
        |(one, other): (&u8, &u8)| one.eq_ignore_ascii_case(other) || (*one, *other) == (b'_', b'-');
    name.len() == other.len()
        && (is_same(name, other)
            || name.contains(&b'_') && name.iter().zip(other.as_bytes()).all(as_variable))
}

/// The bit in which `A` and `a` differ. It is set in digits, in `-`, and in no two characters of a token that differ
/// in it alone, except letters and some that are in no name here (RFC 9110 section 5.6.2).
const CASE: u8 = 0x20;

/// Whether the field `name` of a parsed head is the one called `other`, which has letters, digits and `-`: names
/// compare without case. The ends of short names are compared as words, which may overlap.
#[must_use]
pub(crate) fn is_same(name: &[u8], other: &str) -> bool {
    const WORD: u64 = u64::from_ne_bytes([CASE; 8]);
    let other = other.as_bytes();
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes) | WORD;
    let half = |bytes: &[u8; 4]| u32::from_ne_bytes(*bytes) | WORD as u32;
    if name.len() != other.len() {
        return false;
    }
    let (words, others) = (name.as_chunks::<8>().0, other.as_chunks::<8>().0);
    if let (Some(one), Some(two)) = (name.last_chunk(), other.last_chunk()) {
        return word(one) == word(two) && words.iter().zip(others).all(|(one, two)| word(one) == word(two));
    }
    match (name.first_chunk(), other.first_chunk(), name.last_chunk(), other.last_chunk()) {
        (Some(a), Some(b), Some(c), Some(d)) => half(a) == half(b) && half(c) == half(d),
        _ => name.iter().zip(other).all(|(one, other)| one | CASE == other | CASE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_whatever_their_length() {
        for length in 0..40 {
            let name: String = "abcXYZ-09".chars().cycle().take(length).collect();
            assert!(is_same(name.to_uppercase().as_bytes(), &name) && is_same(name.as_bytes(), &name));
            assert!(!is_same(format!("{name}a").as_bytes(), &name));
            for place in 0..length {
                for byte in (0..=127u8).filter(|byte| crate::octets::is_token(*byte)) {
                    let mut changed = name.clone().into_bytes();
                    changed[place] = byte;
                    assert_eq!(is_same(&changed, &name), changed.eq_ignore_ascii_case(name.as_bytes()));
                }
            }
        }
    }

    #[test]
    fn hop_by_hop_names_compare_without_case_and_whatever_their_dash_is() {
        let all = [
            "Connection",
            "Content-Length",
            "Transfer-Encoding",
            "Keep-Alive",
            "Proxy-Connection",
            "TE",
            "Trailer",
            "Upgrade",
            "Proxy-Authenticate",
            "Proxy-Authorization",
        ];
        for name in all {
            for name in [name.to_owned(), name.to_uppercase(), name.replace('-', "_").to_lowercase()] {
                assert!(is_hop_by_hop(name.as_bytes()), "{name}");
                assert!(
                    !is_hop_by_hop(&name.as_bytes()[1..]) && !is_hop_by_hop(format!("{name}s").as_bytes())
                );
            }
        }
        for name in ["Accept", "", "Content.Length", "Transfer-Encodin_", "Keep--live"] {
            assert!(!is_hop_by_hop(name.as_bytes()), "{name}");
        }
        assert!(is_taken_for(b"X_a-B", "x-A-b") && !is_taken_for(b"x-a", "x_a"));
    }
}
