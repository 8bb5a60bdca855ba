//! The status of a ProxyExtension.

use crds::{Problem, ProxyExtensionStatus, Reason, ServiceStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::verdict::{State, Verdict};

/// What the status should be; `services` are those of the verdict with their health. A condition that says what it said keeps the time since when it does.
pub(super) fn desired(
    verdict: &Verdict,
    services: Vec<ServiceStatus>,
    generation: Option<i64>,
    current: Option<&ProxyExtensionStatus>,
    now: Timestamp,
) -> ProxyExtensionStatus {
    let report = verdict.extension.as_ref();
    let is_served = verdict.state == State::Accepted;
    let said = [accepted(verdict), resolved_refs(verdict), programmed(verdict), backends_healthy(verdict, &services)];
    let conditions = said.map(|said| {
        let known = current.and_then(|current| current.conditions.iter().find(|known| known.type_ == said.kind));
        let since = known.filter(|known| known.status == said.status).map(|known| known.last_transition_time.clone());
        Condition {
            type_: said.kind.to_owned(),
            status: said.status.to_owned(),
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

const TRUE: &str = "True";
const FALSE: &str = "False";
const UNKNOWN: &str = "Unknown";

struct Said {
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Said {
    fn new(kind: &'static str, good: &'static str, good_message: String, errors: &[&Problem]) -> Self {
        match errors.first() {
            None => Self { kind, status: TRUE, reason: good, message: good_message },
            Some(first) => Self { kind, status: FALSE, reason: first.reason.as_str(), message: joined(errors) },
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
    if said.status != TRUE {
        said.message = "The extension is not served: see the conditions Accepted and ResolvedRefs.".into();
    }
    said
}

fn backends_healthy(verdict: &Verdict, services: &[ServiceStatus]) -> Said {
    let said = |status, reason, message| Said { kind: "BackendsHealthy", status, reason, message };
    if verdict.state != State::Accepted {
        return said(UNKNOWN, "NotProgrammed", "The extension is not served.".into());
    }
    let down = services.iter().filter(|service| service.healthy == Some(false));
    let down: Vec<String> =
        down.map(|service| format!("{}: {}", service.url, service.last_error.as_deref().unwrap_or("down"))).collect();
    match down.is_empty() {
        true => said(TRUE, "BackendsHealthy", "No backend is known to be down.".into()),
        false => said(FALSE, "BackendsDown", down.join("; ")),
    }
}

fn errors(verdict: &Verdict, of: impl Fn(Reason) -> bool) -> Vec<&Problem> {
    verdict.problems.iter().filter(|problem| problem.is_error() && of(problem.reason)).collect()
}

pub(super) fn joined(problems: &[&Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
