//! `explain`: every check of one request, for people.

use std::fmt::Write as _;

use dataplane::request::explain::{Call, Explanation, Who, explain};

use crate::look::Sight;
use crate::verdict::State;

/// The text, and whether the request would be served.
pub(crate) async fn report(sight: &Sight, who: Who<'_>, call: Call<'_>) -> (String, bool) {
    let mut text = String::new();
    let about =
        sight.verdicts.iter().filter(|verdict| verdict.extension.as_ref().is_some_and(|e| e.name == call.extension));
    for verdict in about.filter(|verdict| verdict.state != State::Accepted || !verdict.problems.is_empty()) {
        for line in verdict.lines() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {line}");
        }
    }
    let explanation = explain(&sight.snapshot, who, call).await;
    text.push_str(&checks(&explanation));
    match &explanation.answer {
        Ok(route) => {
            text.push_str("\nIt is served. Besides the caller's own headers the backend gets:\n");
            for (name, value) in &route.headers {
                let _ = writeln!(text, "  {name}: {}", value.as_deref().unwrap_or("(configured; not shown)"));
            }
        }
        Err(refusal) => {
            let _ = writeln!(text, "\nIt is refused with {}: {refusal}", refusal.status().as_u16());
        }
    }
    (text, explanation.answer.is_ok())
}

/// A line for each check.
pub(crate) fn checks(explanation: &Explanation) -> String {
    let mut text = String::new();
    for step in &explanation.steps {
        let _ = match &step.outcome {
            Ok(said) => writeln!(text, "  \u{2713} {:<24} {said}", step.check),
            Err(refusal) => writeln!(text, "  \u{2717} {:<24} {refusal}  [{}]", step.check, refusal.label()),
        };
    }
    text
}
