//! Every way in which a request can be refused, and the one place that turns it into an answer.

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::Response;
use thiserror::Error;

use crate::body::Body;
use crate::cluster::DestinationError;
use crate::token::TokenError;

/// Why a request was refused. The text is for the log; the caller sees [`Refusal::answer`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("not ready: the configuration has not been read completely yet")]
    NotReady,
    #[error("the path is not one of an extension")]
    NoSuchPath,
    #[error("the method CONNECT is not for a proxy extension")]
    Method,
    #[error("the path is malformed: {0}")]
    Path(&'static str),
    #[error("the path names no extension")]
    NoExtensionName,
    #[error("no usable auth cookie was sent")]
    NoCookie,
    #[error("the token was refused: {0}")]
    Token(TokenError),
    #[error("the application headers are invalid: {0}")]
    Headers(HeaderError),
    #[error("no readable RBAC policy is loaded")]
    NoPolicy,
    #[error("RBAC refuses `applications, get, {object}`{}", because(.denied_by))]
    ApplicationNotAllowed { object: String, denied_by: Option<String> },
    #[error("RBAC refuses `extensions, invoke, {extension}`{}", because(.denied_by))]
    ExtensionNotAllowed { extension: String, denied_by: Option<String> },
    #[error("applications in this namespace are not watched (application.namespaces)")]
    NamespaceNotWatched,
    #[error("the application does not exist")]
    UnknownApplication,
    #[error("the application belongs to another project than the header says")]
    ProjectMismatch,
    #[error("the project does not exist")]
    UnknownProject,
    #[error("the project does not permit applications in this namespace (sourceNamespaces)")]
    NamespaceNotPermitted,
    #[error("{0}")]
    Destination(#[from] DestinationError),
    #[error("the project does not permit the application's destination")]
    DestinationNotPermitted,
    #[error("no extension of this name is served")]
    UnknownExtension,
    #[error("the extension is not for applications of this project (projects)")]
    ProjectNotServed,
    #[error("no service of the extension is for the application's cluster")]
    NoService,
    #[error("several services of the extension are for the application's cluster, and none is to be preferred")]
    AmbiguousService,
    #[error("as many requests of the extension are open as may be (maxConcurrentRequests)")]
    TooManyRequests,
    #[error("the request's body is larger than the extension permits (maxRequestBodyBytes)")]
    BodyTooLarge,
    #[error("every backend is known to be down")]
    BackendDown,
    #[error("nothing came for as long as the extension permits (streamIdleTimeout)")]
    StreamIdle,
    #[error("the {0} holds characters that no header can carry")]
    NotAHeaderValue(&'static str),
    #[error("the backend cannot be reached: {0}")]
    BackendUnreachable(String),
    #[error("the backend did not answer in time")]
    BackendTimeout,
    #[error("the backend broke off: {0}")]
    BackendFailed(String),
}

fn because(denied_by: &Option<String>) -> String {
    denied_by.as_ref().map(|by| format!(", denied by {by}")).unwrap_or_default()
}

/// What is wrong with the headers that name the application, worded as Argo CD words it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeaderError {
    #[error("header \"{0}\" must be provided")]
    Missing(&'static str),
    #[error("header \"{0}\" must be provided exactly once")]
    Repeated(&'static str),
    #[error(
        "error getting app details: invalid value for \"Argocd-Application-Name\" header: expected format: <namespace>:<app-name>"
    )]
    Format,
    #[error("invalid value for namespace")]
    Namespace,
    #[error("invalid value for application name")]
    ApplicationName,
    #[error("invalid value for project name")]
    ProjectName,
}

impl Refusal {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotReady | Self::TooManyRequests | Self::BackendDown => StatusCode::SERVICE_UNAVAILABLE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoSuchPath | Self::UnknownExtension => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Path(_)
            | Self::NoExtensionName
            | Self::NoCookie
            | Self::Headers(_)
            | Self::NoService
            | Self::AmbiguousService => StatusCode::BAD_REQUEST,
            Self::BackendUnreachable(_) | Self::BackendFailed(_) => StatusCode::BAD_GATEWAY,
            Self::BackendTimeout | Self::StreamIdle => StatusCode::GATEWAY_TIMEOUT,
            Self::Token(_)
            | Self::NoPolicy
            | Self::ApplicationNotAllowed { .. }
            | Self::ExtensionNotAllowed { .. }
            | Self::NamespaceNotWatched
            | Self::UnknownApplication
            | Self::ProjectMismatch
            | Self::UnknownProject
            | Self::NamespaceNotPermitted
            | Self::Destination(_)
            | Self::DestinationNotPermitted
            | Self::ProjectNotServed
            | Self::NotAHeaderValue(_) => StatusCode::UNAUTHORIZED,
        }
    }

    /// The label of the refusal in metrics: a fixed set.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::NoSuchPath => "no_such_path",
            Self::Method => "method",
            Self::Path(_) => "malformed_path",
            Self::NoExtensionName => "no_extension_name",
            Self::NoCookie => "no_cookie",
            Self::Token(_) => "invalid_token",
            Self::Headers(_) => "invalid_headers",
            Self::NoPolicy => "no_policy",
            Self::ApplicationNotAllowed { .. } => "application_not_allowed",
            Self::ExtensionNotAllowed { .. } => "extension_not_allowed",
            Self::NamespaceNotWatched => "namespace_not_watched",
            Self::UnknownApplication => "unknown_application",
            Self::ProjectMismatch => "project_mismatch",
            Self::UnknownProject => "unknown_project",
            Self::NamespaceNotPermitted => "namespace_not_permitted",
            Self::Destination(_) => "unresolved_destination",
            Self::DestinationNotPermitted => "destination_not_permitted",
            Self::UnknownExtension => "unknown_extension",
            Self::ProjectNotServed => "project_not_served",
            Self::NoService => "no_service",
            Self::AmbiguousService => "ambiguous_service",
            Self::TooManyRequests => "too_many_requests",
            Self::BodyTooLarge => "body_too_large",
            Self::BackendDown => "backend_down",
            Self::StreamIdle => "stream_idle",
            Self::NotAHeaderValue(_) => "not_a_header_value",
            Self::BackendUnreachable(_) => "backend_unreachable",
            Self::BackendTimeout => "backend_timeout",
            Self::BackendFailed(_) => "backend_failed",
        }
    }

    /// What the caller is told: Argo CD's own words, and never which check of authorization refused.
    fn answer(&self) -> String {
        match self {
            Self::NotReady => "The proxy is not ready".into(),
            Self::NoSuchPath => "Not found".into(),
            Self::Method => "Method not allowed".into(),
            Self::Path(what) => format!("Invalid URL: {what}"),
            Self::NoExtensionName => "Invalid URL: extension name must be provided".into(),
            Self::NoCookie => "Auth cookie not found".into(),
            Self::Token(_) => "Invalid token".into(),
            Self::Headers(error) => format!("Invalid headers: {error}"),
            Self::UnknownExtension => "Extension not found".into(),
            Self::NoService | Self::AmbiguousService => "invalid extension".into(),
            Self::TooManyRequests => "The extension has too many requests open".into(),
            Self::BodyTooLarge => "The request's body is too large".into(),
            Self::BackendDown => "The extension's backend is down".into(),
            Self::BackendUnreachable(_) => "The extension's backend cannot be reached".into(),
            Self::BackendTimeout | Self::StreamIdle => "The extension's backend did not answer in time".into(),
            Self::BackendFailed(_) => "The extension's backend failed to answer".into(),
            _ => "Unauthorized extension request".into(),
        }
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::text(format!("{}\n", self.answer())));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests;
