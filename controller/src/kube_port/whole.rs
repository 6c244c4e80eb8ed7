//! Whole objects of any kind, as a watch tells of them.

use std::borrow::Cow;
use std::fmt::{self, Formatter};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ApiResource;
use kube::core::DynamicResourceScope;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// An object as it was told, without its managers, which nobody looks at and which are half of it.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    /// As much of its metadata as a watch needs.
    meta: ObjectMeta,
    object: Value,
}

impl Whole {
    pub(super) fn into_object(self) -> Value {
        self.object
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let fields = from.deserialize_map(Object)?;
        let text = |name: &str| fields.get("metadata")?.get(name)?.as_str().map(ToOwned::to_owned);
        let meta = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        Ok(Self { meta, object: Value::Object(fields) })
    }
}

/// Reads an object.
struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Map<String, Value>;

    fn expecting(&self, text: &mut Formatter<'_>) -> fmt::Result {
        text.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value =
                if key == "metadata" { Value::Object(map.next_value::<Metadata>()?.0) } else { map.next_value()? };
            fields.insert(key, value);
        }
        Ok(fields)
    }
}

/// The metadata of an object; its managers are passed over, and not even made.
struct Metadata(Map<String, Value>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Metadata;

            fn expecting(&self, text: &mut Formatter<'_>) -> fmt::Result {
                text.write_str("metadata")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut fields = Map::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key == "managedFields" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        fields.insert(key, map.next_value()?);
                    }
                }
                Ok(Metadata(fields))
            }
        }

        from.deserialize_map(Fields)
    }
}

impl kube::Resource for Whole {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn api_version(of: &ApiResource) -> Cow<'_, str> {
        of.api_version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_read_without_its_managers() {
        let stored = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
                "name": "web", "namespace": "bank", "resourceVersion": "7", "labels": {"app": "web"},
            },
            "spec": {"replicas": 3, "metadata": {"managedFields": "of its own"}},
        });
        let read: Whole = serde_json::from_str(&stored.to_string()).expect("an object");
        assert_eq!((read.meta.name.as_deref(), read.meta.resource_version.as_deref()), (Some("web"), Some("7")));
        let mut expected = stored;
        expected["metadata"].as_object_mut().expect("metadata").remove("managedFields");
        assert_eq!(read.into_object(), expected);
        assert!(serde_json::from_str::<Whole>("[]").is_err());
    }
}
