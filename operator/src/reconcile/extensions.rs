//! The registry of extensions out of both sources. A name counts once: `argocd-cm` first, then the older object.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::draft::BackendDraft;
use crds::valid::{self, Backend, HeaderSource, Origin};
use crds::{Problem, Reason, Scheme, SecretKeySelector, ServiceStatus, check_name};
use dataplane::Snapshot;
use dataplane::extension::{
    Address, ClusterMatch, ConnectionSettings, Extension, Extensions, Service, ServiceSettings,
};
use http::{HeaderName, HeaderValue};

use super::extension_config::{self, ReadableTexts};
use super::references::References;
use super::{CONFIG, SECRET, config_map};
use crate::inputs::Inputs;
use crate::objects::{self, ObjectKey, ObjectKind, ProxyExtensionObject};
use crate::verdict::{ExtensionReport, Place, State, Verdict};

pub(super) fn read(
    inputs: &Inputs,
    namespace: &str,
    references: &References<'_>,
    readable: &mut ReadableTexts,
    before: Option<&Snapshot>,
    verdicts: &mut Vec<Verdict>,
) -> Extensions {
    let mut registry = Registry { before, extensions: Extensions::new(), owners: BTreeMap::new(), verdicts };
    let empty = BTreeMap::new();
    let config = inputs.config(namespace, CONFIG).unwrap_or(&empty);
    let object = config_map(namespace, CONFIG);
    let (entries, findings) = extension_config::read(config, references, readable);
    for finding in findings {
        registry.verdicts.push(Verdict::on(Place::new(object.as_str(), finding.key), vec![finding.problem]));
    }
    for entry in entries {
        let place = Place::new(object.as_str(), entry.place);
        let resolve = |_: &SecretKeySelector| Err((Reason::Invalid, "is no field of argocd-cm".into()));
        registry.add(place, entry.name, &entry.backend, Origin::ArgoCdConfigMap, entry.problems, resolve);
    }
    let mut objects: Vec<_> = inputs.proxy_extensions.iter().collect();
    objects.sort_by(|(a, x), (b, y)| (&x.created, a).cmp(&(&y.created, b)));
    for (key, object) in objects {
        add_object(&mut registry, inputs, namespace, key, object);
    }
    registry.extensions
}

fn add_object(
    registry: &mut Registry<'_>,
    inputs: &Inputs,
    namespace: &str,
    key: &ObjectKey,
    object: &ProxyExtensionObject,
) {
    let name = object.spec.name.clone().unwrap_or_else(|| key.name.clone());
    let mut problems: Vec<Problem> =
        object.unknown_fields.iter().map(|field| Problem::warning(field, "is not known and has no effect")).collect();
    if key.namespace != namespace {
        let message = format!("only ProxyExtensions in Argo CD's namespace {namespace:?} count; move it there");
        problems.push(Problem::error("metadata.namespace", message).because(Reason::NamespaceNotAllowed));
    }
    if let Err(error) = check_name(&name) {
        problems.push(Problem::error("spec.name", format!("{name:?}: {error}")));
    }
    let place = Place::new(objects::describe(ObjectKind::ProxyExtension, key), "");
    let backend = BackendDraft::from(&object.spec.backend);
    let resolve = |selector: &SecretKeySelector| header_secret(inputs, &key.namespace, selector);
    registry.add(place, name, &backend, Origin::ProxyExtension, problems, resolve);
}

/// The value of a header, or why there is none.
type Resolved = Result<String, (Reason, String)>;

/// A Secret that a ProxyExtension may read: whoever may write one must not read Argo CD's keys through a header.
fn header_secret(inputs: &Inputs, namespace: &str, selector: &SecretKeySelector) -> Resolved {
    let SecretKeySelector { name, key } = selector;
    let refused = |reason, why: &str| Err((reason, format!("the Secret {name:?} {why}")));
    if name == SECRET {
        let why = "holds Argo CD's own keys and may not be read; use a Secret of its own";
        return refused(Reason::RefNotPermitted, why);
    }
    // Of a cluster only the labelled ones are seen at all.
    let Some(secret) = inputs.secret(namespace, name) else {
        let why = "does not exist in the object's namespace, or is not labelled app.kubernetes.io/part-of: argocd; create or label it";
        return refused(Reason::RefNotFound, why);
    };
    if secret.argocd_type().is_some() {
        let why = "holds one of Argo CD's clusters or repositories and may not be read; use a Secret of its own";
        return refused(Reason::RefNotPermitted, why);
    }
    if !secret.is_part_of_argocd() {
        return refused(Reason::RefNotPermitted, "is not labelled app.kubernetes.io/part-of: argocd; label it");
    }
    if !secret.data.contains_key(key) {
        return refused(Reason::RefNotFound, &format!("has no key {key:?}; add it"));
    }
    let text = secret.text(key).map(|text| text.trim().to_owned());
    text.ok_or_else(|| (Reason::RefNotFound, format!("the key {key:?} of the Secret {name:?} is not UTF-8 text")))
}

struct Registry<'a> {
    before: Option<&'a Snapshot>,
    extensions: Extensions,
    /// Where each served name stands.
    owners: BTreeMap<String, Place>,
    verdicts: &'a mut Vec<Verdict>,
}

impl Registry<'_> {
    /// Validates one entry and serves it if it can be.
    fn add(
        &mut self,
        place: Place,
        name: String,
        draft: &BackendDraft,
        origin: Origin,
        mut problems: Vec<Problem>,
        secret: impl Fn(&SecretKeySelector) -> Resolved,
    ) {
        // What could not even be read says all there is to say about the draft.
        let readable = !problems.iter().any(Problem::is_error);
        let (backend, found) = valid::check(draft, origin);
        let backend = backend.filter(|_| readable);
        let reported = |problem: &Problem| {
            problems.iter().any(|known| known.is_error() && problem.field.starts_with(&known.field))
        };
        let found: Vec<Problem> = found.into_iter().filter(|problem| readable || !reported(problem)).collect();
        problems.extend(found);
        let services = backend.and_then(|backend| services(&backend, secret, &mut problems));
        let report = ExtensionReport { name: name.clone(), services: services.iter().flatten().map(report).collect() };
        let mut state = State::Invalid;
        if let Some(services) = services {
            if let Some(owner) = self.owners.get(&name) {
                let message = format!("{owner} has this name already and is served; rename or remove one of them");
                problems.push(Problem::error("name", message).because(Reason::NameConflict));
                state = State::Conflicted;
            } else {
                self.owners.insert(name.clone(), place.clone());
                self.serve(name, services);
                state = State::Accepted;
            }
        }
        self.verdicts.push(Verdict { place, state, extension: Some(report), problems });
    }

    /// An extension or a service that did not change stays the same one, with its connections.
    fn serve(&mut self, name: String, services: Vec<ServiceSettings>) {
        let known = self.before.and_then(|before| before.extensions.get(name.as_str()));
        let known_services = known.map(|extension| extension.services.as_slice()).unwrap_or_default();
        let keep = |settings: ServiceSettings| {
            let same = known_services.iter().find(|service| service.settings == settings);
            same.cloned().unwrap_or_else(|| Arc::new(Service::new(settings)))
        };
        let extension = Extension { name: name.into(), services: services.into_iter().map(keep).collect() };
        let extension = match known {
            Some(known) if **known == extension => known.clone(),
            _ => Arc::new(extension),
        };
        self.extensions.insert(extension.name.clone(), extension);
    }
}

fn services(
    backend: &Backend,
    secret: impl Fn(&SecretKeySelector) -> Resolved,
    problems: &mut Vec<Problem>,
) -> Option<Vec<ServiceSettings>> {
    let connection = ConnectionSettings {
        timeout: backend.connection.timeout,
        keep_alive: backend.connection.keep_alive,
        idle_timeout: backend.connection.idle_timeout,
        max_idle: backend.connection.max_idle,
    };
    let read = |(i, service): (usize, &valid::Service)| {
        let headers = headers(service, &format!("backend.services[{i}]"), &secret, problems)?;
        let Ok(authority) = HeaderValue::from_str(&service.url.authority) else {
            problems.push(Problem::error(format!("backend.services[{i}].url"), "has an invalid host name"));
            return None;
        };
        Some(ServiceSettings {
            address: Address {
                tls: service.url.scheme == Scheme::Https,
                host: service.url.host.clone(),
                port: service.url.port,
                authority,
                path: service.url.path.clone(),
            },
            cluster: service.cluster.clone().map(|c| ClusterMatch { name: c.name, server: c.server }),
            headers,
            connection: connection.clone(),
        })
    };
    let services: Vec<_> = backend.services.iter().enumerate().map(read).collect();
    services.into_iter().collect()
}

fn headers(
    service: &valid::Service,
    path: &str,
    secret: impl Fn(&SecretKeySelector) -> Resolved,
    problems: &mut Vec<Problem>,
) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = Some(Vec::with_capacity(service.headers.len()));
    for header in &service.headers {
        let value = match &header.value {
            HeaderSource::Value(value) => Ok(value.clone()),
            HeaderSource::Secret(selector) => secret(selector).and_then(|text| {
                let value = valid::header_value(&text).filter(|value| !value.is_empty());
                value.ok_or_else(|| {
                    let SecretKeySelector { name, key } = selector;
                    let message = format!("the key {key:?} of the Secret {name:?} is empty or holds a line break or another control character");
                    (Reason::RefNotFound, message)
                })
            }),
        };
        match (value, &mut headers) {
            (Ok(value), Some(headers)) => headers.push((header.name.clone(), value)),
            (Ok(_), None) => {}
            (Err((reason, message)), _) => {
                let field = format!("{path}.headers[{}].valueFrom.secretKeyRef", header.name);
                problems.push(Problem::error(field, message).because(reason));
                headers = None;
            }
        }
    }
    headers
}

fn report(service: &ServiceSettings) -> ServiceStatus {
    let Address { tls, path, authority, .. } = &service.address;
    let scheme = if *tls { "https" } else { "http" };
    let cluster = service.cluster.as_ref().map(|cluster| {
        [cluster.name.as_deref(), cluster.server.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" or ")
    });
    ServiceStatus { url: format!("{scheme}://{}{path}", authority.to_str().unwrap_or_default()), cluster }
}
