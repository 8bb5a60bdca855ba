//! Every check of a request, and what decided it: the very functions that decide requests, without stopping at the
//! first refusal.

use http::HeaderMap;
use http::header::HeaderValue;

use super::Authenticated;
use super::application::{APPLICATION, ApplicationRef, PROJECT};
use super::{authenticate, authorize};
use crate::Refusal;
use crate::extension::Scope;
use crate::snapshot::Snapshot;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub enum Who<'a> {
    Token(&'a str),
    /// As if a token said so.
    User {
        name: &'a str,
        groups: &'a [String],
    },
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    pub extension: &'a str,
    /// `<namespace>:<name>`, and the project; as the headers have them.
    pub application: Option<(&'a str, &'a str)>,
}

#[derive(Debug)]
pub struct Explanation {
    pub steps: Vec<Step>,
    /// Where the request would go, where nothing refuses it.
    pub answer: Result<Route, Refusal>,
}

/// One check.
#[derive(Debug)]
pub struct Step {
    pub check: &'static str,
    pub outcome: Result<String, Refusal>,
}

#[derive(Debug)]
pub struct Route {
    /// URLs of the services that share the requests, and why those are down that are.
    pub services: Vec<(String, Option<String>)>,
    /// What the backend gets besides the caller's own headers. Values that may be secret are left out.
    pub headers: Vec<(String, Option<String>)>,
}

pub async fn explain(snapshot: &Snapshot, who: Who<'_>, call: Call<'_>) -> Explanation {
    let mut steps = Vec::new();
    let caller = match who {
        Who::Token(token) => authenticate::identify(snapshot, token).await,
        Who::User { name, groups } => authenticate::suppose(name, groups),
    };
    note(&mut steps, "token", caller.as_ref().map(describe));
    let caller = match caller {
        Ok(caller) => caller,
        Err(refusal) => return Explanation { steps, answer: Err(refusal) },
    };
    let headers = headers(call.application);
    let asked = match &headers {
        None => Ok(None),
        Some(headers) => ApplicationRef::read(headers).map(Some),
    };
    if let Some((application, project)) = call.application {
        let said = asked.as_ref().map(|_| format!("{application} of the project {project}"));
        note(&mut steps, "application headers", said);
    }
    let answer = match asked {
        Ok(asked) => {
            if let Some(asked) = asked {
                application_steps(snapshot, &caller, asked, &mut steps);
            }
            extension_steps(snapshot, &caller, call, &mut steps);
            authorize::decide(snapshot, &caller, call.extension, asked)
        }
        Err(refusal) => Err(refusal),
    };
    let answer = answer.map(|target| {
        let services = target.services.iter().map(|service| {
            let down = service.health.is_down().then(|| service.health.last_error().unwrap_or_default());
            (service.settings.address.url(), down)
        });
        let configured = target.services.first().map(|service| service.settings.headers.as_slice()).unwrap_or_default();
        let headers = target.headers(&caller).chain(configured);
        Route {
            services: services.collect(),
            headers: headers.map(|(name, value)| (name.to_string(), visible(value))).collect(),
        }
    });
    if let Ok(route) = &answer {
        let services: Vec<String> = route
            .services
            .iter()
            .map(|(url, down)| match down {
                None => url.clone(),
                Some(error) => format!("{url} (down: {error})"),
            })
            .collect();
        note(&mut steps, "service", Ok::<_, &Refusal>(services.join(", ")));
    } else if let Err(refusal @ (Refusal::NoService | Refusal::AmbiguousService)) = &answer {
        note(&mut steps, "service", Err(refusal));
    }
    Explanation { steps, answer }
}

fn application_steps(snapshot: &Snapshot, caller: &Authenticated, asked: ApplicationRef<'_>, steps: &mut Vec<Step>) {
    let allowed = authorize::may_get_application(snapshot, caller, asked);
    note(steps, "RBAC applications", allowed.as_ref().map(|a| format!("applications, get, {}: {}", a.object, a.by())));
    let watched = authorize::is_watched(snapshot, asked);
    note(steps, "application's namespace", watched.as_ref().map(|()| asked.namespace.to_owned()));
    let application = snapshot.applications.get(asked.application).ok_or(Refusal::UnknownApplication);
    let of_project = application.clone().and_then(|application| authorize::is_of_project(application, asked));
    note(steps, "application", of_project.as_ref().map(|()| "exists, in this project".to_owned()));
    let project = authorize::permitting_project(snapshot, asked);
    note(steps, "project", project.as_ref().map(|project| project.name().to_owned()));
    if let (Ok(application), Ok(project)) = (application, project) {
        let cluster = authorize::permitted_cluster(snapshot, project, application);
        note(
            steps,
            "destination",
            cluster.as_ref().map(|cluster| format!("cluster {} ({})", cluster.name, cluster.server)),
        );
    }
}

fn extension_steps(snapshot: &Snapshot, caller: &Authenticated, call: Call<'_>, steps: &mut Vec<Step>) {
    let allowed = authorize::may_invoke(snapshot, caller, call.extension);
    note(steps, "RBAC extensions", allowed.as_ref().map(|a| format!("extensions, invoke, {}: {}", a.object, a.by())));
    let extension = snapshot.extensions.get(call.extension).ok_or(Refusal::UnknownExtension);
    note(
        steps,
        "extension",
        extension.as_ref().map(|extension| match extension.settings.scope {
            Scope::Application => "is served".to_owned(),
            Scope::Global => "is served, without an application too".to_owned(),
        }),
    );
    if let (Ok(extension), Some((_, project))) = (extension, call.application)
        && let Some(projects) = &extension.settings.projects
    {
        let served = if projects.matches(project) { Ok(project.to_owned()) } else { Err(Refusal::ProjectNotServed) };
        note(steps, "projects of the extension", served.as_ref().cloned());
    }
}

fn note(steps: &mut Vec<Step>, check: &'static str, outcome: Result<String, &Refusal>) {
    steps.push(Step { check, outcome: outcome.map_err(Clone::clone) });
}

fn describe(caller: &Authenticated) -> String {
    let rbac = caller.caller();
    let groups =
        if rbac.groups.is_empty() { "no groups".to_owned() } else { format!("groups {}", rbac.groups.join(", ")) };
    match caller.username() == rbac.user {
        true => format!("{}, {groups}", rbac.user),
        false => format!("{} ({}), {groups}", rbac.user, caller.username()),
    }
}

fn headers(application: Option<(&str, &str)>) -> Option<HeaderMap> {
    let (application, project) = application?;
    let mut headers = HeaderMap::new();
    for (name, value) in [(APPLICATION, application), (PROJECT, project)] {
        // What no header can hold is said to be missing.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    Some(headers)
}

fn visible(value: &HeaderValue) -> Option<String> {
    (!value.is_sensitive()).then(|| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
