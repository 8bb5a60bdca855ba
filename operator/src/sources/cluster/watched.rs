//! An object as a watch brings it: what is read of it, and nothing that may be large.
//!
//! Decoding it cannot fail for a reason that lies in one object, so that no object can stop a watch: what it means
//! is decoded afterwards.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

#[derive(Clone)]
pub(super) struct Watched {
    metadata: ObjectMeta,
    pub(super) object: Value,
}

/// Content may be secret.
impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("name", &self.metadata.name).finish_non_exhaustive()
    }
}

/// What is read of `metadata`: not `managedFields` and annotations, which hold the object a second time.
const METADATA: &[&str] = &["name", "namespace", "resourceVersion", "uid", "generation", "creationTimestamp", "labels"];
const METADATA_OF_APPLICATION: &[&str] = &["name", "namespace", "resourceVersion"];
const SPEC_OF_APPLICATION: &[&str] = &["project", "destination"];

impl<'de> Deserialize<'de> for Watched {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Watched;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Watched, A::Error> {
        let mut object = Map::new();
        // The API server writes `kind` before what may be large.
        let is_application = |object: &Map<String, Value>| object.get("kind").is_some_and(|kind| kind == "Application");
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let value = match (key.as_ref(), is_application(&object)) {
                ("metadata", true) => map.next_value_seed(Fields(METADATA_OF_APPLICATION))?,
                ("metadata", false) => map.next_value_seed(Fields(METADATA))?,
                ("spec", true) => map.next_value_seed(Fields(SPEC_OF_APPLICATION))?,
                ("status" | "operation", true) => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                _ => map.next_value()?,
            };
            object.insert(key.into_owned(), value);
        }
        Ok(Watched { metadata: metadata(&object), object: Value::Object(object) })
    }
}

/// What the watch itself needs.
fn metadata(object: &Map<String, Value>) -> ObjectMeta {
    let text = |field: &str| object.get("metadata")?.get(field)?.as_str().map(str::to_owned);
    ObjectMeta {
        name: text("name"),
        namespace: text("namespace"),
        resource_version: text("resourceVersion"),
        ..ObjectMeta::default()
    }
}

/// These fields of a map; what is no map, as it is.
struct Fields(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Fields {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Fields {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if self.0.contains(&key.as_ref()) {
                fields.insert(key.into_owned(), map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Value::Object(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Value, A::Error> {
        Value::deserialize(SeqAccessDeserializer::new(seq))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

impl Resource for Watched {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn watched(object: &Value) -> Value {
        serde_json::from_str::<Watched>(&object.to_string()).unwrap().object
    }

    #[test]
    fn of_an_application_only_that_is_kept_which_counts() {
        let application = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": {"name": "shop", "namespace": "argocd", "labels": {"a": "b"}, "managedFields": [{}]},
            "spec": {"project": "web", "destination": {"name": "prod"}, "source": {"helm": {"values": "large"}}},
            "status": {"resources": [{}]},
        });
        let kept = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": {"name": "shop", "namespace": "argocd"},
            "spec": {"project": "web", "destination": {"name": "prod"}},
        });
        assert_eq!(watched(&application), kept);
    }

    #[test]
    fn no_object_stops_a_watch() {
        for odd in [json!(null), json!(true), json!(-1), json!(1), json!(0.5), json!("text"), json!([1, {"a": 2}])] {
            let application = json!({"kind": "Application", "metadata": odd, "spec": odd});
            assert_eq!(watched(&application), application);
        }
    }
}
