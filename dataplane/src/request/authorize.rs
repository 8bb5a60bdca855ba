//! Whether the caller may call this extension for this application, and which service answers.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::application::{APPLICATION, APPLICATION_SHOWN, ApplicationRef, OwnedApplicationRef, PROJECT};
use super::{Authenticated, said};
use crate::Refusal;
use crate::application::Application;
use crate::cluster::Cluster;
use crate::extension::{Extension, NoService, Scope, Service};
use crate::memo::Decision;
use crate::project::Project;
use crate::rbac::{self, Question};
use crate::refusal::HeaderError;
use crate::server::Worker;
use crate::snapshot::Snapshot;

const NAMESPACE: HeaderName = HeaderName::from_static("argocd-namespace");
const NAMESPACE_SAID: &str = "namespace of Argo CD";
const TARGET_CLUSTER_NAME: HeaderName = HeaderName::from_static("argocd-target-cluster-name");
const TARGET_CLUSTER_URL: HeaderName = HeaderName::from_static("argocd-target-cluster-url");

/// Where an authorized request goes and what is said there. Only [`authorize`] makes one.
#[derive(Debug)]
pub struct Target {
    pub(super) extension: Arc<Extension>,
    /// The one that was asked for.
    pub(super) application: Option<Arc<OwnedApplicationRef>>,
    /// Those that share the requests; one at least.
    pub(super) services: Vec<Arc<Service>>,
    /// What each of them is told of the application.
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// An application that the caller may use through this extension. Only [`check`] makes one.
#[derive(Clone, Copy)]
struct Authorized<'a> {
    application: &'a Application,
    cluster: &'a Cluster,
}

/// [`authorize`], without anything that is remembered.
pub(super) fn decide(
    snapshot: &Snapshot,
    caller: &Authenticated,
    extension: &str,
    asked: Option<ApplicationRef<'_>>,
) -> Result<Target, Refusal> {
    let application = asked.and_then(|asked| snapshot.applications.get(asked.application));
    decide_about(snapshot, caller, extension, asked, application)
}

fn decide_about(
    snapshot: &Snapshot,
    caller: &Authenticated,
    extension: &str,
    asked: Option<ApplicationRef<'_>>,
    application: Option<&Arc<Application>>,
) -> Result<Target, Refusal> {
    let Some(asked) = asked else {
        let authorized = check_global(snapshot, caller, extension)?;
        return Target::find_global(snapshot, authorized);
    };
    let authorized = check(snapshot, caller, extension, asked, application.map(|application| &**application))?;
    Target::find(snapshot, extension, asked, authorized)
}

/// Without an application only where the extension is a global one.
pub(super) fn authorize(
    worker: &Worker,
    snapshot: &Arc<Snapshot>,
    caller: &Authenticated,
    extension: &str,
    asked: Option<ApplicationRef<'_>>,
) -> Result<Arc<Target>, Refusal> {
    let application = asked.and_then(|asked| snapshot.applications.get(asked.application));
    // Only what exists is remembered.
    let known = snapshot.extensions.get(extension).filter(|_| asked.is_some() == application.is_some());
    let Some(known) = known else {
        return decide_about(snapshot, caller, extension, asked, application).map(Arc::new);
    };
    if let Some(decision) = worker.memo.lock().decision(caller.id(), known, application)
        && decision.is_about(asked)
    {
        return decision.outcome();
    }
    let outcome = decide_about(snapshot, caller, extension, asked, application).map(Arc::new);
    worker.memo.lock().decided(snapshot, caller.id(), known, application, || match &outcome {
        Ok(target) => Decision::Permitted(target.clone()),
        Err(why) => Decision::Refused { asked: asked.map(|asked| Arc::new(asked.to_owned())), why: why.clone() },
    });
    outcome
}

impl Decision {
    /// Whether the application was asked for by these names.
    fn is_about(&self, asked: Option<ApplicationRef<'_>>) -> bool {
        let before = match self {
            Self::Permitted(target) => &target.application,
            Self::Refused { asked, .. } => asked,
        };
        match (before, asked) {
            (Some(before), Some(asked)) => before.is(asked),
            (before, asked) => before.is_none() && asked.is_none(),
        }
    }

    fn outcome(self) -> Result<Arc<Target>, Refusal> {
        match self {
            Self::Permitted(target) => Ok(target),
            Self::Refused { why, .. } => Err(why),
        }
    }
}

/// A global extension that the caller may use without an application. Only [`check_global`] makes one.
struct AuthorizedGlobal<'a>(&'a Arc<Extension>);

fn check_global<'a>(
    snapshot: &'a Snapshot,
    caller: &Authenticated,
    extension: &str,
) -> Result<AuthorizedGlobal<'a>, Refusal> {
    may_invoke(snapshot, caller, extension)?;
    let extension = snapshot.extensions.get(extension).ok_or(Refusal::UnknownExtension)?;
    match extension.settings.scope {
        Scope::Global => Ok(AuthorizedGlobal(extension)),
        Scope::Application => Err(Refusal::Headers(HeaderError::Missing(APPLICATION_SHOWN))),
    }
}

/// RBAC first: whether an application exists is said only to those who may see it.
fn check<'a>(
    snapshot: &'a Snapshot,
    caller: &Authenticated,
    extension: &str,
    asked: ApplicationRef<'_>,
    application: Option<&'a Application>,
) -> Result<Authorized<'a>, Refusal> {
    may_get_application(snapshot, caller, asked)?;
    may_invoke(snapshot, caller, extension)?;
    is_watched(snapshot, asked)?;
    let application = application.ok_or(Refusal::UnknownApplication)?;
    is_of_project(application, asked)?;
    let project = permitting_project(snapshot, asked)?;
    let cluster = permitted_cluster(snapshot, project, application)?;
    Ok(Authorized { application, cluster })
}

/// A yes of RBAC, and what said it.
pub(super) struct Allowed<'a> {
    pub(super) object: String,
    subject: &'a str,
    by: &'a rbac::Origin,
}

impl Allowed<'_> {
    pub(super) fn by(&self) -> String {
        shown(self.subject, self.by)
    }
}

/// The object is `<project>/<name>`; of an application outside Argo CD's namespace it is also
/// `<project>/<namespace>/<name>`, as documented.
pub(super) fn may_get_application<'a>(
    snapshot: &'a Snapshot,
    caller: &'a Authenticated,
    asked: ApplicationRef<'_>,
) -> Result<Allowed<'a>, Refusal> {
    let policy = snapshot.policy.as_ref().ok_or(Refusal::NoPolicy)?;
    let project = snapshot.projects.get(asked.project).map(|project| &**project);
    let short = format!("{}/{}", asked.project, asked.name);
    let long = (asked.namespace != snapshot.settings.namespace)
        .then(|| format!("{}/{}/{}", asked.project, asked.namespace, asked.name));
    let names = [short.as_str(), long.as_deref().unwrap_or_default()];
    let objects = if long.is_some() { &names[..] } else { &names[..1] };
    let question = Question { resource: "applications", action: "get", objects, project };
    match caller.ask(policy, question) {
        rbac::Decision::Allowed { subject, by } => Ok(Allowed { object: long.unwrap_or(short), subject, by }),
        rbac::Decision::Refused { denied_by } => {
            Err(Refusal::ApplicationNotAllowed { object: long.unwrap_or(short), denied_by: why(denied_by) })
        }
    }
}

pub(super) fn may_invoke<'a>(
    snapshot: &'a Snapshot,
    caller: &'a Authenticated,
    extension: &str,
) -> Result<Allowed<'a>, Refusal> {
    let policy = snapshot.policy.as_ref().ok_or(Refusal::NoPolicy)?;
    let question = Question { resource: "extensions", action: "invoke", objects: &[extension], project: None };
    match caller.ask(policy, question) {
        rbac::Decision::Allowed { subject, by } => Ok(Allowed { object: extension.to_owned(), subject, by }),
        rbac::Decision::Refused { denied_by } => {
            Err(Refusal::ExtensionNotAllowed { extension: extension.to_owned(), denied_by: why(denied_by) })
        }
    }
}

pub(super) fn is_watched(snapshot: &Snapshot, asked: ApplicationRef<'_>) -> Result<(), Refusal> {
    if snapshot.settings.watches(asked.namespace) { Ok(()) } else { Err(Refusal::NamespaceNotWatched) }
}

pub(super) fn is_of_project(application: &Application, asked: ApplicationRef<'_>) -> Result<(), Refusal> {
    if *application.project == *asked.project { Ok(()) } else { Err(Refusal::ProjectMismatch) }
}

/// The project, which must permit applications in this namespace.
pub(super) fn permitting_project<'a>(
    snapshot: &'a Snapshot,
    asked: ApplicationRef<'_>,
) -> Result<&'a Project, Refusal> {
    let project = snapshot.projects.get(asked.project).ok_or(Refusal::UnknownProject)?;
    if asked.namespace != snapshot.settings.namespace && !project.permits_source_namespace(asked.namespace) {
        return Err(Refusal::NamespaceNotPermitted);
    }
    Ok(project)
}

/// The one cluster that the destination means, which the project must permit.
pub(super) fn permitted_cluster<'a>(
    snapshot: &'a Snapshot,
    project: &Project,
    application: &Application,
) -> Result<&'a Cluster, Refusal> {
    let cluster = snapshot.clusters.resolve(&application.destination)?;
    let namespace = &application.destination.namespace;
    let permitted = project.permits_destination(&cluster.server, &cluster.name, namespace)
        && (!project.permits_only_project_scoped_clusters() || snapshot.clusters.is_scoped_to(project.name(), cluster));
    if permitted { Ok(cluster) } else { Err(Refusal::DestinationNotPermitted) }
}

fn why(denied_by: Option<(&str, &rbac::Origin)>) -> Option<String> {
    denied_by.map(|(subject, origin)| shown(subject, origin))
}

fn shown(subject: &str, origin: &rbac::Origin) -> String {
    format!("{origin} (asked for {subject:?})")
}

impl Target {
    /// Every header that is set on the way to any of the services, in the order in which they are set.
    pub(super) fn headers<'a>(
        &'a self,
        caller: &'a Authenticated,
    ) -> impl Iterator<Item = &'a (HeaderName, HeaderValue)> {
        self.headers.iter().chain(caller.headers())
    }

    fn find(
        snapshot: &Snapshot,
        extension: &str,
        asked: ApplicationRef<'_>,
        authorized: Authorized<'_>,
    ) -> Result<Self, Refusal> {
        let extension = snapshot.extensions.get(extension).ok_or(Refusal::UnknownExtension)?;
        if extension.settings.projects.as_ref().is_some_and(|projects| !projects.matches(asked.project)) {
            return Err(Refusal::ProjectNotServed);
        }
        let destination = &authorized.application.destination;
        let services = extension.services_for(authorized.cluster, destination).map_err(|why| match why {
            NoService::None => Refusal::NoService,
            NoService::Ambiguous => Refusal::AmbiguousService,
        })?;
        let headers = said::headers(&[
            (NAMESPACE, &snapshot.settings.namespace, NAMESPACE_SAID),
            (APPLICATION, asked.application, "application's name"),
            (PROJECT, asked.project, "project's name"),
            (TARGET_CLUSTER_NAME, &destination.name, "destination's cluster name"),
            (TARGET_CLUSTER_URL, &destination.server, "destination's server"),
        ])?;
        let application = Some(Arc::new(asked.to_owned()));
        Ok(Self { extension: extension.clone(), application, services, headers })
    }

    fn find_global(snapshot: &Snapshot, AuthorizedGlobal(extension): AuthorizedGlobal<'_>) -> Result<Self, Refusal> {
        // None of its services is for some clusters only.
        let services = extension.services.clone();
        if services.is_empty() {
            return Err(Refusal::NoService);
        }
        let headers = said::headers(&[(NAMESPACE, &snapshot.settings.namespace, NAMESPACE_SAID)])?;
        Ok(Self { extension: extension.clone(), application: None, services, headers })
    }
}
