//! Go's regular expression syntax, for policies in `policy.matchMode: regex`.
//!
//! The two engines agree but for a few constructs, which are rewritten so that a rule keeps its meaning:
//! Go's Perl classes are ASCII, `[` within a class is a plain character there, `&&`, `--` and `~~` are no set
//! operations, and `\Q…\E` quotes.
//!
//! A policy may have thousands of them. Those that are nothing but text are compared as text; of the others the text
//! that a match must begin with is looked for first.

use std::iter::Peekable;
use std::str::Chars;

use crate::effort::{Effort, Exhausted};

/// Memory that one compiled pattern may take.
const LITE_SIZE_LIMIT: usize = 256 << 10;
const SIZE_LIMIT: usize = 256 << 10;
/// What one pattern may weigh: its characters, those that are repeated so often counted as often.
const MOST_WEIGHT: usize = 4_000;
/// By how much the full engine is slower to be ready.
const FULL_IS_HEAVIER: usize = 100;

/// What the patterns of one policy may weigh together: a fraction of a second's work. Characters alone do not reach it,
/// since no ConfigMap holds as many.
#[derive(Debug, Clone)]
pub(crate) struct Allowance(usize);

impl Default for Allowance {
    fn default() -> Self {
        Self(2_000_000)
    }
}

impl Allowance {
    fn take(&mut self, weight: usize) -> Option<()> {
        self.0 = self.0.checked_sub(weight)?;
        Some(())
    }
}

/// A compiled pattern, not anchored but where it says so.
#[derive(Debug)]
pub(crate) struct Expression {
    anchored_at_start: bool,
    anchored_at_end: bool,
    /// The whole pattern, or what a match begins with.
    text: Box<str>,
    /// `None` where there is nothing but the text.
    engine: Option<Engine>,
    length: usize,
}

#[derive(Debug)]
enum Engine {
    /// Ready in microseconds.
    Lite(regex_lite::Regex),
    /// For Unicode classes, which the other one does not know.
    Full(regex::Regex),
}

impl Expression {
    /// Compiles a pattern as Go would read it; `None` where Go would not, or where it is too large.
    pub(crate) fn compile(pattern: &str, allowance: &mut Allowance) -> Option<Self> {
        let (anchored_at_start, rest) = anchor(pattern, str::strip_prefix, '^');
        let (anchored_at_end, inner) = anchor(rest, str::strip_suffix, '$');
        // What may be anything and stands at an open end changes nothing.
        let inner = if anchored_at_end { inner } else { inner.strip_suffix(".*").unwrap_or(inner) };
        let length = pattern.len();
        if inner.chars().all(is_literal) {
            return Some(Self { anchored_at_start, anchored_at_end, text: inner.into(), engine: None, length });
        }
        let engine = Engine::compile(&translate(pattern)?, allowance)?;
        let text = beginning(rest).into();
        Some(Self { anchored_at_start, anchored_at_end: false, text, engine: Some(engine), length })
    }

    pub(crate) fn matches(&self, text: &str, effort: &mut Effort) -> Result<bool, Exhausted> {
        effort.spend(1)?;
        let has_text = match (self.anchored_at_start, self.anchored_at_end) {
            (true, true) => *text == *self.text,
            (true, false) => text.starts_with(&*self.text),
            (false, true) => text.ends_with(&*self.text),
            (false, false) => text.contains(&*self.text),
        };
        let Some(engine) = self.engine.as_ref().filter(|_| has_text) else { return Ok(has_text) };
        effort.spend(2 * text.len() * self.length)?;
        Ok(match engine {
            Engine::Lite(regex) => regex.is_match(text),
            Engine::Full(regex) => regex.is_match(text),
        })
    }
}

impl Engine {
    fn compile(pattern: &str, allowance: &mut Allowance) -> Option<Self> {
        let weight = weight(pattern);
        if weight > MOST_WEIGHT {
            return None;
        }
        allowance.take(weight)?;
        let lite = regex_lite::RegexBuilder::new(pattern).size_limit(LITE_SIZE_LIMIT).build();
        lite.map(Self::Lite).ok().or_else(|| {
            allowance.take(weight * FULL_IS_HEAVIER)?;
            let mut full = regex::RegexBuilder::new(pattern);
            full.size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT).build().map(Self::Full).ok()
        })
    }
}

fn weight(pattern: &str) -> usize {
    // Of each group that is open: what it weighs so far, and what its last part weighs.
    let mut groups = vec![(0_usize, 0_usize)];
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        let last = match c {
            '(' => {
                groups.push((0, 0));
                continue;
            }
            ')' if groups.len() > 1 => groups.pop().map_or(0, |(sum, _)| sum),
            '{' if rest.as_str().contains('}') => {
                let (counts, after) = rest.as_str().split_once('}').unwrap_or_default();
                rest = after.chars();
                let most = counts.split(',').filter_map(|count| count.parse::<usize>().ok()).max().unwrap_or(1);
                let repeated = groups.last().map_or(0, |(_, last)| last.saturating_mul(most.saturating_sub(1)));
                if let Some((sum, last)) = groups.last_mut() {
                    (*sum, *last) = (sum.saturating_add(repeated), last.saturating_add(repeated));
                }
                continue;
            }
            '\\' => {
                rest.next();
                1
            }
            _ => 1,
        };
        if let Some(group) = groups.last_mut() {
            *group = (group.0.saturating_add(last), last);
        }
    }
    groups.into_iter().fold(0, |sum, (group, _)| sum.saturating_add(group))
}

/// Whether the pattern has the anchor at one end, and what is left of it.
fn anchor(pattern: &str, strip: impl Fn(&str, char) -> Option<&str>, anchor: char) -> (bool, &str) {
    strip(pattern, anchor).map_or((false, pattern), |rest| (true, rest))
}

/// The text that whatever matches has where the match begins.
fn beginning(pattern: &str) -> &str {
    // One of several may begin otherwise.
    if pattern.contains('|') {
        return "";
    }
    let end = pattern.find(|c| !is_literal(c)).unwrap_or(pattern.len());
    let literal = &pattern[..end];
    match pattern[end..].chars().next() {
        // The last character may be missing.
        Some('*' | '?' | '{' | '+') => literal.char_indices().last().map_or("", |(last, _)| &literal[..last]),
        _ => literal,
    }
}

fn is_literal(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(
            c,
            '-' | '_' | '/' | ':' | '@' | ',' | ' ' | '=' | '%' | '~' | '!' | '"' | '#' | '&' | ';' | '<' | '>'
        )
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

#[cfg(test)]
mod tests;
