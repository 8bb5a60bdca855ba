//! The status of a ProxyExtension.

use crds::{Problem, ProxyExtensionStatus, Reason, ServiceStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::verdict::{State, Verdict};

/// What the status should be. A condition that says what it said keeps the time since when it does.
pub(super) fn desired(
    verdict: &Verdict,
    generation: Option<i64>,
    current: Option<&ProxyExtensionStatus>,
    now: Timestamp,
) -> ProxyExtensionStatus {
    let report = verdict.extension.as_ref();
    let is_served = verdict.state == State::Accepted;
    let services = services(verdict);
    let conditions = [accepted(verdict), resolved_refs(verdict), programmed(verdict)].map(|said| {
        let known = current.and_then(|current| current.conditions.iter().find(|known| known.type_ == said.kind));
        let status = if said.is_true { "True" } else { "False" };
        let since = known.filter(|known| known.status == status).map(|known| known.last_transition_time.clone());
        Condition {
            type_: said.kind.to_owned(),
            status: status.to_owned(),
            reason: said.reason.to_owned(),
            message: said.message,
            observed_generation: generation,
            last_transition_time: since.unwrap_or(Time(now)),
        }
    });
    ProxyExtensionStatus {
        observed_generation: generation,
        route: report.filter(|_| is_served).map(|report| format!("/extensions/{}/", report.name)),
        service_count: is_served.then(|| i64::try_from(services.len()).unwrap_or(i64::MAX)),
        services: if is_served { services } else { Vec::new() },
        conditions: conditions.into(),
    }
}

/// Where the extension's requests go, or would go.
pub(super) fn services(verdict: &Verdict) -> Vec<ServiceStatus> {
    verdict.extension.as_ref().map(|extension| extension.services.clone()).unwrap_or_default()
}

/// Whether the current status says the same. What others added to it is their affair.
pub(super) fn is_same(desired: &ProxyExtensionStatus, current: Option<&ProxyExtensionStatus>) -> bool {
    current.is_some_and(|current| {
        let mut ours = current.clone();
        ours.conditions.retain(|condition| desired.conditions.iter().any(|d| d.type_ == condition.type_));
        ours.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        let mut desired = desired.clone();
        desired.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        ours == desired
    })
}

/// The first error decides, else the first warning.
pub(super) fn reason(verdict: &Verdict) -> &'static str {
    match verdict.problems.iter().find(|problem| problem.is_error()) {
        Some(error) => error.reason.as_str(),
        None if verdict.problems.is_empty() => "Accepted",
        None => "AcceptedWithWarnings",
    }
}

struct Said {
    kind: &'static str,
    is_true: bool,
    reason: &'static str,
    message: String,
}

impl Said {
    fn new(kind: &'static str, good: &'static str, good_message: String, errors: &[&Problem]) -> Self {
        match errors.first() {
            None => Self { kind, is_true: true, reason: good, message: good_message },
            Some(first) => Self { kind, is_true: false, reason: first.reason.as_str(), message: joined(errors) },
        }
    }
}

fn accepted(verdict: &Verdict) -> Said {
    let errors = errors(verdict, |reason| !reason.is_about_references());
    let warnings: Vec<&Problem> = verdict.problems.iter().filter(|problem| !problem.is_error()).collect();
    let (good, message) = match warnings.is_empty() {
        true => ("Accepted", "The extension is valid.".to_owned()),
        false => ("AcceptedWithWarnings", joined(&warnings)),
    };
    Said::new("Accepted", good, message, &errors)
}

fn resolved_refs(verdict: &Verdict) -> Said {
    let message = "Everything that the extension refers to may be read.".to_owned();
    Said::new("ResolvedRefs", "ResolvedRefs", message, &errors(verdict, Reason::is_about_references))
}

fn programmed(verdict: &Verdict) -> Said {
    let message = "The extension is served.".to_owned();
    let mut said = Said::new("Programmed", "Programmed", message, &errors(verdict, |_| true));
    if !said.is_true {
        said.message = "The extension is not served: see the conditions Accepted and ResolvedRefs.".into();
    }
    said
}

fn errors(verdict: &Verdict, of: impl Fn(Reason) -> bool) -> Vec<&Problem> {
    verdict.problems.iter().filter(|problem| problem.is_error() && of(problem.reason)).collect()
}

pub(super) fn joined(problems: &[&Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
