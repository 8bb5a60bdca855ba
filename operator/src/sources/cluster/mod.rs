//! A cluster: every kind that is read is watched, and each change goes into the inputs and on to the controller.
//!
//! ```text
//! a watch for each Scope ─┐
//! revocations (Redis) ────┴─► Cluster: Inputs, changed in place ──► controller
//! ```
//! Nothing is published before every source has been read once. A source that is lost afterwards leaves what it
//! said last in effect; its watch goes on by itself from where it was.

mod scope;
mod watched;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crds::{Problem, ProxyExtensionSpec};
use futures_util::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, ExponentialBackoff};
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::controller::Controller;
use crate::inputs::Inputs;
use crate::kube_error;
use crate::metrics::SourceMetrics;
use crate::objects::{self, Interner, Object, ObjectKey, ObjectKind};
use crate::sources::pauses;
use crate::sources::revocations::{self, RedisOptions, RevocationReceiver};
use crate::verdict::{Place, Verdict};
use scope::Scope;
use watched::Watched;

/// Signals that may wait; beyond, the watches wait.
const SIGNALS: usize = 1024;
/// Signals that are taken before what they changed is published.
const MOST_AT_ONCE: usize = 4096;
/// Changes that follow each other more closely are published together.
const GATHER: Duration = Duration::from_millis(10);
const DEFAULT_REDIS: &str = "argocd-redis:6379";

pub struct ClusterOptions {
    /// What is set instead of `argocd-cmd-params-cm`.
    pub overrides: BTreeMap<&'static str, String>,
    /// Without addresses: where `redis.server` says. Without a password: the one in the Secret `argocd-redis`.
    pub redis: RedisOptions,
}

pub struct Cluster {
    client: Client,
    options: ClusterOptions,
    controller: Controller,
    redis: watch::Sender<Option<RedisOptions>>,
    revocations: RevocationReceiver,
    metrics: SourceMetrics,
    _revocations_task: AbortOnDropHandle<()>,
    sender: mpsc::Sender<Signal>,
    signals: mpsc::Receiver<Signal>,
    watches: BTreeMap<Scope, Watch>,
    inputs: Inputs,
    /// ProxyExtensions that wait until what they refer to has been read once. What they said before stays in effect.
    waiting: HashSet<ObjectKey>,
    interner: Interner,
    changes: Changes,
    is_published: bool,
}

struct Signal {
    scope: Arc<Scope>,
    event: Result<Event<Watched>, watcher::Error>,
}

/// What one watch has seen.
struct Watch {
    objects: HashMap<ObjectKey, Object>,
    /// Objects that it has seen as well, and why they do not count.
    undecodable: BTreeMap<ObjectKey, String>,
    /// During a list: what it has brought so far.
    listed: Option<HashSet<ObjectKey>>,
    is_synced: bool,
    is_failing: bool,
    /// Whether it is about something that extensions refer to: only they depend on it.
    is_reference: bool,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Changes {
    configuration: bool,
    /// Applications and revocations, of which there may be many and which decide nothing but themselves.
    lookups: bool,
}

impl Cluster {
    pub fn new(client: Client, options: ClusterOptions, controller: Controller, metrics: SourceMetrics) -> Self {
        let (sender, signals) = mpsc::channel(SIGNALS);
        let redis = watch::Sender::new(None);
        let revoked = watch::Sender::new(None);
        let revocations = revoked.subscribe();
        let task = tokio::spawn(revocations::follow(redis.subscribe(), revoked, metrics.clone()));
        let inputs = Inputs { overrides: options.overrides.clone(), ..Inputs::default() };
        Self {
            client,
            options,
            controller,
            redis,
            revocations,
            metrics,
            _revocations_task: AbortOnDropHandle::new(task),
            sender,
            signals,
            watches: BTreeMap::new(),
            inputs,
            waiting: HashSet::new(),
            interner: Interner::default(),
            changes: Changes::default(),
            is_published: false,
        }
    }

    /// Follows the cluster until the task is dropped.
    pub async fn run(mut self) {
        for scope in scope::configuration(self.controller.options()) {
            self.watch(scope, false);
        }
        loop {
            tokio::select! {
                signal = self.signals.recv() => {
                    // Never none: this holds a sender itself.
                    let mut next = signal;
                    for _ in 0..MOST_AT_ONCE {
                        let Some(signal) = next else { break };
                        self.take(signal);
                        next = self.signals.try_recv().ok();
                    }
                    if let Some(signal) = next {
                        self.take(signal);
                    }
                }
                changed = self.revocations.changed() => {
                    if changed.is_err() {
                        // Ended with the process.
                        return;
                    }
                }
            }
            self.publish();
            sleep(GATHER).await;
        }
    }

    fn watch(&mut self, scope: Scope, is_reference: bool) {
        let resource = scope.resource();
        let api: Api<Watched> = match &scope.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let task = tokio::spawn(follow(api, Arc::new(scope.clone()), self.sender.clone()));
        let watch = Watch {
            objects: HashMap::new(),
            undecodable: BTreeMap::new(),
            listed: None,
            is_synced: false,
            is_failing: false,
            is_reference,
            _task: AbortOnDropHandle::new(task),
        };
        self.watches.insert(scope, watch);
    }

    fn take(&mut self, signal: Signal) {
        let Signal { scope, event } = signal;
        // One that is watched no longer may have had its say still under way.
        let Some(watch) = self.watches.get_mut(&scope) else { return };
        match event {
            Ok(event) => {
                if std::mem::take(&mut watch.is_failing) {
                    info!("the watch of {scope} works again");
                    if !self.watches.iter().any(|(other, watch)| other.kind == scope.kind && watch.is_failing) {
                        self.metrics.works(scope.label());
                    }
                }
                self.take_event(&scope, event);
            }
            Err(error) => self.take_error(&scope, &error),
        }
    }

    fn take_event(&mut self, scope: &Scope, event: Event<Watched>) {
        let Some(watch) = self.watches.get_mut(scope) else { return };
        match event {
            Event::Init => watch.listed = Some(HashSet::new()),
            Event::InitApply(object) | Event::Apply(object) => self.put(scope, object.object),
            Event::Delete(object) => {
                if let Some(key) = objects::key_of(&object.object, &self.controller.options().namespace) {
                    watch.objects.remove(&key);
                    self.changes.configuration |= watch.undecodable.remove(&key).is_some();
                    self.resolve(scope.kind, key);
                }
            }
            Event::InitDone => {
                let listed = watch.listed.take().unwrap_or_default();
                watch.is_synced = true;
                if let Some(object) = scope.object() {
                    self.changes.configuration |= self.inputs.unreadable.remove(&(scope.kind, object));
                }
                let undecodable = watch.undecodable.len();
                watch.undecodable.retain(|key, _| listed.contains(key));
                self.changes.configuration |= watch.undecodable.len() < undecodable;
                let gone: Vec<ObjectKey> = watch.objects.keys().filter(|key| !listed.contains(*key)).cloned().collect();
                for key in &gone {
                    watch.objects.remove(key);
                }
                gone.into_iter().for_each(|key| self.resolve(scope.kind, key));
            }
        }
    }

    fn put(&mut self, scope: &Scope, object: serde_json::Value) {
        let Some(key) = objects::key_of(&object, &self.controller.options().namespace) else { return };
        let decoded = objects::decode(scope.kind, object, &mut self.interner);
        let Some(watch) = self.watches.get_mut(scope) else { return };
        if let Some(listed) = &mut watch.listed {
            listed.insert(key.clone());
        }
        match decoded {
            Ok(object) => {
                self.changes.configuration |= watch.undecodable.remove(&key).is_some();
                if watch.objects.get(&key) == Some(&object) {
                    return;
                }
                watch.objects.insert(key.clone(), object);
            }
            Err(message) => {
                watch.objects.remove(&key);
                watch.undecodable.insert(key.clone(), message);
                self.changes.configuration = true;
            }
        }
        self.resolve(scope.kind, key);
    }

    /// Brings the inputs up to what the watches of this kind say of an object now.
    fn resolve(&mut self, kind: ObjectKind, key: ObjectKey) {
        let of_kind = self.watches.iter().filter(|(scope, _)| scope.kind == kind);
        let seen = of_kind.filter_map(|(_, watch)| watch.objects.get(&key)).next().cloned();
        if let Some(Object::ProxyExtension(extension)) = &seen
            && !self.has_read_references(&key, &extension.spec)
        {
            self.waiting.insert(key);
            return;
        }
        match kind {
            ObjectKind::Application => self.changes.lookups = true,
            _ => self.changes.configuration = true,
        }
        match seen {
            Some(object) => {
                self.inputs.insert(key, object);
            }
            None => self.inputs.remove(kind, &key),
        }
    }

    /// Watches what an extension refers to. Whether all of it has been read once, or cannot be.
    fn has_read_references(&mut self, key: &ObjectKey, spec: &ProxyExtensionSpec) -> bool {
        let references = scope::references(self.controller.options(), key, spec);
        for scope in &references {
            if !self.watches.contains_key(scope) {
                self.watch(scope.clone(), true);
            }
        }
        references.iter().all(|scope| self.watches.get(scope).is_some_and(|watch| watch.is_synced))
    }

    /// Ends the watches of what no extension refers to any more, and takes up the extensions that waited.
    fn follow_references(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().for_each(|key| self.resolve(ObjectKind::ProxyExtension, key));
        if !self.changes.configuration {
            return;
        }
        let seen = self.watches.iter().filter(|(scope, _)| scope.kind == ObjectKind::ProxyExtension);
        let referred: HashSet<Scope> = seen
            .flat_map(|(_, watch)| &watch.objects)
            .filter_map(|(key, object)| match object {
                Object::ProxyExtension(object) => Some(scope::references(self.controller.options(), key, &object.spec)),
                _ => None,
            })
            .flatten()
            .collect();
        let is_unwanted = |(scope, watch): &(&Scope, &Watch)| watch.is_reference && !referred.contains(*scope);
        let unwanted: Vec<Scope> = self.watches.iter().filter(is_unwanted).map(|(scope, _)| scope.clone()).collect();
        unwanted.iter().for_each(|scope| self.unwatch(scope));
    }

    fn unwatch(&mut self, scope: &Scope) {
        let Some(watch) = self.watches.remove(scope) else { return };
        self.changes.configuration |= !watch.undecodable.is_empty();
        if let Some(object) = scope.object() {
            self.inputs.unreadable.remove(&(scope.kind, object));
        }
        watch.objects.into_keys().for_each(|key| self.resolve(scope.kind, key));
    }

    fn take_error(&mut self, scope: &Scope, error: &watcher::Error) {
        self.metrics.failed(scope.label());
        let Some(watch) = self.watches.get_mut(scope) else { return };
        let status = kube_error::status(error);
        if scope.kind == ObjectKind::ProxyExtension && status == Some(404) {
            // Without its CRD there is none. It is asked for again all the same.
            if !watch.is_synced {
                warn!("the CRD of ProxyExtensions is not installed: only argocd-cm counts until it is");
            }
            self.take_event(scope, Event::InitDone);
            return;
        }
        if std::mem::replace(&mut watch.is_failing, true) {
            return;
        }
        let effect = match (watch.is_synced, watch.is_reference) {
            (true, _) => "what it said last stays in effect",
            (false, true) => "extensions that refer to it are not served",
            (false, false) => "nothing is served without it",
        };
        if watch.is_reference && !std::mem::replace(&mut watch.is_synced, true) {
            self.inputs.unreadable.extend(scope.object().map(|object| (scope.kind, object)));
            self.changes.configuration = true;
        }
        let remedy = match status {
            Some(403) => "; grant the service account get, list and watch of it",
            Some(404) => "; install its CRD",
            _ => "",
        };
        warn!(error = kube_error::describe_watch(error), "the watch of {scope} fails: {effect}{remedy}");
    }

    fn publish(&mut self) {
        self.follow_references();
        if !self.follow_application_namespaces() || !self.follow_revocations() {
            return;
        }
        if !self.is_published && !self.waiting.is_empty() {
            return;
        }
        let is_first = !std::mem::replace(&mut self.is_published, true);
        if is_first {
            self.changes.configuration = true;
        }
        let changes = std::mem::take(&mut self.changes);
        if changes.configuration {
            let undecodable = self.watches.iter().flat_map(|(scope, watch)| {
                watch.undecodable.iter().map(|(key, message)| (objects::describe(scope.kind, key), message))
            });
            let verdicts = undecodable.map(|(object, message)| {
                let message = format!("{message}; it does not count until it is corrected");
                Verdict::on(Place::new(object, ""), vec![Problem::error("", message)])
            });
            let report = self.controller.apply(&self.inputs, verdicts.collect());
            if is_first {
                report.log_changes(&[]);
            }
        } else if changes.lookups {
            self.controller.apply_lookups(&self.inputs);
        }
    }

    /// Watches the applications that the configuration asks for. Whether every watch has been read once; only then
    /// those go that are not asked for any more.
    fn follow_application_namespaces(&mut self) -> bool {
        let is_synced =
            |watches: &BTreeMap<Scope, Watch>| watches.values().all(|watch| watch.is_synced || watch.is_reference);
        let are_applications = |scope: &Scope| scope.kind == ObjectKind::Application;
        let mut configuration =
            self.watches.iter().filter(|(scope, watch)| !are_applications(scope) && !watch.is_reference);
        if !configuration.all(|(_, watch)| watch.is_synced) {
            return false;
        }
        self.follow_redis_options();
        let patterns = self.inputs.application_namespaces(&self.controller.options().namespace);
        let wanted = scope::applications(&self.controller.options().namespace, patterns);
        let new: Vec<Scope> = wanted.iter().filter(|scope| !self.watches.contains_key(*scope)).cloned().collect();
        new.into_iter().for_each(|scope| self.watch(scope, false));
        // What was served goes on being served while more is read.
        if !is_synced(&self.watches) {
            return self.is_published;
        }
        let unwanted = |scope: &&Scope| are_applications(scope) && !wanted.contains(scope);
        let unwanted: Vec<Scope> = self.watches.keys().filter(unwanted).cloned().collect();
        unwanted.iter().for_each(|scope| self.unwatch(scope));
        true
    }

    /// Takes over what is revoked. Whether that is known.
    fn follow_revocations(&mut self) -> bool {
        let known = self.revocations.borrow_and_update();
        let Some(revoked) = &*known else { return false };
        if !Arc::ptr_eq(revoked, &self.inputs.revoked) {
            self.inputs.revoked = revoked.clone();
            self.changes.lookups = true;
        }
        true
    }

    fn follow_redis_options(&self) {
        let namespace = &self.controller.options().namespace;
        let mut options = self.options.redis.clone();
        if options.addresses.is_empty() {
            let configured = self.inputs.parameter(namespace, "redis.server").filter(|server| !server.is_empty());
            options.addresses.push(configured.unwrap_or(DEFAULT_REDIS).to_owned());
        }
        if options.password.is_none() {
            let password = self.inputs.secret(namespace, "argocd-redis").and_then(|secret| secret.text("auth"));
            options.password = password.map(|password| password.trim().to_owned()).filter(|text| !text.is_empty());
        }
        self.redis.send_if_modified(|current| {
            let changed = current.as_ref() != Some(&options);
            *current = Some(options);
            changed
        });
    }
}

async fn follow(api: Api<Watched>, scope: Arc<Scope>, sender: mpsc::Sender<Signal>) {
    let mut config = scope.watch();
    loop {
        let events = kube::runtime::watcher(api.clone(), config.clone()).backoff(ExponentialBackoff::from(pauses()));
        tokio::pin!(events);
        while let Some(event) = events.next().await {
            if event.as_ref().is_err_and(refuses_streamed_lists) && config != scope.paged_watch() {
                info!("the API server does not stream lists: {scope} are listed in pages");
                config = scope.paged_watch();
                break;
            }
            if sender.send(Signal { scope: scope.clone(), event }).await.is_err() {
                return;
            }
        }
    }
}

/// An API server whose feature gate `WatchList` is off, or that does not know it yet.
fn refuses_streamed_lists(error: &watcher::Error) -> bool {
    kube_error::status(error) == Some(422) && kube_error::describe_watch(error).contains("sendInitialEvents")
}
