//! The reference of every field, as Markdown, out of the schema that the API server checks: it cannot say otherwise.

use std::fmt::Write as _;

use kube::CustomResourceExt;
use serde_json::{Map, Value};

use crate::{ExtensionRegistry, ProxyExtension};

const HEAD: &str = "# Reference\n\nGenerated from the CustomResourceDefinitions by `UPDATE=1 cargo test -p crds`: do not edit.\n\n\
    Fields in **bold** must be given. Durations are Go's: a number with a unit, such as `300ms`, `2s` or `1m30s`.\n";

/// All fields of both kinds.
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    for crd in [ProxyExtension::crd(), ExtensionRegistry::crd()] {
        let (kind, group) = (&crd.spec.names.kind, &crd.spec.group);
        for version in &crd.spec.versions {
            let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
            let schema = serde_json::to_value(schema).unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = write!(text, "\n## {kind}\n\n`{group}/{}`. {}\n", version.name, description(&schema));
            for part in ["spec", "status"] {
                let part_schema = &schema["properties"][part];
                if part_schema["properties"].as_object().is_some_and(|fields| !fields.is_empty()) {
                    table(part_schema, part, &mut text);
                }
            }
        }
    }
    text
}

fn table(schema: &Value, path: &str, text: &mut String) {
    let _ = write!(text, "\n### `{path}`\n\n| Field | Type | Meaning |\n|---|---|---|\n");
    rows(schema, path, text);
    let rules: Vec<String> = rules(schema, path);
    if !rules.is_empty() {
        let _ = write!(text, "\nRefused by the API server:\n\n{}\n", rules.join("\n"));
    }
}

fn rows(schema: &Value, path: &str, text: &mut String) {
    let Some(fields) = schema["properties"].as_object() else { return };
    for (name, field) in fields {
        let path = format!("{path}.{name}");
        let shown = if is_required(schema, name) { format!("**`{path}`**") } else { format!("`{path}`") };
        let _ = writeln!(text, "| {shown} | {} | {} |", kind(field), cell(field));
        rows(field, &path, text);
        rows(&field["items"], &format!("{path}[]"), text);
    }
}

fn is_required(schema: &Value, name: &str) -> bool {
    schema["required"].as_array().is_some_and(|required| required.iter().any(|field| field == name))
}

fn kind(field: &Value) -> String {
    if field["x-kubernetes-int-or-string"] == true {
        return "integer or string".into();
    }
    if let Some(values) = field["enum"].as_array() {
        let values: Vec<String> = values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
        return values.join(", ");
    }
    match field["type"].as_str().unwrap_or("object") {
        "array" => format!("list of {}", kind(&field["items"])),
        "object" if field["additionalProperties"].is_object() => "map of strings".into(),
        kind => kind.to_owned(),
    }
}

/// The description, and what the schema limits.
fn cell(field: &Value) -> String {
    let limits: Vec<String> = [("minimum", "at least"), ("maximum", "at most")]
        .iter()
        .filter_map(|(key, words)| field[*key].as_f64().map(|limit| format!("{words} {limit}")))
        .collect();
    let limits = if limits.is_empty() { String::new() } else { format!(" ({})", limits.join(", ")) };
    format!("{}{limits}", description(field)).replace('|', "\\|")
}

fn description(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Every CEL rule's message, with the path that it is about.
fn rules(schema: &Value, path: &str) -> Vec<String> {
    let own = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    let own = own.filter_map(|rule| rule["message"].as_str()).map(|message| format!("- `{path}`: {message}"));
    let empty = Map::new();
    let fields = schema["properties"].as_object().unwrap_or(&empty);
    let below = fields.iter().flat_map(|(name, field)| {
        let path = format!("{path}.{name}");
        let items = rules(&field["items"], &format!("{path}[]"));
        rules(field, &path).into_iter().chain(items)
    });
    own.chain(below).collect()
}

#[cfg(test)]
mod tests;
