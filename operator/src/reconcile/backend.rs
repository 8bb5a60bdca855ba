//! A checked backend with everything that it refers to: what the data plane serves.
//!
//! Whoever may write a ProxyExtension must not read Argo CD's keys through it: of Secrets only those of the object's
//! own namespace count that are labelled for it. Nothing outside that namespace may be referred to, Services excepted,
//! and those only from Argo CD's own.

use std::collections::BTreeSet;
use std::sync::Arc;

use crds::valid::{self, Backend, Cluster, Endpoint, HeaderSource, Origin};
use crds::{BackendTls, BackendUrl, CaKind, CaRef, PortRef, Problem, Reason, Scheme, SecretKeySelector};
use dataplane::extension::{
    Address, ClusterMatch, ConnectionSettings, HealthCheck, SelectedClusters, Service, ServiceSettings,
};
use dataplane::tls::{self, TlsError, TlsMaterial};
use http::{HeaderName, HeaderValue};
use kube::core::SelectorExt;

use super::{SECRET, World};
use crate::objects::{ObjectKey, ObjectKind, Secret, ServiceObject, ServicePort};

const DEFAULT_CA_KEY: &str = "ca.crt";
/// What the Gateway API calls HTTP/2 without TLS.
const H2C: &str = "kubernetes.io/h2c";

/// Whose backend it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) namespace: &'a str,
    pub(super) origin: Origin,
}

/// Why something that is referred to has no value.
type Unresolved = (Reason, String);

/// The services, where everything that they refer to is there. `known` are those that the extension had before.
pub(super) fn services(
    backend: &Backend,
    world: &World<'_>,
    owner: Owner<'_>,
    known: &[Arc<Service>],
    problems: &mut Vec<Problem>,
) -> Option<Vec<ServiceSettings>> {
    let connection = ConnectionSettings {
        timeout: backend.connection.timeout,
        keep_alive: backend.connection.keep_alive,
        idle_timeout: backend.connection.idle_timeout,
        max_idle: backend.connection.max_idle,
    };
    let mut resolver = Resolver { world, owner, known, problems };
    let read = |(i, service): (usize, &valid::Service)| {
        let path = format!("backend.services[{i}]");
        // All of them, so that each problem is told.
        let headers = resolver.headers(service, &path);
        let tls = resolver.tls(service.tls.as_ref(), &format!("{path}.tls"));
        let address = resolver.address(service, &path);
        Some(ServiceSettings {
            address: address?,
            cluster: service.cluster.as_ref().map(|cluster| cluster_match(cluster, world)),
            headers: headers?,
            connection: connection.clone(),
            tls: tls?,
            health_check: service.health_check.clone().map(|check| HealthCheck {
                target: check.path,
                interval: check.interval,
                timeout: check.timeout,
                unhealthy_threshold: check.unhealthy_threshold,
            }),
        })
    };
    let services: Vec<_> = backend.services.iter().enumerate().map(read).collect();
    services.into_iter().collect()
}

fn cluster_match(cluster: &Cluster, world: &World<'_>) -> ClusterMatch {
    let selector = cluster.selector.as_ref().map(|selector| {
        let selected = world.labels.iter().filter(|(_, labels)| selector.matches(labels));
        let servers: BTreeSet<String> = selected.map(|(server, _)| server.clone()).collect();
        SelectedClusters { selector: selector.to_string(), servers }
    });
    ClusterMatch { name: cluster.name.clone(), server: cluster.server.clone(), selector }
}

struct Resolver<'a> {
    world: &'a World<'a>,
    owner: Owner<'a>,
    known: &'a [Arc<Service>],
    problems: &'a mut Vec<Problem>,
}

impl Resolver<'_> {
    fn note<T>(&mut self, field: String, found: Result<T, Unresolved>) -> Option<T> {
        found.map_err(|(reason, message)| self.problems.push(Problem::error(field, message).because(reason))).ok()
    }

    fn headers(&mut self, service: &valid::Service, path: &str) -> Option<Vec<(HeaderName, HeaderValue)>> {
        let mut headers = Some(Vec::with_capacity(service.headers.len()));
        for header in &service.headers {
            let value = match &header.value {
                HeaderSource::Value(value) => Some(value.clone()),
                HeaderSource::Secret(selector) => {
                    let value = self.header_secret(selector);
                    self.note(format!("{path}.headers[{}].valueFrom.secretKeyRef", header.name), value)
                }
            };
            match (value, &mut headers) {
                (Some(value), Some(headers)) => headers.push((header.name.clone(), value)),
                _ => headers = None,
            }
        }
        headers
    }

    fn header_secret(&self, selector: &SecretKeySelector) -> Result<HeaderValue, Unresolved> {
        let SecretKeySelector { name, key } = selector;
        let secret = self.secret(name)?;
        let text = part(secret, name, key).and_then(|value| {
            let not_text =
                || (Reason::RefNotFound, format!("the key {key:?} of the Secret {name:?} is not UTF-8 text"));
            std::str::from_utf8(value).map_err(|_| not_text())
        })?;
        valid::header_value(text.trim()).filter(|value| !value.is_empty()).ok_or_else(|| {
            let message = format!(
                "the key {key:?} of the Secret {name:?} is empty or holds a line break or another control character"
            );
            (Reason::RefNotFound, message)
        })
    }

    /// A Secret that the owner may read.
    fn secret(&self, name: &str) -> Result<&Secret, Unresolved> {
        let refused = |reason, why: &str| Err((reason, format!("the Secret {name:?} {why}")));
        if name == SECRET {
            let why = "holds Argo CD's own keys and may not be read; use a Secret of its own";
            return refused(Reason::RefNotPermitted, why);
        }
        self.readable(ObjectKind::Secret, self.owner.namespace, name)?;
        // In Argo CD's namespace only the labelled ones are seen at all.
        let Some(secret) = self.world.inputs.secret(self.owner.namespace, name) else {
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
        Ok(secret)
    }

    fn readable(&self, kind: ObjectKind, namespace: &str, name: &str) -> Result<(), Unresolved> {
        let key = ObjectKey::new(namespace, name);
        if !self.world.inputs.unreadable.contains(&(kind, key.clone())) {
            return Ok(());
        }
        let kind = kind.as_str();
        let message =
            format!("the {kind} {key} cannot be read; grant the proxy's service account get, list and watch of it");
        Err((Reason::RefNotPermitted, message))
    }

    /// `Some(None)` where nothing is asked for.
    fn tls(&mut self, tls: Option<&BackendTls>, path: &str) -> Option<Option<tls::BackendTls>> {
        let Some(tls) = tls.filter(|tls| tls.ca_ref.is_some() || tls.client_certificate_ref.is_some()) else {
            return Some(None);
        };
        let (ca_field, client_field) = (format!("{path}.caRef"), format!("{path}.clientCertificateRef"));
        let ca = tls.ca_ref.as_ref().map(|reference| self.ca(reference));
        let ca = ca.map(|found| self.note(ca_field.clone(), found));
        let client = tls.client_certificate_ref.as_ref().map(|reference| self.client_certificate(&reference.name));
        let client = client.map(|found| self.note(client_field.clone(), found));
        // What was asked for and is not there has been noted.
        let material = TlsMaterial {
            ca: match ca {
                Some(found) => Some(found?),
                None => None,
            },
            client: match client {
                Some(found) => Some(found?),
                None => None,
            },
        };
        // It takes its time to make one.
        let known = self.known.iter().filter_map(|service| service.settings.tls.as_ref());
        if let Some(known) = known.into_iter().find(|known| *known.material() == material) {
            return Some(Some(known.clone()));
        }
        let made = tls::BackendTls::new(material);
        let field = if matches!(made, Err(TlsError::Ca(_))) { ca_field } else { client_field };
        let made = made.map_err(|error| (Reason::InvalidCertificateRef, error.to_string()));
        self.note(field, made).map(Some)
    }

    fn ca(&self, reference: &CaRef) -> Result<Vec<u8>, Unresolved> {
        let name = &reference.name;
        let key = reference.key.as_deref().unwrap_or(DEFAULT_CA_KEY);
        match reference.kind.unwrap_or_default() {
            CaKind::Secret => part(self.secret(name)?, name, key).map(<[u8]>::to_vec),
            CaKind::ConfigMap => {
                let namespace = self.owner.namespace;
                self.readable(ObjectKind::ConfigMap, namespace, name)?;
                let data = self.world.inputs.config(namespace, name).ok_or_else(|| {
                    let message = format!("the ConfigMap {name:?} does not exist in the object's namespace; create it");
                    (Reason::RefNotFound, message)
                })?;
                let text = data.get(key).map(|text| text.clone().into_bytes());
                text.ok_or_else(|| (Reason::RefNotFound, format!("the ConfigMap {name:?} has no key {key:?}; add it")))
            }
        }
    }

    fn client_certificate(&self, name: &str) -> Result<(Vec<u8>, Vec<u8>), Unresolved> {
        let secret = self.secret(name)?;
        let read = |key| part(secret, name, key).map(<[u8]>::to_vec);
        Ok((read("tls.crt")?, read("tls.key")?))
    }

    fn address(&mut self, service: &valid::Service, path: &str) -> Option<Address> {
        let mut address = match &service.endpoint {
            Endpoint::Url(url) => {
                let address = address_of(url);
                self.note(format!("{path}.url"), address)
            }
            Endpoint::Service(reference) => {
                let address = self.service_address(reference);
                self.note(format!("{path}.serviceRef"), address)
            }
        }?;
        if let Some(name) = service.tls.as_ref().and_then(|tls| tls.server_name.clone()) {
            address.server_name = name;
        }
        Some(address)
    }

    fn service_address(&self, reference: &valid::ServiceRef) -> Result<Address, Unresolved> {
        let own = self.owner.namespace;
        let namespace = reference.namespace.as_deref().unwrap_or(own);
        if namespace != own && own != self.world.options.namespace {
            let message = format!(
                "the Service is in the namespace {namespace:?}; from outside of Argo CD's namespace only Services of the object's own may be referred to"
            );
            return Err((Reason::RefNotPermitted, message));
        }
        let key = ObjectKey::new(namespace, &reference.name);
        self.readable(ObjectKind::Service, namespace, &reference.name)?;
        let missing = || (Reason::RefNotFound, format!("the Service {key} does not exist; create it"));
        let service = self.world.inputs.services.get(&key).ok_or_else(missing)?;
        let port = port(service, &key, reference.port.as_ref())?;
        let name = format!("{}.{namespace}.svc", reference.name);
        let (host, name, number) = match (service.kind.as_str(), service.cluster_ip.as_str()) {
            ("ExternalName", _) => (service.external_name.clone(), service.external_name.clone(), port.port),
            // A headless Service's name leads to its pods, and these listen on their own port.
            (_, "" | "None") => match port.target_port {
                Some(PortRef::Number(target)) => (name.clone(), name, target),
                _ => (name.clone(), name, port.port),
            },
            (_, ip) => (ip.to_owned(), name, port.port),
        };
        let scheme = reference.scheme.as_str();
        let invalid = |why: &str| (Reason::RefNotFound, format!("the Service {key} leads to an address that {why}"));
        let url = BackendUrl::parse(&format!("{scheme}://{name}:{number}{}", reference.path)).map_err(invalid)?;
        let address = address_of(&url)?;
        Ok(Address { host, is_h2c: reference.scheme == Scheme::Http && port.app_protocol == H2C, ..address })
    }
}

fn part<'s>(secret: &'s Secret, name: &str, key: &str) -> Result<&'s [u8], Unresolved> {
    let missing = || (Reason::RefNotFound, format!("the Secret {name:?} has no key {key:?}; add it"));
    secret.data.get(key).map(Vec::as_slice).ok_or_else(missing)
}

fn port(service: &ServiceObject, key: &ObjectKey, wanted: Option<&PortRef>) -> Result<ServicePort, Unresolved> {
    let is_wanted = |port: &&ServicePort| match wanted {
        None => service.ports.len() == 1,
        Some(PortRef::Number(number)) => port.port == *number,
        Some(PortRef::Name(name)) => port.name == *name,
    };
    let found = service.ports.iter().find(is_wanted).cloned();
    let external = || match wanted {
        // It need not list its ports.
        Some(PortRef::Number(port)) if service.kind == "ExternalName" => {
            Some(ServicePort { port: *port, ..ServicePort::default() })
        }
        _ => None,
    };
    found.or_else(external).ok_or_else(|| {
        let ports: Vec<String> =
            service
                .ports
                .iter()
                .map(|port| {
                    if port.name.is_empty() { port.port.to_string() } else { format!("{} ({})", port.name, port.port) }
                })
                .collect();
        let ports = if ports.is_empty() { "no ports".to_owned() } else { format!("the ports {}", ports.join(", ")) };
        let message = match wanted {
            Some(wanted) => format!("the Service {key} has no port {wanted}; it has {ports}"),
            None => format!("the Service {key} has {ports}; say with port which one is meant"),
        };
        (Reason::RefNotFound, message)
    })
}

fn address_of(url: &BackendUrl) -> Result<Address, Unresolved> {
    let authority = HeaderValue::from_str(&url.authority);
    Ok(Address {
        tls: url.scheme == Scheme::Https,
        host: url.host.clone(),
        port: url.port,
        authority: authority.map_err(|_| (Reason::Invalid, "has an invalid host name".to_owned()))?,
        server_name: url.host.clone(),
        path: url.path.clone(),
        is_h2c: false,
    })
}
