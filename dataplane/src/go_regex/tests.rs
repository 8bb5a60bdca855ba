use std::time::{Duration, Instant};

use super::{Allowance, Expression, weight};
use crate::effort::Effort;

fn matches(pattern: &str, text: &str) -> Option<bool> {
    Expression::compile(pattern, &mut Allowance::default())
        .map(|expression| expression.matches(text, &mut Effort::default()).expect("no effort"))
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
        if let Some(expression) = Expression::compile(&bomb, &mut Allowance::default()) {
            let _ = expression.matches(&text, &mut Effort::default());
        }
        // Milliseconds where it is optimised.
        assert!(started.elapsed() < Duration::from_millis(500), "{:.20}: {:?}", bomb, started.elapsed());
    }
}

#[test]
fn repetitions_weigh_what_they_repeat() {
    for (pattern, expected) in [
        ("abc", 3),
        ("a{3}", 3 + 2),
        ("a{2,5}b", 5 + 3),
        ("(ab){10}", 20),
        ("(a{10}){10}", 118),
        ("a{1000}{1000}", 1_000_000 + 6),
        (r"\(\{", 2),
        ("[a-z]{1,63}[.][a-z]{1,63}", 0),
    ] {
        let weight = weight(pattern);
        match expected {
            0 => assert!(weight < 500, "{pattern}: {weight}"),
            expected => assert!(weight.abs_diff(expected) <= 20, "{pattern}: {weight}, not {expected}"),
        }
    }
}

#[test]
fn a_policy_may_hold_only_so_many_of_the_heavy_ones() {
    let mut allowance = Allowance::default();
    let compiled = (0..10_000).filter(|_| Expression::compile("(x[a-z]{50}){50}", &mut allowance).is_some()).count();
    assert!((10..2_000).contains(&compiled), "{compiled}");
    // As many plain ones as any policy holds.
    let mut allowance = Allowance::default();
    let plain = |i: usize| Expression::compile(&format!("^team-{i}/(dev|prod)-[a-z0-9-]+$"), &mut allowance).is_some();
    assert!((0..10_000).all(plain));
}
