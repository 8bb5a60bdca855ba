//! The `ExtensionRegistry` resource: what became of every entry, wherever it was written.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// ExtensionRegistry reports every extension of an Argo CD, those of `argocd-cm` included. The proxy makes the one
/// object `argocd` and writes its status; there is nothing to configure.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "extensions.argoproj.io",
    version = "v1alpha1",
    kind = "ExtensionRegistry",
    doc = "ExtensionRegistry reports every extension of an Argo CD, those of `argocd-cm` included.",
    plural = "extensionregistries",
    shortname = "extreg",
    category = "argocd",
    namespaced,
    derive = "PartialEq",
    status = "ExtensionRegistryStatus",
    printcolumn(name = "Accepted", type_ = "integer", json_path = ".status.accepted"),
    printcolumn(name = "Invalid", type_ = "integer", json_path = ".status.invalid"),
    printcolumn(name = "Conflicted", type_ = "integer", json_path = ".status.conflicted"),
    printcolumn(name = "Hash", type_ = "string", json_path = ".status.hash"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ExtensionRegistrySpec {}

/// ExtensionRegistryStatus is the registry as the leading replica sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtensionRegistryStatus {
    /// Distinguishes one set of served extensions, with their settings and secrets, from another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Entries that are served.
    #[serde(default)]
    pub accepted: i64,
    /// Entries that are not served because of themselves.
    #[serde(default)]
    pub invalid: i64,
    /// Entries that are not served because another extension has their name.
    #[serde(default)]
    pub conflicted: i64,
    /// Every extension, and every other part of the configuration about which there is something to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<RegistryEntry>,
    /// The replicas, and what each of them serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicaStatus>,
}

/// RegistryEntry is one entry of the configuration and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryEntry {
    /// The extension's name, where the entry is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The object that it stands in, such as `ConfigMap argocd/argocd-cm`.
    pub source: String,
    /// Key and position within the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// `Accepted`, `Invalid` or `Conflicted`.
    pub state: String,
    /// Why, in one word.
    pub reason: String,
    /// What is wrong and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where the extension's requests go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<crate::ServiceStatus>,
}

/// ReplicaStatus is one running replica.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// Name of its pod.
    pub name: String,
    /// Hash of what it serves.
    pub hash: String,
    /// Since when, RFC 3339.
    pub since: String,
}
