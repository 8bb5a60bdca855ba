//! Everything that the reconcile reads, as it is now, whatever it was read from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dataplane::application::{self, Application, Applications};
use dataplane::project::ProjectSource;

use hashbrown::HashSet;

use crate::objects::{ConfigMap, Object, ObjectKey, ObjectKind, ProxyExtensionObject, Secret, ServiceObject};

/// Where Argo CD keeps what its components are started with.
pub const PARAMS_CONFIG: &str = "argocd-cmd-params-cm";

/// Changing one does not copy the others.
pub type ProxyExtensions = imbl::OrdMap<ObjectKey, Arc<ProxyExtensionObject>>;

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Inputs {
    pub config_maps: BTreeMap<ObjectKey, ConfigMap>,
    pub secrets: BTreeMap<ObjectKey, Secret>,
    pub projects: BTreeMap<ObjectKey, ProjectSource>,
    /// As the snapshot holds them: what did not change is shared from one snapshot to the next.
    pub applications: Applications,
    pub proxy_extensions: ProxyExtensions,
    pub services: BTreeMap<ObjectKey, ServiceObject>,
    /// Objects that extensions refer to and that may not be read.
    pub unreadable: BTreeSet<(ObjectKind, ObjectKey)>,
    /// Ids of revoked tokens.
    pub revoked: Arc<HashSet<Box<str>>>,
    /// What flags and environment variables set instead of `argocd-cmd-params-cm`.
    pub overrides: BTreeMap<&'static str, String>,
}

impl Inputs {
    /// Adds an object. `false` when it takes another one's place.
    pub fn insert(&mut self, key: ObjectKey, object: Object) -> bool {
        match object {
            Object::ConfigMap(object) => self.config_maps.insert(key, object).is_none(),
            Object::Secret(object) => self.secrets.insert(key, object).is_none(),
            Object::AppProject(object) => self.projects.insert(key, object).is_none(),
            Object::Application(object) => self.insert_application(&key, object),
            Object::ProxyExtension(object) => self.proxy_extensions.insert(key, object).is_none(),
            Object::Service(object) => self.services.insert(key, object).is_none(),
        }
    }

    /// An application that is what it was leaves the map as it is.
    fn insert_application(&mut self, key: &ObjectKey, application: Arc<Application>) -> bool {
        let key = application::key(&key.namespace, &key.name);
        match self.applications.get(&key) {
            Some(known) if *known == application => false,
            _ => self.applications.insert(key, application).is_none(),
        }
    }

    pub fn remove(&mut self, kind: ObjectKind, key: &ObjectKey) {
        match kind {
            ObjectKind::ConfigMap => drop(self.config_maps.remove(key)),
            ObjectKind::Secret => drop(self.secrets.remove(key)),
            ObjectKind::AppProject => drop(self.projects.remove(key)),
            ObjectKind::Application => {
                drop(self.applications.remove(&application::key(&key.namespace, &key.name)));
            }
            ObjectKind::ProxyExtension => drop(self.proxy_extensions.remove(key)),
            ObjectKind::Service => drop(self.services.remove(key)),
        }
    }

    /// Makes applications, extensions and revocations those of `before` wherever they are the same, so that they are
    /// shared.
    pub fn share_with(&mut self, before: &Self) {
        for (key, extension) in &before.proxy_extensions {
            if self.proxy_extensions.get(key) == Some(extension) {
                self.proxy_extensions.insert(key.clone(), extension.clone());
            }
        }
        if self.revoked == before.revoked {
            self.revoked = before.revoked.clone();
        }
        let mut shared = before.applications.clone();
        for (key, application) in &self.applications {
            if before.applications.get(key) != Some(application) {
                shared.insert(key.clone(), application.clone());
            }
        }
        if shared.len() > self.applications.len() {
            for key in before.applications.keys().filter(|key| !self.applications.contains_key(*key)) {
                shared.remove(key);
            }
        }
        self.applications = shared;
    }

    pub fn get(&self, kind: ObjectKind, key: &ObjectKey) -> Option<Object> {
        match kind {
            ObjectKind::ConfigMap => self.config_maps.get(key).cloned().map(Object::ConfigMap),
            ObjectKind::Secret => self.secrets.get(key).cloned().map(Object::Secret),
            ObjectKind::AppProject => self.projects.get(key).cloned().map(Object::AppProject),
            ObjectKind::Application => {
                let key = application::key(&key.namespace, &key.name);
                self.applications.get(&key).cloned().map(Object::Application)
            }
            ObjectKind::ProxyExtension => self.proxy_extensions.get(key).cloned().map(Object::ProxyExtension),
            ObjectKind::Service => self.services.get(key).cloned().map(Object::Service),
        }
    }

    /// The data of a ConfigMap.
    pub fn config(&self, namespace: &str, name: &str) -> Option<&BTreeMap<String, String>> {
        self.config_maps.get(&ObjectKey::new(namespace, name)).map(|config| &config.data)
    }

    /// A key of `argocd-cmd-params-cm`, or what overrides it.
    pub fn parameter(&self, namespace: &str, key: &str) -> Option<&str> {
        let written = || self.config(namespace, PARAMS_CONFIG).and_then(|params| params.get(key));
        self.overrides.get(key).or_else(written).map(String::as_str)
    }

    pub fn application_namespaces(&self, namespace: &str) -> &str {
        self.parameter(namespace, "application.namespaces").unwrap_or_default()
    }

    pub fn secret(&self, namespace: &str, name: &str) -> Option<&Secret> {
        self.secrets.get(&ObjectKey::new(namespace, name))
    }
}
