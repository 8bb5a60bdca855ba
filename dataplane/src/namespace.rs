//! Lists of namespace patterns: `application.namespaces` and a project's `sourceNamespaces`.

use crate::glob::Glob;

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
                match fancy_regex::Regex::new(body) {
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
        self.compiled.iter().any(|pattern| match pattern {
            Pattern::Glob(glob) => glob.matches(namespace),
            // An expression that gives up has not permitted anything.
            Pattern::Regex(regex) => regex.is_match(namespace).unwrap_or(false),
        })
    }
}

impl PartialEq for NamespacePatterns {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}
