//! The registry of extensions out of both sources. A name counts once: `argocd-cm` first, then the older object.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::draft::BackendDraft;
use crds::valid::{self, Origin};
use crds::{Problem, Reason, ServiceStatus, check_name};
use dataplane::Snapshot;
use dataplane::extension::{
    Extension, ExtensionSettings, Extensions, Limits, ProjectPatterns, Scope, Service, ServiceSettings,
};

use super::backend::{self, Owner};
use super::extension_config::{self, ReadableTexts};
use super::{CONFIG, World, config_map};
use crate::objects::{self, ObjectKey, ObjectKind, ProxyExtensionObject};
use crate::verdict::{ExtensionReport, Place, State, Verdict};

pub(super) fn read(
    world: &World<'_>,
    readable: &mut ReadableTexts,
    before: Option<&Snapshot>,
    verdicts: &mut Vec<Verdict>,
) -> Extensions {
    let mut registry = Registry { world, before, extensions: Extensions::new(), owners: BTreeMap::new(), verdicts };
    let namespace = world.options.namespace.as_str();
    let empty = BTreeMap::new();
    let config = world.inputs.config(namespace, CONFIG).unwrap_or(&empty);
    let object = config_map(namespace, CONFIG);
    let (entries, findings) = extension_config::read(config, world.references, readable);
    for finding in findings {
        registry.verdicts.push(Verdict::on(Place::new(object.as_str(), finding.key), vec![finding.problem]));
    }
    for entry in entries {
        registry.add(Entry {
            place: Place::new(object.as_str(), entry.place),
            owner: Owner { namespace, origin: Origin::ArgoCdConfigMap },
            name: entry.name,
            scope: Scope::Application,
            projects: None,
            backend: entry.backend,
            problems: entry.problems,
        });
    }
    let mut objects: Vec<_> = world.inputs.proxy_extensions.iter().collect();
    objects.sort_by(|(a, x), (b, y)| (&x.created, a).cmp(&(&y.created, b)));
    for (key, object) in objects {
        let entry = entry(world, key, object);
        registry.add(entry);
    }
    registry.extensions
}

/// An extension as it is written, wherever that is.
struct Entry<'a> {
    place: Place,
    owner: Owner<'a>,
    name: String,
    scope: Scope,
    projects: Option<ProjectPatterns>,
    backend: BackendDraft,
    problems: Vec<Problem>,
}

fn entry<'a>(world: &World<'_>, key: &'a ObjectKey, object: &ProxyExtensionObject) -> Entry<'a> {
    let spec = &object.spec;
    let name = spec.name.clone().unwrap_or_else(|| key.name.clone());
    let mut problems: Vec<Problem> =
        object.unknown_fields.iter().map(|field| Problem::warning(field, "is not known and has no effect")).collect();
    if !world.options.admits(&key.namespace) {
        let own = &world.options.namespace;
        let message = format!(
            "only ProxyExtensions in Argo CD's namespace {own:?} and in those of --extension-namespaces count; move it there"
        );
        problems.push(Problem::error("metadata.namespace", message).because(Reason::NamespaceNotAllowed));
    }
    if let Err(error) = check_name(&name) {
        problems.push(Problem::error("spec.name", format!("{name:?}: {error}")));
    }
    problems.extend(valid::check_scope(spec));
    Entry {
        place: Place::new(objects::describe(ObjectKind::ProxyExtension, key), ""),
        owner: Owner { namespace: &key.namespace, origin: Origin::ProxyExtension },
        name,
        scope: match spec.scope.unwrap_or_default() {
            crds::Scope::Application => Scope::Application,
            crds::Scope::Global => Scope::Global,
        },
        projects: spec.projects.clone().map(ProjectPatterns::new),
        backend: BackendDraft::from(&spec.backend),
        problems,
    }
}

struct Registry<'a> {
    world: &'a World<'a>,
    before: Option<&'a Snapshot>,
    extensions: Extensions,
    /// Where each served name stands.
    owners: BTreeMap<String, Place>,
    verdicts: &'a mut Vec<Verdict>,
}

impl Registry<'_> {
    fn add(&mut self, entry: Entry<'_>) {
        let Entry { place, owner, name, scope, projects, backend, mut problems } = entry;
        let (backend, found) = valid::check(&backend, owner.origin);
        // A reference without a value has been told already; that there is no value then is no news.
        let told: Vec<String> = problems.iter().filter(|p| p.is_error()).map(|problem| problem.field.clone()).collect();
        problems.extend(found.into_iter().filter(|problem| !told.contains(&problem.field)));
        let known = self.before.and_then(|before| before.extensions.get(name.as_str()));
        let known = known.map(|extension| extension.services.as_slice()).unwrap_or_default();
        let services = backend.as_ref().and_then(|b| backend::services(b, self.world, owner, known, &mut problems));
        let services = services.filter(|_| !problems.iter().any(Problem::is_error));
        let shown = services.as_deref().unwrap_or_default().iter().map(report).collect();
        let report = ExtensionReport { name: name.clone(), services: shown };
        let mut state = State::Invalid;
        if let (Some(backend), Some(services)) = (backend, services) {
            if let Some(owner) = self.owners.get(&name) {
                let message = format!("{owner} has this name already and is served; rename or remove one of them");
                problems.push(Problem::error("name", message).because(Reason::NameConflict));
                state = State::Conflicted;
            } else {
                self.owners.insert(name.clone(), place.clone());
                let limits = limits(&backend.limits);
                let extension = self.serve(ExtensionSettings { name: name.into(), scope, projects, limits }, services);
                problems.extend(self.ambiguities(&extension));
                state = State::Accepted;
            }
        }
        self.verdicts.push(Verdict { place, state, extension: Some(report), problems });
    }

    /// Clusters for which it is not clear which of its services answers.
    fn ambiguities(&self, extension: &Extension) -> Option<Problem> {
        if extension.services.len() < 2 {
            return None;
        }
        let ambiguous = self.world.clusters.iter().filter(|cluster| extension.is_ambiguous_for(cluster));
        let mut clusters: Vec<String> =
            ambiguous.map(|cluster| format!("{:?} ({})", cluster.name, cluster.server)).collect();
        clusters.sort();
        if clusters.is_empty() {
            return None;
        }
        let message = format!(
            "several services answer for the cluster {}: one that is named there as the application's destination names the cluster is preferred, and any other request is refused; name each cluster once",
            clusters.join(" and ")
        );
        Some(Problem::warning("backend.services", message))
    }

    /// An extension or a service that did not change stays the same one, with its connections.
    fn serve(&mut self, settings: ExtensionSettings, services: Vec<ServiceSettings>) -> Arc<Extension> {
        let known = self.before.and_then(|before| before.extensions.get(&settings.name));
        let mut known_services: Vec<Arc<Service>> = known.map(|known| known.services.clone()).unwrap_or_default();
        let keep = |settings: ServiceSettings| {
            // Of two that are alike each stays itself.
            match known_services.iter().position(|service| service.settings == settings) {
                Some(i) => known_services.remove(i),
                None => Arc::new(Service::new(settings)),
            }
        };
        let services = services.into_iter().map(keep).collect();
        let extension = Extension::new(settings, services, known.map(|known| &**known));
        let extension = match known {
            Some(known) if **known == extension => known.clone(),
            _ => Arc::new(extension),
        };
        self.extensions.insert(extension.settings.name.clone(), extension.clone());
        extension
    }
}

fn limits(limits: &valid::Limits) -> Limits {
    Limits {
        request_timeout: limits.request_timeout,
        stream_idle_timeout: limits.stream_idle_timeout,
        max_request_body_bytes: limits.max_request_body_bytes,
        max_concurrent_requests: limits.max_concurrent_requests,
    }
}

fn report(service: &ServiceSettings) -> ServiceStatus {
    let cluster = service.cluster.as_ref().map(|cluster| {
        let selected = cluster.selector.as_ref().map(|selected| {
            let servers: Vec<&str> = selected.servers.iter().map(String::as_str).collect();
            let servers = if servers.is_empty() { "none".to_owned() } else { servers.join(", ") };
            format!("{} ({servers})", selected.selector)
        });
        [cluster.name.clone(), cluster.server.clone(), selected].into_iter().flatten().collect::<Vec<_>>().join(" or ")
    });
    ServiceStatus { url: service.address.url(), cluster, ..ServiceStatus::default() }
}
