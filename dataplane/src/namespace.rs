//! Lists of namespace patterns: `application.namespaces` and a project's `sourceNamespaces`.

use crate::effort::Effort;
use crate::glob::Glob;

/// Steps back that an expression with look-around may take; others take none.
const MOST_STEPS_BACK: usize = 10_000;

/// Patterns as Argo CD writes them: a glob, or a regular expression between slashes.
#[derive(Debug, Clone, Default)]
pub struct NamespacePatterns {
    source: Vec<String>,
    compiled: Vec<Pattern>,
}

#[derive(Debug, Clone)]
enum Pattern {
    Glob(Glob),
    /// Argo CD's engine knows look-around (`/^(?!kube-).*$/`), so this one must as well.
    Regex(Box<fancy_regex::Regex>),
}

impl NamespacePatterns {
    /// Compiles the patterns. A regular expression that cannot be read matches nothing and is returned.
    pub fn new<S: Into<String>>(patterns: impl IntoIterator<Item = S>) -> (Self, Vec<String>) {
        let source: Vec<String> = patterns.into_iter().map(Into::into).collect();
        let mut unreadable = Vec::new();
        let mut compiled = Vec::with_capacity(source.len());
        for text in &source {
            compiled.push(Pattern::Glob(Glob::new(text)));
            if let Some(body) = text.strip_prefix('/').and_then(|t| t.strip_suffix('/')) {
                match fancy_regex::RegexBuilder::new(body).backtrack_limit(MOST_STEPS_BACK).build() {
                    Ok(regex) => compiled.push(Pattern::Regex(Box::new(regex))),
                    Err(_) => unreadable.push(text.clone()),
                }
            }
        }
        (Self { source, compiled }, unreadable)
    }

    /// Globs only.
    pub fn globs<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let source: Vec<String> = patterns.into_iter().map(str::to_owned).collect();
        let compiled = source.iter().map(|pattern| Pattern::Glob(Glob::new(pattern))).collect();
        Self { source, compiled }
    }

    /// As they were written.
    pub fn source(&self) -> &[String] {
        &self.source
    }

    pub fn matches(&self, namespace: &str) -> bool {
        let mut effort = Effort::default();
        for pattern in &self.compiled {
            match pattern {
                Pattern::Glob(glob) if glob.evaluate(namespace, &mut effort).unwrap_or(false) => return true,
                Pattern::Glob(_) => {}
                Pattern::Regex(regex) => match regex.is_match(namespace) {
                    Ok(true) => return true,
                    Ok(false) => {}
                    // One that gives up has not permitted anything, and the next might take as long.
                    Err(_) => return false,
                },
            }
        }
        false
    }
}

impl PartialEq for NamespacePatterns {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}
