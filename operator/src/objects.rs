//! What of Kubernetes objects is read, and how it is decoded: one bad object never hides another.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crds::{PortRef, ProxyExtensionSpec};
use dataplane::application::{Application, Destination};
use dataplane::project::{DestinationSource, ProjectSource, RoleSource, TokenRecord};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Namespace and name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    ConfigMap,
    Secret,
    AppProject,
    Application,
    ProxyExtension,
    Service,
}

impl ObjectKind {
    /// The kind, if it is one that is read.
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        Some(match (group, kind) {
            ("", "ConfigMap") => Self::ConfigMap,
            ("", "Secret") => Self::Secret,
            ("", "Service") => Self::Service,
            ("argoproj.io", "AppProject") => Self::AppProject,
            ("argoproj.io", "Application") => Self::Application,
            ("extensions.argoproj.io", "ProxyExtension") => Self::ProxyExtension,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::AppProject => "AppProject",
            Self::Application => "Application",
            Self::ProxyExtension => "ProxyExtension",
            Self::Service => "Service",
        }
    }
}

/// An object as messages name it: `ConfigMap argocd/argocd-cm`.
pub fn describe(kind: ObjectKind, key: &ObjectKey) -> String {
    format!("{} {key}", kind.as_str())
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConfigMap {
    pub uid: String,
    pub data: BTreeMap<String, String>,
}

/// Values never print.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret {
    pub labels: BTreeMap<String, String>,
    pub data: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("keys", &self.data.keys()).finish_non_exhaustive()
    }
}

impl Secret {
    const PART_OF: &str = "app.kubernetes.io/part-of";
    const SECRET_TYPE: &str = "argocd.argoproj.io/secret-type";

    /// Whether the configuration may refer to it.
    pub fn is_part_of_argocd(&self) -> bool {
        self.labels.get(Self::PART_OF).is_some_and(|value| value == "argocd")
    }

    /// `cluster`, `repository`, … for the secrets in which Argo CD keeps its own objects.
    pub fn argocd_type(&self) -> Option<&str> {
        self.labels.get(Self::SECRET_TYPE).map(String::as_str)
    }

    /// A key's value as text; what is not UTF-8 is nothing.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.data.get(key).and_then(|value| std::str::from_utf8(value).ok())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ProxyExtensionObject {
    pub spec: ProxyExtensionSpec,
    /// RFC 3339, which sorts by time. Empty where unknown.
    pub created: String,
    pub uid: String,
    pub generation: Option<i64>,
    /// As it was last written, by whomever.
    pub status: Value,
    pub unknown_fields: Vec<String>,
}

/// A decoded object.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    ConfigMap(ConfigMap),
    Secret(Secret),
    AppProject(ProjectSource),
    Application(Arc<Application>),
    ProxyExtension(Arc<ProxyExtensionObject>),
    Service(ServiceObject),
}

/// What of a Service says how it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceObject {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    pub external_name: String,
    pub ports: Vec<ServicePort>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort {
    pub name: String,
    pub port: u16,
    pub target_port: Option<PortRef>,
    pub app_protocol: String,
}

/// Name and namespace out of an object that may be unreadable otherwise.
pub fn key_of(object: &Value, default_namespace: &str) -> Option<ObjectKey> {
    let metadata = object.get("metadata")?;
    let name = metadata.get("name").and_then(Value::as_str).filter(|name| !name.is_empty())?;
    let namespace = metadata.get("namespace").and_then(Value::as_str).filter(|ns| !ns.is_empty());
    Some(ObjectKey::new(namespace.unwrap_or(default_namespace), name))
}

/// Decodes an object. The error names the field.
pub fn decode(kind: ObjectKind, object: Value, shared: &mut Interner) -> Result<Object, String> {
    Ok(match kind {
        ObjectKind::ConfigMap => Object::ConfigMap(read::<RawConfigMap>(object)?.into()),
        ObjectKind::Secret => Object::Secret(read::<RawSecret>(object)?.decode()?),
        ObjectKind::AppProject => Object::AppProject(read::<RawProject>(object)?.into()),
        ObjectKind::Application => Object::Application(Arc::new(read::<RawApplication>(object)?.shared(shared))),
        ObjectKind::ProxyExtension => Object::ProxyExtension(Arc::new(proxy_extension(object)?)),
        ObjectKind::Service => Object::Service(read::<RawService>(object)?.spec),
    })
}

fn read<T: DeserializeOwned>(object: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(object).map_err(|error| {
        // Values may be secrets: of serde's message only the part that names types is kept.
        let message = error.inner().to_string();
        let kind = match message.split_once("expected ") {
            Some((_, expected)) => format!("has the wrong type; expected {expected}"),
            None => message,
        };
        match error.path().to_string().as_str() {
            "." => kind,
            path => format!("{path}: {kind}"),
        }
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawMeta {
    name: String,
    uid: String,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "creationTimestamp")]
    creation_timestamp: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawConfigMap {
    metadata: RawMeta,
    data: Option<BTreeMap<String, Option<String>>>,
}

impl From<RawConfigMap> for ConfigMap {
    fn from(raw: RawConfigMap) -> Self {
        let data = raw.data.unwrap_or_default().into_iter();
        Self { uid: raw.metadata.uid, data: data.map(|(key, value)| (key, value.unwrap_or_default())).collect() }
    }
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawSecret {
    metadata: RawMeta,
    data: Option<BTreeMap<String, Option<String>>>,
    string_data: Option<BTreeMap<String, Option<String>>>,
}

impl RawSecret {
    fn decode(self) -> Result<Secret, String> {
        let mut data = BTreeMap::new();
        for (key, value) in self.data.unwrap_or_default() {
            let packed: String = value.unwrap_or_default().split_whitespace().collect();
            let value = STANDARD
                .decode(packed)
                .map_err(|_| format!("data.{key}: is not base64; encode it, or put the plain text under stringData"))?;
            data.insert(key, value);
        }
        for (key, value) in self.string_data.unwrap_or_default() {
            data.insert(key, value.unwrap_or_default().into_bytes());
        }
        Ok(Secret { labels: self.metadata.labels.unwrap_or_default(), data })
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawService {
    spec: ServiceObject,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawProject {
    metadata: RawMeta,
    spec: RawProjectSpec,
    status: Option<RawProjectStatus>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawProjectSpec {
    destinations: Option<Vec<RawDestination>>,
    permit_only_project_scoped_clusters: bool,
    source_namespaces: Option<Vec<String>>,
    roles: Option<Vec<RawRole>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawRole {
    name: String,
    groups: Option<Vec<String>>,
    policies: Option<Vec<String>>,
    jwt_tokens: Option<Vec<RawToken>>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct RawToken {
    id: String,
    iat: i64,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawProjectStatus {
    jwt_tokens_by_role: Option<BTreeMap<String, RawTokens>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawTokens {
    items: Option<Vec<RawToken>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawDestination {
    server: String,
    name: String,
    namespace: String,
}

impl From<RawProject> for ProjectSource {
    fn from(raw: RawProject) -> Self {
        let by_role = raw.status.and_then(|status| status.jwt_tokens_by_role).unwrap_or_default();
        let role = |role: RawRole| {
            let in_status = by_role.get(&role.name).and_then(|tokens| tokens.items.clone()).unwrap_or_default();
            let tokens = role.jwt_tokens.unwrap_or_default().into_iter().chain(in_status);
            RoleSource {
                name: role.name,
                groups: role.groups.unwrap_or_default(),
                policies: role.policies.unwrap_or_default(),
                tokens: tokens.map(|token| TokenRecord { id: token.id, issued_at: token.iat }).collect(),
            }
        };
        Self {
            name: raw.metadata.name,
            destinations: raw
                .spec
                .destinations
                .unwrap_or_default()
                .into_iter()
                .map(|d| DestinationSource { server: d.server, name: d.name, namespace: d.namespace })
                .collect(),
            permit_only_project_scoped_clusters: raw.spec.permit_only_project_scoped_clusters,
            source_namespaces: raw.spec.source_namespaces.unwrap_or_default(),
            roles: raw.spec.roles.unwrap_or_default().into_iter().map(role).collect(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawApplication {
    spec: RawApplicationSpec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawApplicationSpec {
    project: String,
    destination: RawDestination,
}

impl RawApplication {
    fn shared(self, shared: &mut Interner) -> Application {
        let project = if self.spec.project.is_empty() { "default" } else { &self.spec.project };
        let RawDestination { server, name, namespace } = self.spec.destination;
        Application {
            project: shared.project(project),
            destination: shared.destination(Destination { server, name, namespace }),
        }
    }
}

/// Lets applications share what many of them have in common.
#[derive(Default)]
pub struct Interner {
    projects: Pool<str>,
    destinations: Pool<Destination>,
}

impl Interner {
    fn project(&mut self, name: &str) -> Arc<str> {
        self.projects.share(name)
    }

    fn destination(&mut self, destination: Destination) -> Arc<Destination> {
        self.destinations.share(destination)
    }
}

/// Each value once, for as long as something else holds it.
struct Pool<T: ?Sized> {
    known: HashSet<Arc<T>>,
    /// With so many, those go that nothing else holds any more.
    tidied_at: usize,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), tidied_at: 1024 }
    }
}

impl<T: Eq + Hash + ?Sized> Pool<T> {
    fn share<V: Borrow<T> + Into<Arc<T>>>(&mut self, value: V) -> Arc<T> {
        if let Some(known) = self.known.get(value.borrow()) {
            return known.clone();
        }
        if self.known.len() >= self.tidied_at {
            self.known.retain(|value| Arc::strong_count(value) > 1);
            self.tidied_at = self.tidied_at.max(2 * self.known.len());
        }
        let value = value.into();
        self.known.insert(value.clone());
        value
    }
}

fn proxy_extension(object: Value) -> Result<ProxyExtensionObject, String> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default)]
        metadata: RawMeta,
        spec: ProxyExtensionSpec,
        #[serde(default)]
        status: Value,
    }
    let written = object.get("spec").cloned().unwrap_or_default();
    let raw: Raw = read(object)?;
    let understood = serde_json::to_value(&raw.spec).unwrap_or_default();
    let mut unknown_fields = Vec::new();
    unknown(&written, &understood, "spec", &mut unknown_fields);
    Ok(ProxyExtensionObject {
        spec: raw.spec,
        created: raw.metadata.creation_timestamp.unwrap_or_default(),
        uid: raw.metadata.uid,
        generation: raw.metadata.generation,
        status: raw.status,
        unknown_fields,
    })
}

/// Paths of fields that were written but not understood.
fn unknown(written: &Value, understood: &Value, path: &str, found: &mut Vec<String>) {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            for (key, value) in written.iter().filter(|(_, value)| !value.is_null()) {
                let path = format!("{path}.{key}");
                match understood.get(key) {
                    Some(known) => unknown(value, known, &path, found),
                    None if value.as_array().is_some_and(Vec::is_empty) => {}
                    None => found.push(path),
                }
            }
        }
        (Value::Array(written), Value::Array(understood)) => {
            for (i, (written, understood)) in written.iter().zip(understood).enumerate() {
                unknown(written, understood, &format!("{path}[{i}]"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_application_has_any_more_is_not_kept() {
        let mut shared = Interner::default();
        let destination = |n: usize| Destination { namespace: format!("preview-{n}"), ..Destination::default() };
        let kept: Vec<_> = (0..2_000).map(|n| shared.destination(destination(n))).collect();
        for n in 0..100_000 {
            shared.destination(destination(n));
        }
        assert!(kept.iter().enumerate().all(|(n, kept)| Arc::ptr_eq(kept, &shared.destination(destination(n)))));
        assert!(shared.destinations.known.len() <= 2 * kept.len());
    }
}
