//! What a run came to, as a table for people.

use std::fmt::Write as _;

/// A measured goal.
#[derive(Debug, Clone, Default)]
pub struct Row {
    pub what: String,
    pub goal: String,
    /// What the goal speaks of, measured.
    pub result: String,
    pub is_met: bool,
    /// By the candidates' names.
    pub values: Vec<(&'static str, String)>,
}

pub const COLUMNS: [&str; 4] = ["ours", "HAProxy", "nginx", "argocd-server"];

impl Row {
    pub fn new(what: &str, goal: &str, result: String, is_met: bool) -> Self {
        Self { what: what.into(), goal: goal.into(), result, is_met, values: Vec::new() }
    }

    /// One that is no goal.
    pub fn told(what: &str, result: String) -> Self {
        Self::new(what, "", result, true)
    }

    #[must_use]
    pub fn value(mut self, candidate: &'static str, value: String) -> Self {
        self.values.push((candidate, value));
        self
    }

    /// A line of Markdown.
    pub fn line(&self) -> String {
        let mut line = format!("| {} |", self.what);
        for column in COLUMNS {
            let value = self.values.iter().find(|(name, _)| *name == column);
            let _ = write!(line, " {} |", value.map_or("", |(_, value)| value));
        }
        let met = match self.is_met {
            _ if self.goal.is_empty() => "",
            true => "met",
            false => "**missed**",
        };
        let _ = write!(line, " {} | {} | {met} |", self.result, self.goal);
        line
    }
}

/// What stands above the lines.
pub fn heading() -> String {
    format!("| What | {} | Result | Goal | |\n|---|{}---|---|---|", COLUMNS.join(" | "), "---|".repeat(COLUMNS.len()))
}

/// With a separator between thousands.
pub fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub fn micros(time: std::time::Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}

pub fn millis(time: std::time::Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

pub fn megabytes(bytes: f64) -> String {
    format!("{:.0} MB", bytes / f64::from(1 << 20))
}
