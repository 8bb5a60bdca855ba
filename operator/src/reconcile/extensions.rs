//! The registry of extensions out of both sources. A name counts once: `argocd-cm` first, then the older object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crds::draft::BackendDraft;
use crds::valid::{self, Origin};
use crds::{Problem, Reason, ServiceStatus, check_name};
use dataplane::Snapshot;
use dataplane::extension::{
    Extension, ExtensionSettings, Extensions, Limits, ProjectPatterns, Scope, Service, ServiceSettings,
};
use hashbrown::HashMap;

use super::backend::{self, Owner};
use super::extension_config::{self, ReadableTexts};
use super::{CONFIG, World, config_map};
use crate::inputs::Inputs;
use crate::objects::{self, ConfigMap, ObjectKey, ObjectKind, ProxyExtensionObject, Secret, ServiceObject};
use crate::registry_hash::Digest;
use crate::verdict::{ExtensionReport, Place, State, Verdict};

/// What a run came to.
pub(super) struct Read {
    pub(super) extensions: Arc<Extensions>,
    pub(super) verdicts: Vec<Arc<Verdict>>,
    /// Of the extensions that are served.
    pub(super) digest: Digest,
    pub(super) judged: Judged,
}

pub(super) fn read(world: &World<'_>, readable: &mut ReadableTexts, before: Option<&Snapshot>, known: &Judged) -> Read {
    let judge = Judge { world, before };
    let (known, dependencies) = match &known.dependencies {
        Some(dependencies) if dependencies.are_those_of(world.inputs) => (Some(known), dependencies.clone()),
        _ => (None, Arc::new(Dependencies::of(world.inputs))),
    };
    let config = known.and_then(|known| known.config.clone());
    let config = config.unwrap_or_else(|| Arc::new(judge.config(readable)));
    let mut written: Vec<_> = world.inputs.proxy_extensions.iter().collect();
    written.sort_by(|(a, x), (b, y)| (&x.created, a).cmp(&(&y.created, b)));
    let judgements = written.into_iter().map(|(key, object)| {
        let id = Arc::as_ptr(object) as usize;
        let judgement = known.and_then(|known| known.objects.get(&id)).cloned();
        (id, judgement.unwrap_or_else(|| Arc::new(judge.object(key, object))))
    });
    let objects: Vec<(usize, Arc<Judgement>)> = judgements.collect();

    let mut registry = Registry::for_up_to(config.entries.len() + objects.len());
    registry.verdicts.extend(config.findings.iter().cloned());
    config.entries.iter().for_each(|judgement| registry.add(judgement));
    objects.iter().for_each(|(_, judgement)| registry.add(judgement));
    let (extensions, verdicts, digest) = registry.finish();
    let extensions = match before.map(|before| &before.extensions) {
        Some(before) if are_same(before, &extensions) => before.clone(),
        _ => Arc::new(extensions),
    };
    let objects = objects.into_iter().collect();
    let judged = Judged { dependencies: Some(dependencies), config: Some(config), objects };
    Read { extensions, verdicts, digest, judged }
}

fn are_same(before: &Extensions, now: &Extensions) -> bool {
    let is_known =
        |(name, extension): (&Arc<str>, _)| before.get(name).is_some_and(|known| Arc::ptr_eq(known, extension));
    before.len() == now.len() && now.iter().all(is_known)
}

/// What became of the extensions, to be kept for as long as nothing changes that they depend on: of a thousand only
/// those are looked at again that changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Judged {
    dependencies: Option<Arc<Dependencies>>,
    config: Option<Arc<JudgedConfig>>,
    /// By the address of the object, which each keeps from being another's.
    objects: HashMap<usize, Arc<Judgement>>,
}

/// Everything that an extension's meaning depends on besides what it says itself.
#[derive(Debug)]
struct Dependencies {
    config_maps: BTreeMap<ObjectKey, ConfigMap>,
    secrets: BTreeMap<ObjectKey, Secret>,
    services: BTreeMap<ObjectKey, ServiceObject>,
    unreadable: BTreeSet<(ObjectKind, ObjectKey)>,
}

impl Dependencies {
    fn of(inputs: &Inputs) -> Self {
        Self {
            config_maps: inputs.config_maps.clone(),
            secrets: inputs.secrets.clone(),
            services: inputs.services.clone(),
            unreadable: inputs.unreadable.clone(),
        }
    }

    fn are_those_of(&self, inputs: &Inputs) -> bool {
        self.config_maps == inputs.config_maps
            && self.secrets == inputs.secrets
            && self.services == inputs.services
            && self.unreadable == inputs.unreadable
    }
}

/// The extensions of `argocd-cm`.
#[derive(Debug)]
struct JudgedConfig {
    findings: Vec<Arc<Verdict>>,
    entries: Vec<Judgement>,
}

/// An extension by itself, whoever else has its name.
#[derive(Debug)]
struct Judgement {
    _object: Option<Arc<ProxyExtensionObject>>,
    /// Where it can be served.
    extension: Option<(Arc<Extension>, Digest)>,
    verdict: Arc<Verdict>,
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

/// Who gets which name.
#[derive(Default)]
struct Registry<'a> {
    extensions: Extensions,
    /// Where each served name stands.
    owners: HashMap<&'a str, &'a Place>,
    verdicts: Vec<Arc<Verdict>>,
    digest: Digest,
}

impl<'a> Registry<'a> {
    fn for_up_to(extensions: usize) -> Self {
        let mut registry = Self::default();
        registry.extensions.reserve(extensions);
        registry.owners.reserve(extensions);
        registry.verdicts.reserve(extensions);
        registry
    }

    fn finish(self) -> (Extensions, Vec<Arc<Verdict>>, Digest) {
        (self.extensions, self.verdicts, self.digest)
    }

    fn add(&mut self, judgement: &'a Judgement) {
        let Some((extension, digest)) = &judgement.extension else {
            return self.verdicts.push(judgement.verdict.clone());
        };
        let name = &extension.settings.name;
        if let Some(owner) = self.owners.get(&**name) {
            let message = format!("{owner} has this name already and is served; rename or remove one of them");
            let mut verdict = Verdict::clone(&judgement.verdict);
            verdict.problems.push(Problem::error("name", message).because(Reason::NameConflict));
            verdict.state = State::Conflicted;
            return self.verdicts.push(Arc::new(verdict));
        }
        self.owners.insert(name, &judgement.verdict.place);
        self.extensions.insert(name.clone(), extension.clone());
        self.digest.add(digest);
        self.verdicts.push(judgement.verdict.clone());
    }
}

struct Judge<'a> {
    world: &'a World<'a>,
    before: Option<&'a Snapshot>,
}

impl Judge<'_> {
    fn config(&self, readable: &mut ReadableTexts) -> JudgedConfig {
        let world = self.world;
        let namespace = world.options.namespace.as_str();
        let empty = BTreeMap::new();
        let config = world.inputs.config(namespace, CONFIG).unwrap_or(&empty);
        let object = config_map(namespace, CONFIG);
        let (entries, findings) = extension_config::read(config, world.references, readable);
        let place = |entry: String| Place::new(object.as_str(), entry);
        let entries = entries.into_iter().map(|entry| {
            self.judge(Entry {
                place: place(entry.place),
                owner: Owner { namespace, origin: Origin::ArgoCdConfigMap },
                name: entry.name,
                scope: Scope::Application,
                projects: None,
                backend: entry.backend,
                problems: entry.problems,
            })
        });
        let findings =
            findings.into_iter().map(|finding| Arc::new(Verdict::on(place(finding.key), vec![finding.problem])));
        JudgedConfig { entries: entries.collect(), findings: findings.collect() }
    }

    fn object(&self, key: &ObjectKey, object: &Arc<ProxyExtensionObject>) -> Judgement {
        Judgement { _object: Some(object.clone()), ..self.judge(entry(self.world, key, object)) }
    }

    fn judge(&self, entry: Entry<'_>) -> Judgement {
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
        let extension = backend.zip(services).map(|(backend, services)| {
            let limits = limits(&backend.limits);
            let extension = self.serve(ExtensionSettings { name: name.into(), scope, projects, limits }, services);
            problems.extend(self.ambiguities(&extension));
            let digest = Digest::of(&extension);
            (extension, digest)
        });
        let state = if extension.is_some() { State::Accepted } else { State::Invalid };
        let verdict = Arc::new(Verdict { place, state, extension: Some(report), problems });
        Judgement { _object: None, extension, verdict }
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
    fn serve(&self, settings: ExtensionSettings, services: Vec<ServiceSettings>) -> Arc<Extension> {
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
        match known {
            Some(known) if **known == extension => known.clone(),
            _ => Arc::new(extension),
        }
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
