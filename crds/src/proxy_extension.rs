//! The `ProxyExtension` resource. A field stands here only when it works.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

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
    derive = "PartialEq",
    status = "ProxyExtensionStatus",
    printcolumn(name = "Route", type_ = "string", json_path = ".status.route"),
    printcolumn(name = "Services", type_ = "integer", json_path = ".status.serviceCount"),
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type=='Accepted')].status"),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Programmed')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Programmed')].reason",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ProxyExtensionSpec {
    /// Route name: the path segment after `/extensions/`. Letters, digits, hyphens and underscores. Default: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    pub name: Option<String>,
    /// The services behind the extension and how to connect to them.
    pub backend: Backend,
}

/// Backend says which services answer and how connections to them are made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rule("self.services.size() < 2 || self.services.all(s, has(s.cluster))", "with more than one service each needs cluster.name or cluster.server")))]
pub struct Backend {
    /// How long to wait for a connection, as a Go duration. Default: 2s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-validations" = duration_rule()))]
    pub connection_timeout: Option<String>,
    /// Interval of TCP keep-alive probes, as a Go duration; negative turns them off. Default: 15s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-validations" = duration_rule()))]
    pub keep_alive: Option<String>,
    /// How long an unused connection is kept, as a Go duration. Default: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-validations" = duration_rule()))]
    pub idle_connection_timeout: Option<String>,
    /// How many unused connections are kept for each service. Default: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_idle_connections: Option<i64>,
    /// The services. With more than one, each names the cluster that it serves.
    #[schemars(length(min = 1, max = 64))]
    pub services: Vec<Service>,
}

/// Service is one backend address, for all clusters or for one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Absolute `http` or `https` URL. Its path is put before the request's.
    #[schemars(length(min = 1, max = 2048))]
    #[schemars(extend("x-kubernetes-validations" = rule("self.startsWith('http://') || self.startsWith('https://')", "must be an absolute URL that starts with http:// or https://")))]
    pub url: String,
    /// The cluster whose applications this service answers for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterMatch>,
    /// Headers that are set on each request to this service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub headers: Vec<Header>,
}

/// ClusterMatch names a cluster of Argo CD by its name, its server address, or both.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rule("has(self.name) || has(self.server)", "name or server must be given")))]
pub struct ClusterMatch {
    /// Name of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub name: Option<String>,
    /// API server address of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub server: Option<String>,
}

/// Header is a name with a value, or with a reference to one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rule("has(self.value) != has(self.valueFrom)", "exactly one of value and valueFrom must be given")))]
pub struct Header {
    /// Name of the header. The `Argocd-*` headers that the proxy itself sets are ignored.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// The value as it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub value: Option<String>,
    /// Where the value is read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueSource>,
}

/// ValueSource says where a header's value is read from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rule("has(self.secretKeyRef)", "secretKeyRef must be given")))]
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

/// ProxyExtensionStatus says what became of the object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyExtensionStatus {
    /// The `metadata.generation` that the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Path of the extension below Argo CD's root, while it is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// How many services are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_count: Option<i64>,
    /// The services that are served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceStatus>,
    /// `Accepted`: the object is valid and its name is free. `ResolvedRefs`: everything that it refers to may be read.
    /// `Programmed`: it is served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// ServiceStatus is a service as it is served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Where requests go.
    pub url: String,
    /// The cluster that it answers for; missing for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// A CEL rule that the API server checks, and what it says when it fails.
fn rule(rule: &str, message: &str) -> Value {
    json!([{"rule": rule, "message": message}])
}

fn duration_rule() -> Value {
    rule(
        "self.matches('^[-+]?(0|([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+$')",
        "must be a Go duration, a number with a unit such as 300ms, 2s or 1m30s",
    )
}
