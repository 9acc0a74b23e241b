//! The objects of a running cluster, read once.
//!
//! In: a client of the Kubernetes API. Out: a [`Snapshot`], and which kinds could not be read. Invariant: a kind that the
//! cluster does not serve, or that we may not list, is named and loses no other kind; values of secrets are dropped while
//! they are read.

use serde_json::Value as Json;

use super::files::made;
use super::kind::{KINDS, Kind, KindInfo};
use super::resource::{Place, Resource};
use super::slim::{Shape, slim};
use super::snapshot::{Snapshot, Unread};
use crate::kubernetes::{Client, Error, Query, Resource as ApiResource};
use crate::yaml::{Node, Value};

/// What a cluster declares.
#[derive(Debug)]
pub struct FromCluster {
    /// Its objects.
    pub snapshot: Snapshot,
    /// Kinds that the cluster does not serve (their CRDs are not installed): nothing wrong with it.
    pub not_served: Vec<&'static str>,
    /// Kinds that we may not list, each with the right that is missing.
    pub forbidden: Vec<String>,
}

/// Reads all objects of all kinds that the cluster serves, each in the newest version that it serves.
///
/// # Errors
/// When the cluster cannot be reached or does not accept us; says what to mend.
pub async fn read_cluster(client: &Client) -> Result<FromCluster, Error> {
    let (mut resources, mut unread) = (Vec::new(), Vec::new());
    let (mut not_served, mut forbidden) = (Vec::new(), Vec::new());
    for info in KINDS {
        match list(client, info).await {
            Ok(Some((version, objects))) => {
                for mut object in objects {
                    // An audit asks what is declared, not who wrote it.
                    if let Some(metadata) = object.get_mut("metadata").and_then(Json::as_object_mut) {
                        metadata.remove("managedFields");
                    }
                    match resource_of(object, info.kind, version) {
                        Ok(one) => resources.push(one),
                        Err(message) => unread.push(Unread { place: Place::default(), message, other_kind: false }),
                    }
                }
            }
            Ok(None) => not_served.push(info.name),
            Err(error @ Error::Forbidden { .. }) => forbidden.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(FromCluster { snapshot: Snapshot::new(resources, unread), not_served, forbidden })
}

/// The objects of a kind in the first of its versions that the cluster serves; none when it serves none.
async fn list(client: &Client, info: &'static KindInfo) -> Result<Option<(&'static str, Vec<Json>)>, Error> {
    for &version in info.versions {
        let query = Query::all(ApiResource { group: info.group, version, plural: info.plural });
        match client.list::<Json>(&query).await {
            Ok(listed) => return Ok(Some((version, listed.objects.into_iter().map(|(_, object)| object).collect()))),
            Err(Error::NotServed { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// An object as the API server sends it: items of lists do not say their kind and version.
///
/// # Errors
/// When it has no name.
pub fn resource_of(mut object: Json, kind: Kind, version: &str) -> Result<Resource, String> {
    let info = kind.info();
    slim(&mut object, Shape::of(kind));
    if let Some(root) = object.as_object_mut() {
        let api_version = if info.group.is_empty() { version.to_owned() } else { format!("{}/{version}", info.group) };
        root.insert("apiVersion".to_owned(), api_version.into());
        root.insert("kind".to_owned(), info.name.into());
    }
    made(node(object), kind, version.to_owned(), Place::default(), "default")
}

/// JSON as a tree without lines. Depth is bounded by the reader of JSON.
fn node(json: Json) -> Node {
    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) => Value::Number(number.to_string()),
        Json::String(text) => Value::String(text),
        Json::Array(items) => Value::Sequence(items.into_iter().map(node).collect()),
        Json::Object(entries) => {
            Value::Mapping(entries.into_iter().map(|(key, value)| (node(Json::String(key)), node(value))).collect())
        }
    };
    Node { line: 0, column: 0, value }
}
