//! Go's regular expression syntax, for policies in `policy.matchMode: regex`.
//!
//! The two engines agree but for a few constructs, which are rewritten so that a rule keeps its meaning:
//! Go's Perl classes are ASCII, `[` within a class is a plain character there, `&&`, `--` and `~~` are no set
//! operations, and `\Q…\E` quotes.

use std::iter::Peekable;
use std::str::Chars;

use regex::{Regex, RegexBuilder};

const SIZE_LIMIT: usize = 1 << 20;

/// Compiles a pattern as Go would read it, not anchored; `None` where Go would not.
pub(crate) fn compile(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(&translate(pattern)?).size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT).build().ok()
}

fn translate(pattern: &str) -> Option<String> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => escape(&mut rest, &mut out, false),
            '[' => class(&mut rest, &mut out),
            // Also `(?`, which repeats nothing.
            '*' | '+' | '?' if !out.ends_with('(') => {
                out.push(c);
                out.extend(rest.next_if_eq(&'?'));
                // Go repeats no repetition: `a**` is an error there.
                if matches!(rest.peek(), Some('*' | '+' | '?')) {
                    return None;
                }
            }
            c => out.push(c),
        }
    }
    Some(out)
}

fn escape(rest: &mut Peekable<Chars<'_>>, out: &mut String, in_class: bool) {
    let Some(c) = rest.next() else {
        return out.push('\\');
    };
    let (open, close) = if in_class { ("", "") } else { ("[", "]") };
    match c {
        'Q' if !in_class => quoted(rest, out),
        'd' => out.extend([open, "0-9", close]),
        'w' => out.extend([open, "0-9A-Za-z_", close]),
        's' => out.extend([open, r"\t\n\f\r ", close]),
        'D' => out.push_str("[^0-9]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        'S' => out.push_str(r"[^\t\n\f\r ]"),
        'b' | 'B' if !in_class => out.extend(["(?-u:\\", if c == 'b' { "b" } else { "B" }, ")"]),
        c => {
            out.push('\\');
            out.push(c);
        }
    }
}

/// After `\Q`: everything up to `\E`, literally.
fn quoted(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    let mut literal = String::new();
    while let Some(c) = rest.next() {
        if c == '\\' && rest.next_if_eq(&'E').is_some() {
            break;
        }
        literal.push(c);
    }
    out.push_str(&regex::escape(&literal));
}

/// After `[`: the class up to its `]`.
fn class(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    if rest.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    if rest.next_if_eq(&']').is_some() {
        out.push_str(r"\]");
    }
    let mut previous = '\0';
    while let Some(c) = rest.next() {
        match c {
            ']' => return out.push(']'),
            '\\' => escape(rest, out, true),
            '[' if rest.peek() == Some(&':') => {
                out.push('[');
                for c in rest.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            '[' | '&' | '~' => out.extend(['\\', c]),
            '-' if previous == '-' => out.push_str(r"\-"),
            c => out.push(c),
        }
        previous = c;
    }
}
