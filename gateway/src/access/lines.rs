//! The lines of a secret.

/// The longest line of a secret: far above what anybody types. It bounds the comparison of each call.
pub(super) const MAX_LINE_BYTES: usize = 1024;

/// The lines of a secret with their numbers; empty lines and line ends are left out.
pub(super) fn lines(content: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = content.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.map(|(place, line)| (place + 1, line.strip_suffix(b"\r").unwrap_or(line)));
    lines.filter(|(_, line)| !line.is_empty())
}
