//! Requests to the API server: lists in pages, the beginning of a watch, and what its refusals mean.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::reflection::ObjectName;
use super::{Access, ClusterConfig, Error};
use crate::http_client;

/// Objects of one page of a list.
const PAGE_OBJECTS: usize = 500;
/// Largest page that is read, in bytes.
const PAGE_BYTES_MAX: usize = 128 << 20;
/// Most objects of one list that are held.
pub(super) const OBJECTS_MAX: usize = 500_000;
/// How long one page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest message of a refusal that is kept.
const MESSAGE_BYTES_MAX: usize = 4 << 10;
/// How much longer than asked for a watch may last.
const WATCH_GRACE: Duration = Duration::from_secs(30);

/// A kind of object, as paths of the API name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// The API group; empty: the core group.
    pub group: &'static str,
    /// The version of the group.
    pub version: &'static str,
    /// `pods`.
    pub plural: &'static str,
}

/// Which objects are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Query {
    /// Of which kind.
    pub resource: Resource,
    /// In one namespace; none: in all, or of a kind that has none.
    pub namespace: Option<String>,
    /// A label selector; empty: all.
    pub label_selector: String,
    /// A field selector; empty: all.
    pub field_selector: String,
}

/// What is read of every object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// `metadata`.
    pub metadata: MetaFields,
}

/// The parts of `metadata` that tell an object and its version.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MetaFields {
    /// Its name.
    pub name: String,
    /// Its namespace; empty for kinds that have none.
    pub namespace: String,
    /// The version of the whole collection at which it was written.
    pub resource_version: String,
}

/// A list, read whole.
#[derive(Debug)]
pub struct Listed<T> {
    /// The objects.
    pub objects: Vec<(ObjectName, T)>,
    /// The version from which a watch goes on.
    pub version: String,
    /// Objects that could not be decoded.
    pub unread: u64,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PageMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    token: String,
}

/// What an API server says when it refuses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) message: String,
    pub(super) code: u16,
}

/// Asks one cluster. Where it is and with which credentials is read at the first request, and again when the server could not
/// be asked or refused them.
#[derive(Debug)]
pub struct Client {
    config: ClusterConfig,
    reach: http_client::Reach,
    reached: Mutex<Option<Arc<Reached>>>,
}

#[derive(Debug)]
pub(super) struct Reached {
    pub(super) access: Access,
    http: http_client::Client,
}

impl Resource {
    /// As refusals and roles name it: `pods`, `gateways.networking.istio.io`.
    pub fn name(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}

impl Query {
    /// All objects of a kind.
    pub fn all(resource: Resource) -> Self {
        Self { resource, namespace: None, label_selector: String::new(), field_selector: String::new() }
    }

    fn path(&self) -> String {
        let Resource { group, version, plural } = &self.resource;
        let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        match &self.namespace {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}"),
            None => format!("{root}/{plural}"),
        }
    }

    fn place(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("in namespace {namespace}"),
            None => "in all namespaces".to_owned(),
        }
    }

    fn selectors(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        let both = [("labelSelector", &self.label_selector), ("fieldSelector", &self.field_selector)];
        both.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name, text.clone()))
    }
}

impl Client {
    /// A client of that cluster. Nothing is opened or read before the first request.
    pub fn new(config: ClusterConfig) -> Self {
        Self { config, reach: http_client::Reach::default(), reached: Mutex::new(None) }
    }

    /// Connects to the API server only if `reach` leaves it open.
    #[must_use]
    pub fn reaching(self, reach: http_client::Reach) -> Self {
        Self { reach, ..self }
    }

    /// Our own namespace, where one is known.
    ///
    /// # Errors
    /// When the files that say how to reach the cluster are missing or wrong.
    pub fn namespace(&self) -> Result<Option<String>, Error> {
        Ok(self.reached()?.access.namespace.clone())
    }

    /// Whether the cluster serves that kind in that version: asks for one object.
    ///
    /// # Errors
    /// Says what to mend; see [`Error`].
    pub async fn serves(&self, query: &Query) -> Result<bool, Error> {
        match self.ask("list", query, vec![("limit", "1".to_owned())], PAGE_TIMEOUT).await {
            Ok(_) => Ok(true),
            Err(Error::NotServed { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All objects that the query names, page by page.
    ///
    /// # Errors
    /// Says what to mend; see [`Error`].
    pub async fn list<T: DeserializeOwned>(&self, query: &Query) -> Result<Listed<T>, Error> {
        let mut all = Listed { objects: Vec::new(), version: String::new(), unread: 0 };
        let mut token = String::new();
        loop {
            let limit = PAGE_OBJECTS.to_string();
            let mut parameters = vec![("limit", limit)];
            if !token.is_empty() {
                parameters.push(("continue", token));
            }
            let (reached, mut response) = self.ask("list", query, parameters, PAGE_TIMEOUT).await?;
            let body = reached.body(query, &mut response).await?;
            let page: Page<'_> = serde_json::from_slice(&body)
                .map_err(|error| reached.not_understood("list", query, &error.to_string()))?;
            let Some(items) = page.items else {
                return Err(reached.not_understood("list", query, "it has no \"items\""));
            };
            for item in items {
                match decode(item) {
                    Some(object) => all.objects.push(object),
                    None => all.unread += 1,
                }
            }
            if all.objects.len() > OBJECTS_MAX {
                let resource = query.resource.name();
                return Err(Error::TooLarge { what: "the number of objects", resource, limit: OBJECTS_MAX });
            }
            token = page.metadata.token;
            all.version = page.metadata.resource_version;
            if token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// Begins a watch after `version`.
    pub(super) async fn watch(
        &self,
        query: &Query,
        version: &str,
        lasts: Duration,
    ) -> Result<(Arc<Reached>, reqwest::Response), Error> {
        let parameters = vec![
            ("watch", "true".to_owned()),
            ("allowWatchBookmarks", "true".to_owned()),
            ("resourceVersion", version.to_owned()),
            ("timeoutSeconds", lasts.as_secs().to_string()),
        ];
        self.ask("watch", query, parameters, lasts + WATCH_GRACE).await
    }

    async fn ask(
        &self,
        verb: &'static str,
        query: &Query,
        mut parameters: Vec<(&'static str, String)>,
        timeout: Duration,
    ) -> Result<(Arc<Reached>, reqwest::Response), Error> {
        let reached = self.reached()?;
        parameters.extend(query.selectors());
        let url = format!("{}{}", reached.access.server, query.path());
        let url = reqwest::Url::parse_with_params(&url, &parameters)
            .map_err(|error| http_client::Error::Invalid(format!("api_server: `{url}`: {error}")))?;
        // What the file named (credentials, certificates, the address itself) may have changed since it was read.
        let forget = || *self.reached.lock() = None;
        let request = reached
            .http
            .request(reqwest::Method::GET, url.as_str())
            .inspect_err(|_| forget())?
            .timeout(timeout)
            .header("Accept", "application/json")
            .header("User-Agent", concat!("meshscope/", env!("CARGO_PKG_VERSION")));
        let sent = request.send().await;
        let mut response = sent.map_err(|error| reached.away(&error)).inspect_err(|_| forget())?;
        if response.status() == reqwest::StatusCode::OK {
            let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            if !kind.starts_with("application/json") {
                return Err(reached.not_understood(verb, query, &format!("its content type is {kind:?}")));
            }
            return Ok((reached, response));
        }
        let error = reached.refusal(verb, query, &mut response).await;
        if matches!(error, Error::Unauthorized { .. }) {
            forget();
        }
        Err(error)
    }

    fn reached(&self) -> Result<Arc<Reached>, Error> {
        let mut reached = self.reached.lock();
        if let Some(reached) = &*reached {
            return Ok(Arc::clone(reached));
        }
        let access = self.config.access()?;
        let http = http_client::Client::reaching(access.http.clone(), self.reach.clone());
        Ok(Arc::clone(reached.insert(Arc::new(Reached { access, http }))))
    }
}

impl Reached {
    pub(super) fn away(&self, error: &reqwest::Error) -> Error {
        Error::Away { server: self.access.server.clone(), reason: http_client::describe(error) }
    }

    pub(super) fn not_understood(&self, verb: &'static str, query: &Query, reason: &str) -> Error {
        let (server, resource) = (self.access.server.clone(), query.resource.name());
        Error::Decode { server, verb, resource, reason: reason.to_owned() }
    }

    async fn body(&self, query: &Query, response: &mut reqwest::Response) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.away(&error))? {
            if body.len() + chunk.len() > PAGE_BYTES_MAX {
                let resource = query.resource.name();
                return Err(Error::TooLarge { what: "the size of a page in bytes", resource, limit: PAGE_BYTES_MAX });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    async fn refusal(&self, verb: &'static str, query: &Query, response: &mut reqwest::Response) -> Error {
        let code = response.status().as_u16();
        let mut body = Vec::new();
        while body.len() < MESSAGE_BYTES_MAX {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
        let said: Option<Status> = serde_json::from_slice(&body).ok();
        let message = said.map(|status| status.message).unwrap_or_else(|| {
            let text = String::from_utf8_lossy(&body[..body.len().min(MESSAGE_BYTES_MAX)]);
            text.lines().next().unwrap_or_default().chars().take(200).collect()
        });
        self.meaning(verb, query, code, message)
    }

    /// The error that a status stands for.
    pub(super) fn meaning(&self, verb: &'static str, query: &Query, code: u16, message: String) -> Error {
        let resource = query.resource.name();
        match code {
            401 => Error::Unauthorized { server: self.access.server.clone(), message },
            403 => Error::Forbidden { verb, resource, place: query.place(), message },
            404 => Error::NotServed { resource: format!("{resource}/{}", query.resource.version) },
            410 => Error::Gone,
            _ => Error::Status { code, verb, resource, message },
        }
    }
}

/// An object and its name; none when it is not what it should be.
pub(super) fn decode<T: DeserializeOwned>(text: &RawValue) -> Option<(ObjectName, T)> {
    let Meta { metadata } = serde_json::from_str(text.get()).ok()?;
    if metadata.name.is_empty() {
        return None;
    }
    let object = serde_json::from_str(text.get()).ok()?;
    Some((ObjectName { namespace: metadata.namespace, name: metadata.name }, object))
}
