//! Everything that the reconcile reads, as it is now, whatever it was read from.

use std::collections::BTreeMap;
use std::sync::Arc;

use dataplane::application::Application;
use dataplane::project::ProjectSource;

use crate::objects::{ConfigMap, Object, ObjectKey, ObjectKind, ProxyExtensionObject, Secret};

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Inputs {
    pub config_maps: BTreeMap<ObjectKey, ConfigMap>,
    pub secrets: BTreeMap<ObjectKey, Secret>,
    pub projects: BTreeMap<ObjectKey, ProjectSource>,
    pub applications: BTreeMap<ObjectKey, Arc<Application>>,
    pub proxy_extensions: BTreeMap<ObjectKey, ProxyExtensionObject>,
}

impl Inputs {
    /// Adds an object. `false` when it takes another one's place.
    pub fn insert(&mut self, key: ObjectKey, object: Object) -> bool {
        match object {
            Object::ConfigMap(object) => self.config_maps.insert(key, object).is_none(),
            Object::Secret(object) => self.secrets.insert(key, object).is_none(),
            Object::AppProject(object) => self.projects.insert(key, object).is_none(),
            Object::Application(object) => self.applications.insert(key, object).is_none(),
            Object::ProxyExtension(object) => self.proxy_extensions.insert(key, *object).is_none(),
        }
    }

    pub fn get(&self, kind: ObjectKind, key: &ObjectKey) -> Option<Object> {
        match kind {
            ObjectKind::ConfigMap => self.config_maps.get(key).cloned().map(Object::ConfigMap),
            ObjectKind::Secret => self.secrets.get(key).cloned().map(Object::Secret),
            ObjectKind::AppProject => self.projects.get(key).cloned().map(Object::AppProject),
            ObjectKind::Application => self.applications.get(key).cloned().map(Object::Application),
            ObjectKind::ProxyExtension => {
                self.proxy_extensions.get(key).cloned().map(|object| Object::ProxyExtension(Box::new(object)))
            }
        }
    }

    /// The data of a ConfigMap.
    pub fn config(&self, namespace: &str, name: &str) -> Option<&BTreeMap<String, String>> {
        self.config_maps.get(&ObjectKey::new(namespace, name)).map(|config| &config.data)
    }

    pub fn secret(&self, namespace: &str, name: &str) -> Option<&Secret> {
        self.secrets.get(&ObjectKey::new(namespace, name))
    }
}
