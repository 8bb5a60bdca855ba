//! The `ProxyExtension` resource. A field stands here only when it works.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// ProxyExtension routes `/extensions/<name>/` of an Argo CD host to backend services.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "extensions.argoproj.io",
    version = "v1alpha1",
    kind = "ProxyExtension",
    doc = "ProxyExtension routes `/extensions/<name>/` of an Argo CD host to backend services.",
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
        json_path = ".status.conditions[?(@.type=='Programmed')].status",
        priority = 1
    ),
    printcolumn(
        name = "Healthy",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='BackendsHealthy')].status"
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
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("!has(self.scope) || self.scope != 'Global' || !has(self.projects)", "projects restricts applications, which a Global extension can be called without; remove projects or use the scope Application"),
    ("!has(self.scope) || self.scope != 'Global' || self.backend.services.all(s, !has(s.cluster))", "a Global extension can be called without an application, so that its services cannot be chosen by cluster; remove cluster or use the scope Application"),
])))]
pub struct ProxyExtensionSpec {
    /// Route name: the path segment after `/extensions/`. Letters, digits, hyphens and underscores. Default: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    pub name: Option<String>,
    /// `Application`: each request names an application, which decides who may call and which service answers.
    /// `Global`: a request need not name one, and the right `extensions, invoke, <name>` suffices; where one is named
    /// all the same, it is checked and told to the backend. Default: `Application`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Globs of projects for whose applications the extension may be called. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    pub projects: Option<Vec<String>>,
    /// The services behind the extension and how to connect to them.
    pub backend: Backend,
}

/// Scope says whether a request names an application.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Scope {
    #[default]
    Application,
    Global,
}

/// Backend says which services answer and how connections to them are made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rule("self.services.all(s, has(s.cluster)) || self.services.all(s, !has(s.cluster))", "either every service names its cluster or none does")))]
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
    /// How long a backend may take until the head of its answer, connecting included, as a Go duration; past it the
    /// caller gets 504. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-validations" = duration_rule()))]
    pub request_timeout: Option<String>,
    /// How long an answer or a WebSocket may carry nothing until it is ended, as a Go duration. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-validations" = duration_rule()))]
    pub stream_idle_timeout: Option<String>,
    /// Bytes that the body of a request may have; past it the caller gets 413. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_request_body_bytes: Option<i64>,
    /// Requests and streams that each replica of the proxy serves for the extension at one time; past it the caller
    /// gets 503 with `Retry-After`. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_concurrent_requests: Option<i64>,
    /// The services. Those that name the same cluster share its requests: each goes to the healthy one that has the
    /// fewest open. Either every service names its cluster or none does.
    #[schemars(length(min = 1, max = 64))]
    pub services: Vec<Service>,
}

/// Service is one backend address, for all clusters or for some.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("has(self.url) != has(self.serviceRef)", "exactly one of url and serviceRef must be given"),
    ("!has(self.tls) || !has(self.url) || self.url.startsWith('https://')", "tls needs a url that starts with https://"),
    ("!has(self.tls) || !has(self.serviceRef) || (has(self.serviceRef.scheme) && self.serviceRef.scheme == 'https')", "tls needs serviceRef.scheme https"),
])))]
pub struct Service {
    /// Absolute `http` or `https` URL. Its path is put before the request's. Exactly one of `url` and `serviceRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[schemars(extend("x-kubernetes-validations" = rule("self.startsWith('http://') || self.startsWith('https://')", "must be an absolute URL that starts with http:// or https://")))]
    pub url: Option<String>,
    /// A Service of the cluster that the proxy runs in. It is followed when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_ref: Option<ServiceRef>,
    /// The clusters whose applications this service answers for. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterMatch>,
    /// Headers that are set on each request to this service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub headers: Vec<Header>,
    /// How the service is trusted and who the proxy is to it. Only with `https`. Default: the system's certificates
    /// are trusted, and no certificate is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
    /// Asks the service from time to time whether it is well. Without it a service is taken for down when three
    /// connections in a row could not be made, until one can be made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
}

/// ServiceRef names a port of a Service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRef {
    /// Name of the Service.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace; another one than the ProxyExtension's only where that is Argo CD's own. Default: the
    /// ProxyExtension's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Name or number of one of its ports. Default: its only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub port: Option<PortRef>,
    /// `http` or `https`. Default: `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<ServiceScheme>,
    /// Put before the request's path. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[schemars(extend("x-kubernetes-validations" = rule("self.startsWith('/')", "must start with /")))]
    pub path: Option<String>,
}

/// ServiceScheme is how a Service is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceScheme {
    #[default]
    Http,
    Https,
}

/// PortRef is a port by its number or its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected the number or the name of a port")]
pub enum PortRef {
    Number(u16),
    Name(String),
}

impl std::fmt::Display for PortRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}

/// ClusterMatch says which clusters of Argo CD are meant: every one to which at least one of its fields applies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rule("has(self.name) || has(self.server) || has(self.selector)", "name, server or selector must be given")))]
pub struct ClusterMatch {
    /// Name of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub name: Option<String>,
    /// API server address of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub server: Option<String>,
    /// Label selector on Argo CD's cluster Secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// BackendTls says how TLS is spoken with a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendTls {
    /// Certificates that are trusted instead of the system's. Changes are taken over at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
    /// The certificate and key that the proxy shows. Changes are taken over at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<ClientCertificateRef>,
    /// Name that the service's certificate must be for. Default: the host of the URL, or
    /// `<name>.<namespace>.svc` of the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub server_name: Option<String>,
}

/// CaRef names the object that holds certificates to trust.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaRef {
    /// `ConfigMap` or `Secret`. Default: `ConfigMap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<CaKind>,
    /// Name of the object, in the ProxyExtension's namespace. A Secret must be labelled
    /// `app.kubernetes.io/part-of: argocd`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key of the PEM text within its data. Default: `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

/// CaKind is the kind of object that holds certificates to trust.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CaKind {
    #[default]
    ConfigMap,
    Secret,
}

/// ClientCertificateRef names a Secret of type `kubernetes.io/tls`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientCertificateRef {
    /// Name of a Secret with the keys `tls.crt` and `tls.key`, in the ProxyExtension's namespace and labelled
    /// `app.kubernetes.io/part-of: argocd`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// HealthCheck is a GET request whose answer must have a status from 200 to 399.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// Path and query, as the service itself names them: the path of `url` or `serviceRef` is not put before it.
    #[schemars(length(min = 1, max = 2048))]
    #[schemars(extend("x-kubernetes-validations" = rule("self.startsWith('/')", "must start with /")))]
    pub path: String,
    /// Time from one check to the next, as a Go duration, at least 100ms. Default: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-validations" = duration_rule()))]
    pub interval: Option<String>,
    /// How long a check may take, as a Go duration. Default: 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-validations" = duration_rule()))]
    pub timeout: Option<String>,
    /// How many checks in a row must fail until the service is taken for down. One that succeeds brings it back.
    /// Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_threshold: Option<i64>,
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
    /// `Programmed`: it is served. `BackendsHealthy`: no service is known to be down.
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
    /// The clusters that it answers for; missing for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Whether the leading replica takes it for healthy; missing while it is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// A CEL rule that the API server checks, and what it says when it fails.
fn rule(rule: &str, message: &str) -> Value {
    rules(&[(rule, message)])
}

fn rules(rules: &[(&str, &str)]) -> Value {
    rules.iter().map(|(rule, message)| json!({"rule": rule, "message": message})).collect()
}

fn int_or_string(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true})
}

fn duration_rule() -> Value {
    rule(
        "self.matches('^[-+]?(0|([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+$')",
        "must be a Go duration, a number with a unit such as 300ms, 2s or 1m30s",
    )
}
