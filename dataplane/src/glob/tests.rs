use std::time::{Duration, Instant};

use super::Glob;
use crate::effort::Effort;

fn matches(pattern: &str, text: &str) -> bool {
    let glob = Glob::new(pattern);
    let matches = glob.evaluate(text, &mut Effort::default()).expect("too much effort");
    assert!(!matches || text.starts_with(glob.literal_start()), "{pattern:?} on {text:?}");
    matches
}

#[test]
fn what_all_matches_begin_with_is_known() {
    let cases = [
        ("ab", "ab"),
        ("ab*", "ab"),
        ("ab*c", "ab"),
        ("ab*c?d", "ab"),
        (r"a\*b[c]", "a*b"),
        ("?ab", ""),
        ("{a,b}c", ""),
        ("*", ""),
        ("[", ""),
    ];
    for (pattern, expected) in cases {
        assert_eq!(Glob::new(pattern).literal_start(), expected, "{pattern:?}");
    }
}

#[test]
fn whole_texts_match() {
    let cases = [
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("a?c", "aéc", true),
        ("*a*b*c*", "xxaxxbxxcxx", true),
        ("*a*b*c*", "cba", false),
        ("*ab", "aab", true),
        ("a*?b", "ab", false),
        ("a*?b", "axxb", true),
        ("[a-c]x", "bx", true),
        ("[!a-c]x", "bx", false),
        ("[!a-c]x", "éx", true),
        ("[xyz]", "z", true),
        ("{a,bc}d", "bcd", true),
        ("{a,ab}{b,c}", "abc", true),
        ("{a,ab}{b,c}", "ab", true),
        ("{a,ab}{b,c}", "a", false),
        ("{,a}b", "b", true),
        ("{*,x}y", "abcy", true),
        ("{a,{b,c}*}z", "cccz", true),
        (r"\*", "*", true),
        (r"\*", "a", false),
        ("[", "[", false),
        ("{a", "{a", false),
        ("a/*/b", "a/b", true),
        ("", "", true),
        ("", "a", false),
    ];
    for (pattern, text, expected) in cases {
        assert_eq!(matches(pattern, text), expected, "{pattern:?} on {text:?}");
    }
}

#[test]
fn no_pattern_takes_long() {
    let text = "a".repeat(600);
    let patterns = [
        "*a".repeat(50_000) + "b",
        format!("*{}b", "a".repeat(300)),
        "{a,aa}".repeat(20_000),
        "{a,*}".repeat(20_000) + "b",
        format!("{}*{}b", "{".repeat(16), ",a}".repeat(16)),
        "[!b]*".repeat(20_000),
        "?*".repeat(20_000),
    ];
    for pattern in patterns {
        let started = Instant::now();
        let glob = Glob::new(&pattern);
        let _ = glob.evaluate(&text, &mut Effort::default());
        // Milliseconds where it is optimised.
        assert!(started.elapsed() < Duration::from_millis(500), "{:.20}: {:?}", pattern, started.elapsed());
    }
    assert!(matches(&("*a".repeat(400) + "*"), &text));
}
