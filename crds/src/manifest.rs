//! The CustomResourceDefinitions as YAML.

use kube::CustomResourceExt;
use serde_json::Value;

use crate::{ExtensionRegistry, ProxyExtension};

/// Both, as `kubectl apply -f` takes them.
pub fn manifests() -> String {
    [ProxyExtension::crd(), ExtensionRegistry::crd()]
        .iter()
        .map(|crd| format!("---{}", yaml(&serde_json::to_value(crd).unwrap_or_default())))
        .collect()
}

/// Any value as YAML, each line after a line break, with one at the end.
pub fn yaml(value: &Value) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text + "\n"
}

/// Collections in block style; every text in double quotes, where JSON and YAML mean the same.
fn block(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let name = if is_plain(name) { name.clone() } else { Value::from(name.as_str()).to_string() };
                line(depth, text);
                text.push_str(&name);
                text.push(':');
                block(value, depth + 1, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                line(depth, text);
                text.push('-');
                block(item, depth + 1, text);
            }
        }
        scalar => {
            text.push(' ');
            text.push_str(&scalar.to_string());
        }
    }
}

fn line(depth: usize, text: &mut String) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth));
}

fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '$')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'$' | b'.' | b'/'))
}

#[cfg(test)]
mod tests;
