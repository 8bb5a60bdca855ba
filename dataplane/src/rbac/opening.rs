//! How texts begin: where that differs, the texts do.

/// Bytes that are looked at; what comes later makes no difference.
const BYTES: usize = 16;

/// How all texts begin that a pattern matches. A hash takes less memory than the bytes; where it takes two for the same,
/// that costs time and decides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening {
    length: u8,
    hash: u32,
}

/// How some texts begin, at every length.
pub(super) struct Openings(Vec<[Option<u32>; BYTES + 1]>);

impl Opening {
    pub(super) fn of_all_that_begin_with(start: &str) -> Self {
        let length = start.len().min(BYTES);
        let hash = hashes(&start.as_bytes()[..length]).last().unwrap_or_default();
        Self { length: u8::try_from(length).unwrap_or_default(), hash }
    }
}

impl Openings {
    pub(super) fn of(texts: &[&str]) -> Self {
        let of_one = |text: &&str| {
            let mut at_length = [None; BYTES + 1];
            at_length.iter_mut().zip(hashes(text.as_bytes())).for_each(|(hash, of_text)| *hash = Some(of_text));
            at_length
        };
        Self(texts.iter().map(of_one).collect())
    }

    /// Whether one of the texts may begin so.
    pub(super) fn have(&self, opening: Opening) -> bool {
        self.0.iter().any(|at_length| at_length[usize::from(opening.length)] == Some(opening.hash))
    }
}

/// Of nothing, of the first byte, of the first two, …: FNV-1a.
fn hashes(text: &[u8]) -> impl Iterator<Item = u32> {
    let basis = 0x811c_9dc5;
    let more = text.iter().scan(basis, |hash, byte| {
        *hash = (*hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        Some(*hash)
    });
    std::iter::once(basis).chain(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_begin_otherwise_are_told_apart() {
        let may = |start: &str, texts: &[&str]| Openings::of(texts).have(Opening::of_all_that_begin_with(start));
        assert!(may("", &[""]) && may("", &["x"]) && may("ab", &["ab"]) && may("ab", &["abc"]));
        assert!(!may("ab", &["a"]) && !may("ab", &["ac"]) && !may("ab", &[""]));
        // Of several, one suffices.
        assert!(may("a/b", &["a/c", "a/b"]) && may("a/b", &["a/b", "a/c"]) && !may("b/", &["a/c", "a/b"]));
        // What comes later is not looked at.
        let long = "0123456789abcdefX";
        assert!(may(long, &["0123456789abcdefY"]) && !may(long, &["0123456789abcdeXX"]));
        assert!(may("é", &["été"]) && !may("é", &["è"]));
    }
}
