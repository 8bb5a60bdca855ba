//! The `ProxyExtension` resource. A field stands here only when it works.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// ProxyExtension routes `/extensions/<name>/` of an Argo CD host to backend services.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "extensions.argoproj.io",
    version = "v1alpha1",
    kind = "ProxyExtension",
    plural = "proxyextensions",
    shortname = "pext",
    category = "argocd",
    namespaced,
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct ProxyExtensionSpec {
    /// Route name: the path segment after `/extensions/`. Letters, digits, hyphens and underscores. Default: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    pub name: Option<String>,
    /// The services behind the extension and how to connect to them.
    pub backend: Backend,
}

/// Backend says which services answer and how connections to them are made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// How long to wait for a connection, as a Go duration. Default: 2s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_timeout: Option<String>,
    /// Interval of TCP keep-alive probes, as a Go duration; negative turns them off. Default: 15s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<String>,
    /// How long an unused connection is kept, as a Go duration. Default: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_connection_timeout: Option<String>,
    /// How many unused connections are kept for each service. Default: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_idle_connections: Option<i64>,
    /// The services. With more than one, each names the cluster that it serves.
    #[schemars(length(min = 1))]
    pub services: Vec<Service>,
}

/// Service is one backend address, for all clusters or for one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Absolute `http` or `https` URL. Its path is put before the request's.
    #[schemars(length(min = 1))]
    pub url: String,
    /// The cluster whose applications this service answers for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterMatch>,
    /// Headers that are set on each request to this service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
}

/// ClusterMatch names a cluster of Argo CD by its name, its server address, or both.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterMatch {
    /// Name of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// API server address of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// Header is a name with a value, or with a reference to one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Name of the header. The `Argocd-*` headers that the proxy itself sets are refused.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The value as it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where the value is read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueSource>,
}

/// ValueSource says where a header's value is read from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValueSource {
    /// A key of a Secret in the object's namespace that is labelled `app.kubernetes.io/part-of: argocd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeySelector>,
}

/// SecretKeySelector names one key of one Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeySelector {
    /// Name of the Secret.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Key within its data.
    #[schemars(length(min = 1))]
    pub key: String,
}
