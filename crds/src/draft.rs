//! An extension as somebody wrote it: all text, nothing checked, every field with its place.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::proxy_extension as crd;

/// A text together with what may be said about it. A value that was read out of a secret is shown as the
/// reference that named it, never as itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    pub value: String,
    pub reference: Option<String>,
    pub line: Option<usize>,
}

impl Text {
    /// For messages: the text, or the reference that it was read from.
    pub fn shown(&self) -> &str {
        self.reference.as_deref().unwrap_or(&self.value)
    }
}

impl From<&str> for Text {
    fn from(value: &str) -> Self {
        Self { value: value.to_owned(), ..Self::default() }
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct BackendDraft {
    pub connection_timeout: Option<Text>,
    pub keep_alive: Option<Text>,
    pub idle_connection_timeout: Option<Text>,
    pub max_idle_connections: Option<Text>,
    pub request_timeout: Option<Text>,
    pub stream_idle_timeout: Option<Text>,
    pub max_request_body_bytes: Option<i64>,
    pub max_concurrent_requests: Option<i64>,
    pub services: Vec<ServiceDraft>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServiceDraft {
    pub url: Option<Text>,
    pub service_ref: Option<crd::ServiceRef>,
    pub cluster: Option<ClusterDraft>,
    pub headers: Vec<HeaderDraft>,
    pub tls: Option<crd::BackendTls>,
    pub health_check: Option<crd::HealthCheck>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClusterDraft {
    pub name: Option<Text>,
    pub server: Option<Text>,
    pub selector: Option<LabelSelector>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderDraft {
    pub name: Option<Text>,
    pub value: Option<Text>,
    pub secret: Option<crd::SecretKeySelector>,
}

impl From<&crd::Backend> for BackendDraft {
    fn from(backend: &crd::Backend) -> Self {
        let text = |value: &Option<String>| value.as_deref().map(Text::from);
        Self {
            connection_timeout: text(&backend.connection_timeout),
            keep_alive: text(&backend.keep_alive),
            idle_connection_timeout: text(&backend.idle_connection_timeout),
            max_idle_connections: backend.max_idle_connections.map(|n| Text::from(n.to_string().as_str())),
            request_timeout: text(&backend.request_timeout),
            stream_idle_timeout: text(&backend.stream_idle_timeout),
            max_request_body_bytes: backend.max_request_body_bytes,
            max_concurrent_requests: backend.max_concurrent_requests,
            services: backend.services.iter().map(ServiceDraft::from).collect(),
        }
    }
}

impl From<&crd::Service> for ServiceDraft {
    fn from(service: &crd::Service) -> Self {
        Self {
            url: service.url.as_deref().map(Text::from),
            service_ref: service.service_ref.clone(),
            cluster: service.cluster.as_ref().map(|cluster| ClusterDraft {
                name: cluster.name.as_deref().map(Text::from),
                server: cluster.server.as_deref().map(Text::from),
                selector: cluster.selector.clone(),
            }),
            tls: service.tls.clone(),
            health_check: service.health_check.clone(),
            headers: service
                .headers
                .iter()
                .map(|header| HeaderDraft {
                    name: Some(Text::from(header.name.as_str())),
                    value: header.value.as_deref().map(Text::from),
                    secret: header.value_from.as_ref().and_then(|from| from.secret_key_ref.clone()),
                })
                .collect(),
        }
    }
}
