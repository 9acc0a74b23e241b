//! The events of one watch, line by line, and what watching did.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Error;
use super::client::{Meta, Query, Reached, Status, decode};
use super::reflection::ObjectName;

/// Largest event that is read, in bytes. Objects are at most 1.5 MiB in etcd.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// What the followers of a cluster did, for their owner's metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Lists read whole.
    pub lists: AtomicU64,
    /// Watches begun.
    pub watches: AtomicU64,
    /// Events of objects.
    pub events: AtomicU64,
    /// Times a list had to be read again because what we knew was too old (410).
    pub gone: AtomicU64,
    /// Requests that failed.
    pub failures: AtomicU64,
    /// Objects that could not be decoded.
    pub unread: AtomicU64,
}

/// One thing that happened.
#[derive(Debug)]
pub(super) enum Event<T> {
    /// An object is new or changed.
    Put(ObjectName, T),
    /// An object is gone.
    Deleted(ObjectName),
    /// Nothing; only the version moved on.
    Bookmark,
    /// An object that cannot be decoded.
    Unread,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// A watch under way.
pub(super) struct Events {
    reached: Arc<Reached>,
    response: reqwest::Response,
    query: Query,
    buffer: Vec<u8>,
    read: usize,
}

impl Events {
    pub(super) fn new(query: Query, (reached, response): (Arc<Reached>, reqwest::Response)) -> Self {
        Self { reached, response, query, buffer: Vec::new(), read: 0 }
    }

    /// The next event and the version it brings; none at the end.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<(Event<T>, String)>, Error> {
        loop {
            let unread = &self.buffer[self.read..];
            if let Some(end) = memchr::memchr(b'\n', unread) {
                let line = &unread[..end];
                let event = if line.trim_ascii().is_empty() { None } else { Some(self.event(line)?) };
                self.read += end + 1;
                if event.is_some() {
                    return Ok(event);
                }
                continue;
            }
            self.buffer.drain(..self.read);
            self.read = 0;
            if self.buffer.len() > EVENT_BYTES_MAX {
                let resource = self.query.resource.name();
                return Err(Error::TooLarge { what: "an event's size in bytes", resource, limit: EVENT_BYTES_MAX });
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                // A line that was cut is no event: the watch goes on behind the last whole one.
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.reached.away(&error)),
            }
        }
    }

    fn event<T: DeserializeOwned>(&self, line: &[u8]) -> Result<(Event<T>, String), Error> {
        let wrong = |reason: &str| self.reached.not_understood("watch", &self.query, reason);
        let Line { kind, object } = serde_json::from_slice(line).map_err(|error| wrong(&error.to_string()))?;
        if kind == "ERROR" {
            let Status { message, code } = serde_json::from_str(object.get()).unwrap_or_default();
            return Err(self.reached.meaning("watch", &self.query, code, message));
        }
        let Meta { metadata } = serde_json::from_str(object.get()).map_err(|error| wrong(&error.to_string()))?;
        let event = match &*kind {
            "BOOKMARK" => Event::Bookmark,
            "DELETED" => Event::Deleted(ObjectName { namespace: metadata.namespace, name: metadata.name }),
            "ADDED" | "MODIFIED" => match decode(object) {
                Some((name, object)) => Event::Put(name, object),
                None => Event::Unread,
            },
            other => return Err(wrong(&format!("an event of type {other:?}"))),
        };
        Ok((event, metadata.resource_version))
    }
}
