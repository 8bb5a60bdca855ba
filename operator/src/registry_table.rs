//! `status`: the ExtensionRegistry as a table.

use crds::{ExtensionRegistry, ExtensionRegistryStatus, RegistryEntry};

/// One line for each entry, columns aligned; with messages where it is wide.
pub(crate) fn table(registry: &ExtensionRegistry, is_wide: bool) -> String {
    let empty = ExtensionRegistryStatus::default();
    let status = registry.status.as_ref().unwrap_or(&empty);
    let mut rows = vec![header(is_wide)];
    rows.extend(status.entries.iter().map(|entry| row(entry, is_wide)));
    let replicas: Vec<String> = status
        .replicas
        .iter()
        .map(|replica| {
            let is_same = status.hash.as_deref() == Some(replica.hash.as_str());
            format!("{}{}", replica.name, if is_same { "" } else { " (serves something else)" })
        })
        .collect();
    format!(
        "{}\n{} accepted, {} invalid, {} conflicted; served by {}\n",
        aligned(&rows),
        status.accepted,
        status.invalid,
        status.conflicted,
        if replicas.is_empty() { "no replica".to_owned() } else { replicas.join(", ") }
    )
}

fn header(is_wide: bool) -> Vec<String> {
    let narrow = ["NAME", "STATE", "REASON", "HEALTHY", "SERVICES", "SOURCE"];
    narrow.iter().chain(is_wide.then_some(&"MESSAGE")).map(|title| (*title).to_owned()).collect()
}

fn row(entry: &RegistryEntry, is_wide: bool) -> Vec<String> {
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let known: Vec<bool> = entry.services.iter().filter_map(|service| service.healthy).collect();
    let healthy = match known.iter().all(|healthy| *healthy) {
        _ if known.is_empty() => "-".to_owned(),
        true => "yes".into(),
        false => format!("{}/{}", known.iter().filter(|healthy| **healthy).count(), known.len()),
    };
    let services: Vec<&str> = entry.services.iter().map(|service| service.url.as_str()).collect();
    let source =
        [Some(entry.source.as_str()), entry.entry.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let mut row = vec![
        or_dash(entry.name.clone().unwrap_or_default()),
        entry.state.clone(),
        entry.reason.clone(),
        healthy,
        or_dash(services.join(",")),
        source,
    ];
    if is_wide {
        row.push(or_dash(entry.message.clone().unwrap_or_default()));
    }
    row
}

fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    rows.iter()
        .map(|row| {
            let cells =
                row.iter().enumerate().map(|(i, cell)| format!("{cell:<width$}", width = width(i).unwrap_or(0)));
            format!("{}\n", cells.collect::<Vec<_>>().join("   ").trim_end())
        })
        .collect()
}
