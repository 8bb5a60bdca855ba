//! What is wrong with an entry, where, and what to do about it.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The entry serves; something in it has no effect or will surprise.
    Warning,
    /// The entry cannot serve.
    Error,
}

/// Why an entry cannot serve, in one word: the reasons of conditions and Events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reason {
    /// The entry itself is wrong.
    #[default]
    Invalid,
    /// Another extension has its name.
    NameConflict,
    /// Objects of its namespace do not count.
    NamespaceNotAllowed,
    /// Something that it refers to does not exist or holds no usable value.
    RefNotFound,
    /// It refers to something that it may not read.
    RefNotPermitted,
    /// It refers to a certificate or a key that cannot be used.
    InvalidCertificateRef,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid",
            Self::NameConflict => "NameConflict",
            Self::NamespaceNotAllowed => "NamespaceNotAllowed",
            Self::RefNotFound => "RefNotFound",
            Self::RefNotPermitted => "RefNotPermitted",
            Self::InvalidCertificateRef => "InvalidCertificateRef",
        }
    }

    /// Whether it is about what the entry refers to rather than about the entry.
    pub fn is_about_references(self) -> bool {
        matches!(self, Self::RefNotFound | Self::RefNotPermitted | Self::InvalidCertificateRef)
    }
}

/// One finding about one field. `message` names the remedy and never holds a secret's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// Path of the field within the entry, `backend.services[0].url`; empty for the entry as a whole.
    pub field: String,
    pub message: String,
    /// Line within the text that the entry was read from, from 1, where it is known.
    pub line: Option<usize>,
    pub reason: Reason,
}

impl Problem {
    pub fn error(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            field: field.into(),
            message: message.into(),
            line: None,
            reason: Reason::Invalid,
        }
    }

    pub fn warning(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            field: field.into(),
            message: message.into(),
            line: None,
            reason: Reason::Invalid,
        }
    }

    #[must_use]
    pub fn at(mut self, line: Option<usize>) -> Self {
        self.line = line;
        self
    }

    #[must_use]
    pub fn because(mut self, reason: Reason) -> Self {
        self.reason = reason;
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if self.field.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.field, self.message) }
    }
}
