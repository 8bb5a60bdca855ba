use std::time::{Duration, Instant};

use super::Expression;
use crate::effort::Effort;

fn matches(pattern: &str, text: &str) -> Option<bool> {
    Expression::compile(pattern).map(|expression| expression.matches(text, &mut Effort::default()).expect("no effort"))
}

#[test]
fn shortcuts_say_what_the_expression_says() {
    let patterns = [
        "",
        "a",
        "^a",
        "a$",
        "^a$",
        ".*",
        "^.*$",
        "a.*",
        "^a.*",
        "a.*$",
        ".*a",
        "ab*",
        "ab?c",
        "ab{0}c",
        "a+b",
        "a|b",
        "^a|b$",
        "^(a|b)c",
        "a.c",
        "team-1/.*",
        "^team-1/.*$",
        "^team-1/(dev|prod)-.*$",
        "$",
        "^",
        "a$b",
        "a^b",
        r"a\.b",
        "[ab]c",
        "a.*b.*",
        "^$",
        ".*.*",
        "(?i)A",
        r"\pL",
        r"^\w+$",
        r"\bab\b",
        "^ab+.*",
        "x*",
        "^x*y",
    ];
    let texts = [
        "",
        "a",
        "b",
        "ab",
        "abc",
        "ac",
        "bc",
        "aab",
        "ba",
        "team-1/dev-x",
        "team-1/x",
        "team-11/dev-x",
        "a.b",
        "a b",
        "xyz",
        "é",
    ];
    for pattern in patterns {
        let full = regex::Regex::new(&super::translate(pattern).expect(pattern)).expect(pattern);
        for text in texts {
            assert_eq!(matches(pattern, text), Some(full.is_match(text)), "{pattern:?} on {text:?}");
        }
    }
}

#[test]
fn no_expression_takes_long() {
    let text = "a".repeat(600);
    let bombs = [
        "a{1000}{1000}".to_owned(),
        "((a{0,50}){0,50}){0,50}".into(),
        "(x+x+)+y".into(),
        "(a*)*b".into(),
        "(a|b|ab)*c".repeat(1_000),
        r"\pL{500}".into(),
        r"(\w{100}){50}".into(),
        "(".repeat(10_000),
        "(a".repeat(1_000) + &")*".repeat(1_000),
    ];
    for bomb in bombs {
        let started = Instant::now();
        if let Some(expression) = Expression::compile(&bomb) {
            let _ = expression.matches(&text, &mut Effort::default());
        }
        // Milliseconds where it is optimised.
        assert!(started.elapsed() < Duration::from_millis(500), "{:.20}: {:?}", bomb, started.elapsed());
    }
}
