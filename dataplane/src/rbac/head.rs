//! The first bytes of texts: where they differ, the texts do.

const BYTES: usize = size_of::<u128>();

/// What is known of the first bytes of one text, or of several.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    bytes: u128,
    /// The bits that are the same in all of them.
    known: u128,
}

impl Head {
    pub(super) fn of_all_that_begin_with(start: &str) -> Self {
        let known = first_bytes(&[u8::MAX; BYTES][..start.len().min(BYTES)]);
        Self { bytes: first_bytes(start.as_bytes()), known }
    }

    pub(super) fn of_any(texts: &[&str]) -> Self {
        let mut heads = texts.iter().map(|text| first_bytes(text.as_bytes()));
        let bytes = heads.next().unwrap_or_default();
        let known = heads.fold(u128::MAX, |known, other| known & !(bytes ^ other));
        Self { bytes, known }
    }

    /// Whether a text may be of both.
    pub(super) fn may_be_of(self, other: Self) -> bool {
        (self.bytes ^ other.bytes) & self.known & other.known == 0
    }
}

/// The first in the lowest places, and zeros where the text has ended.
fn first_bytes(text: &[u8]) -> u128 {
    let mut bytes = [0; BYTES];
    let length = text.len().min(BYTES);
    bytes[..length].copy_from_slice(&text[..length]);
    u128::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_tell_texts_apart_that_differ_in_their_first_bytes() {
        let may = |start: &str, texts: &[&str]| Head::of_all_that_begin_with(start).may_be_of(Head::of_any(texts));
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
