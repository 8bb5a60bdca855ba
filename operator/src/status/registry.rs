//! The status of the ExtensionRegistry.

use crds::{ExtensionRegistryStatus, Problem, RegistryEntry, ReplicaStatus};

use super::conditions::{joined, reason};
use crate::controller::Report;
use crate::verdict::{State, Verdict};

pub(super) fn desired(report: &Report, replicas: Vec<ReplicaStatus>) -> ExtensionRegistryStatus {
    let counts = report.counts();
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    ExtensionRegistryStatus {
        hash: Some(report.hash.clone()).filter(|hash| !hash.is_empty()),
        accepted: count(counts.accepted),
        invalid: count(counts.invalid),
        conflicted: count(counts.conflicted),
        entries: report.verdicts.iter().map(|verdict| entry(report, verdict)).collect(),
        replicas,
    }
}

fn entry(report: &Report, verdict: &Verdict) -> RegistryEntry {
    let extension = verdict.extension.as_ref();
    let problems: Vec<&Problem> = verdict.problems.iter().collect();
    RegistryEntry {
        name: extension.map(|extension| extension.name.clone()),
        source: verdict.place.object.clone(),
        entry: Some(verdict.place.entry.clone()).filter(|entry| !entry.is_empty()),
        state: state(verdict.state).to_owned(),
        reason: reason(verdict).to_owned(),
        message: Some(joined(&problems)).filter(|message| !message.is_empty()),
        services: report.services(verdict),
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Accepted => "Accepted",
        State::Invalid => "Invalid",
        State::Conflicted => "Conflicted",
    }
}
