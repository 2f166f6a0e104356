//! The kinds that are watched, read so that one odd object does not stop the others.

use crate::model::{EndpointSlice, Node, Object, ObjectError, ObjectKey, ObjectName, Service};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde_json::Value;
use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

/// Which kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Services,
    EndpointSlices,
    Nodes,
}

impl Kind {
    /// For people.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Services => "Services",
            Self::EndpointSlices => "EndpointSlices",
            Self::Nodes => "this Node",
        }
    }

    /// The kind of a name; Pods are not watched.
    pub(super) const fn of(name: &ObjectName) -> Option<Self> {
        match name {
            ObjectName::Service(_) => Some(Self::Services),
            ObjectName::EndpointSlice(_) => Some(Self::EndpointSlices),
            ObjectName::Node(_) => Some(Self::Nodes),
            ObjectName::Pod(_) => None,
        }
    }
}

/// What each kind must know.
pub(super) trait Watchable:
    Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug + Send + Sync + 'static
{
    const KIND: Kind;

    fn to_model(&self) -> Result<Object, ObjectError>;

    fn name(namespace: &str, name: &str) -> ObjectName;
}

impl Watchable for core::Service {
    const KIND: Kind = Kind::Services;

    fn to_model(&self) -> Result<Object, ObjectError> {
        Service::try_from(self).map(Object::Service)
    }

    fn name(namespace: &str, name: &str) -> ObjectName {
        ObjectName::Service(ObjectKey::new(namespace, name))
    }
}

impl Watchable for discovery::EndpointSlice {
    const KIND: Kind = Kind::EndpointSlices;

    fn to_model(&self) -> Result<Object, ObjectError> {
        EndpointSlice::try_from(self).map(Object::EndpointSlice)
    }

    fn name(namespace: &str, name: &str) -> ObjectName {
        ObjectName::EndpointSlice(ObjectKey::new(namespace, name))
    }
}

impl Watchable for core::Node {
    const KIND: Kind = Kind::Nodes;

    fn to_model(&self) -> Result<Object, ObjectError> {
        Node::try_from(self).map(Object::Node)
    }

    fn name(_: &str, name: &str) -> ObjectName {
        ObjectName::Node(name.into())
    }
}

/// An object that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) object: Object,
    /// The object in Kubernetes' own form, less what no reader of ours looks at.
    pub(super) json: Arc<str>,
}

/// An object as the server sent it. Reading it fails only where it is not JSON or has no name.
#[derive(Debug, Clone)]
pub(super) struct Watched<K> {
    pub(super) name: ObjectName,
    /// What it means, or why it cannot be used.
    pub(super) form: Result<Form, String>,
    metadata: ObjectMeta,
    kind: PhantomData<K>,
}

impl<'de, K: Watchable> Deserialize<'de> for Watched<K> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(input)?;
        let text = |field: &str| value["metadata"][field].as_str().map(str::to_owned);
        let name = text("name").ok_or_else(|| D::Error::custom("metadata.name is missing"))?;
        let metadata = ObjectMeta {
            namespace: text("namespace"),
            resource_version: text("resourceVersion"),
            name: Some(name.clone()),
            ..ObjectMeta::default()
        };
        // Items of a list do not say their kind, and what is kept must.
        value["apiVersion"] = K::api_version(&()).into();
        value["kind"] = K::kind(&()).into();
        prune(&mut value);
        Ok(Self {
            name: K::name(metadata.namespace.as_deref().unwrap_or("default"), &name),
            form: form::<K>(&value),
            metadata,
            kind: PhantomData,
        })
    }
}

fn form<K: Watchable>(value: &Value) -> Result<Form, String> {
    let read = K::deserialize(value).map_err(|error| error.to_string())?;
    let object = read.to_model().map_err(|error| error.to_string())?;
    Ok(Form { object, json: value.to_string().into() })
}

/// Drops what is large and that no service proxy reads.
fn prune(value: &mut Value) {
    let fields = |value: &mut Value, path: &str, names: &[&str]| {
        if let Some(fields) = value.pointer_mut(path).and_then(Value::as_object_mut) {
            names.iter().for_each(|name| drop(fields.remove(*name)));
        }
    };
    fields(value, "/metadata", &["managedFields"]);
    fields(value, "/metadata/annotations", &["kubectl.kubernetes.io/last-applied-configuration"]);
    fields(value, "/status", &["images", "volumesAttached", "volumesInUse", "nodeInfo"]);
}

impl<K: Watchable> Resource for Watched<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
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
    use super::*;
    use serde_json::json;

    #[test]
    fn an_odd_object_keeps_its_name_and_says_why() {
        let odd = json!({"metadata": {"name": "web", "namespace": "shop"},
            "spec": {"ports": [{"port": "eighty"}]}});
        let read: Watched<core::Service> = serde_json::from_value(odd).unwrap();
        assert_eq!(read.name, ObjectName::Service(ObjectKey::new("shop", "web")));
        assert!(read.form.unwrap_err().contains("eighty"));
        let wrong = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 0}]}});
        let read: Watched<core::Service> = serde_json::from_value(wrong).unwrap();
        assert!(read.form.unwrap_err().contains("spec.ports[0].port 0 is not a port number"));
    }

    #[test]
    fn what_is_kept_says_its_kind_and_leaves_out_what_nobody_reads() {
        let node = json!({"metadata": {"name": "n", "managedFields": [{}], "resourceVersion": "7"},
            "status": {"images": [{}], "addresses": []}});
        let read: Watched<core::Node> = serde_json::from_value(node).unwrap();
        assert_eq!(read.meta().resource_version.as_deref(), Some("7"));
        let kept: Value = serde_json::from_str(&read.form.unwrap().json).unwrap();
        assert_eq!(kept["kind"], "Node");
        assert_eq!(kept["status"], json!({"addresses": []}));
        assert!(kept["metadata"].get("managedFields").is_none());
    }
}
