//! Events for entries that become invalid, or valid again.

use std::collections::HashMap;

use crds::{ExtensionRegistryStatus, RegistryEntry};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType};

use crate::controller::Report;

/// What an Event's note may hold.
const LONGEST_NOTE: usize = 1000;
const ACCEPTED: &str = "Accepted";

/// An Event, and the object that it is about.
pub(super) struct Transition {
    pub(super) event: Event,
    pub(super) about: ObjectReference,
}

/// What changed between what the registry says and what it is about to say. An entry that was never heard of before
/// is told of only where it is bad.
pub(super) fn transitions(
    before: Option<&ExtensionRegistryStatus>,
    now: &ExtensionRegistryStatus,
    report: &Report,
) -> Vec<Transition> {
    let known: HashMap<_, &RegistryEntry> =
        before.iter().flat_map(|before| &before.entries).map(|entry| (identity(entry), entry)).collect();
    let mut transitions = Vec::new();
    for entry in &now.entries {
        let before = known.get(&identity(entry)).copied();
        let was_good = before.is_none_or(|before| before.state == ACCEPTED);
        let is_good = entry.state == ACCEPTED;
        if was_good == is_good && (is_good || before.is_some_and(|before| before.message == entry.message)) {
            continue;
        }
        if let Some(about) = report.object(&entry.source) {
            transitions.push(Transition { event: event(entry, is_good), about });
        }
    }
    let current: HashMap<_, &RegistryEntry> = now.entries.iter().map(|entry| (identity(entry), entry)).collect();
    let is_gone = |entry: &&RegistryEntry| entry.state != ACCEPTED && !current.contains_key(&identity(entry));
    for entry in before.iter().flat_map(|before| &before.entries).filter(is_gone).filter(|entry| entry.name.is_none()) {
        // A part of the configuration about which there is nothing to say any more.
        if let Some(about) = report.object(&entry.source) {
            transitions.push(Transition { event: event(entry, true), about });
        }
    }
    transitions
}

/// An extension is the same one wherever in its object it stands.
fn identity(entry: &RegistryEntry) -> (&str, &str) {
    let within = entry.name.as_deref().filter(|name| !name.is_empty()).or(entry.entry.as_deref());
    (&entry.source, within.unwrap_or_default())
}

fn event(entry: &RegistryEntry, is_good: bool) -> Event {
    let what = entry.name.as_deref().filter(|name| !name.is_empty()).map_or_else(
        || entry.entry.clone().unwrap_or_else(|| entry.source.clone()),
        |name| format!("extension {name}"),
    );
    let note = match (is_good, &entry.message) {
        (true, _) => format!("{what}: valid again"),
        (false, message) => format!("{what}: {}", message.as_deref().unwrap_or("invalid")),
    };
    Event {
        type_: if is_good { EventType::Normal } else { EventType::Warning },
        reason: if is_good { ACCEPTED.into() } else { entry.reason.clone() },
        note: Some(note.chars().take(LONGEST_NOTE).collect()),
        action: "Reconcile".into(),
        secondary: None,
    }
}
