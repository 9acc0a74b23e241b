//! Reads the sides of calls from spans, and remembers who said the same: the spans of one workload differ in ids, times and
//! sizes, seldom in who they speak for.
//!
//! In: spans. Out: [`Side`]s, with one [`Who`] for all that say the same. Invariant: what is remembered is found by everything
//! that it was made of, never by a hash alone; at most [`REMEMBERED`] are.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::ops::Deref;
use std::sync::Arc;

use hashbrown::HashTable;

use super::identity::{self, Who};
use crate::model::Span;
use crate::model::attributes::{Attribute, AttributeTable};
use crate::model::span::{AttributeValue, Resource, SpanKind, SpanStatus};

/// Different ones remembered; when there are more it begins anew.
pub(super) const REMEMBERED: usize = 1 << 14;

/// What is carried, said by the presence of an attribute, whatever its value.
const HTTP: u8 = 1;
const GRPC: u8 = 2;
const MESSAGING: u8 = 4;

/// One side of a call, as its span tells.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Side {
    pub(super) who: Arc<Who>,
    pub(super) start_ns: u64,
    pub(super) seconds: f64,
    pub(super) request_bytes: f64,
    pub(super) response_bytes: f64,
}

impl Deref for Side {
    type Target = Who;

    fn deref(&self) -> &Who {
        &self.who
    }
}

/// What an attribute is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    /// Not looked at yet.
    Unread,
    /// Nothing here.
    Nothing,
    RequestBytes(u64),
    ResponseBytes(u64),
    /// Only its presence counts.
    Carries(u8),
    /// Address or port of the other side. They name databases, and are as many as there are connections otherwise.
    Peer,
    /// System of a database.
    Database,
    /// Its value counts.
    Who,
}

/// See the module.
#[derive(Default)]
pub(super) struct Sides {
    hasher: foldhash::fast::RandomState,
    /// The table that the last span had its attributes in, and what each of them is for.
    table: Option<Arc<AttributeTable>>,
    fields: Vec<Field>,
    /// Who spoke so with attributes of that table.
    of_table: HashTable<OfTable>,
    resource: Option<OfResource>,
    known: HashTable<Known>,
    whos: HashSet<Arc<Who>, foldhash::fast::RandomState>,
    /// Of the span that is read: places of what says who, and of addresses.
    places: Vec<u32>,
    peers: Vec<u32>,
}

/// What is used of a resource.
struct OfResource {
    resource: Arc<Resource>,
    said: Vec<Attribute>,
    gathered: Gathered,
}

/// What is gathered from attributes, besides what says who.
#[derive(Clone, Copy, Default)]
struct Gathered {
    request_bytes: Option<u64>,
    response_bytes: Option<u64>,
    carries: u8,
    database: bool,
}

/// Who is meant by attributes of one table.
struct OfTable {
    hash: u64,
    places: Box<[u32]>,
    /// Where it lies: all resources that have spans in one table live as long as it does.
    resource: usize,
    manner: Manner,
    who: Arc<Who>,
}

/// Who is meant by attributes.
struct Known {
    hash: u64,
    service: Arc<str>,
    said: Vec<Attribute>,
    manner: Manner,
    who: Arc<Who>,
}

type Manner = (SpanKind, SpanStatus, u8);

impl Gathered {
    /// Takes what an attribute says; whether it says who.
    fn take(&mut self, field: Field) -> bool {
        match field {
            Field::Unread | Field::Nothing | Field::Peer => return false,
            Field::RequestBytes(bytes) => self.request_bytes = self.request_bytes.or(Some(bytes)),
            Field::ResponseBytes(bytes) => self.response_bytes = self.response_bytes.or(Some(bytes)),
            Field::Carries(what) => self.carries |= what,
            Field::Database => self.database = true,
            Field::Who => {}
        }
        matches!(field, Field::Database | Field::Who)
    }

    /// With what the resource says besides.
    fn and(self, resource: Self) -> Self {
        Self {
            request_bytes: self.request_bytes.or(resource.request_bytes),
            response_bytes: self.response_bytes.or(resource.response_bytes),
            carries: self.carries | resource.carries,
            database: self.database || resource.database,
        }
    }
}

impl Sides {
    /// What a span of a call tells of its side. Meant for kinds client, server, producer and consumer.
    pub(super) fn side(&mut self, span: &Span) -> Side {
        let of_resource = self.of_resource(&span.resource);
        let (who, gathered) = match span.attributes.shared() {
            Some((table, places)) => self.in_table(span, (table, places), of_resource),
            None => self.alone(span, of_resource),
        };
        Side {
            who,
            start_ns: span.start_ns,
            seconds: span.duration_ns as f64 / 1e9,
            request_bytes: gathered.request_bytes.unwrap_or(0) as f64,
            response_bytes: gathered.response_bytes.unwrap_or(0) as f64,
        }
    }

    /// What is used of the resource, which is the last one's most of the time.
    fn of_resource(&mut self, resource: &Arc<Resource>) -> Gathered {
        if let Some(last) = self.resource.as_ref().filter(|last| Arc::ptr_eq(&last.resource, resource)) {
            return last.gathered;
        }
        let (mut gathered, mut said) = (Gathered::default(), Vec::new());
        for attribute in &resource.attributes {
            let field = field(attribute);
            if gathered.take(field) || field == Field::Peer {
                said.push(attribute.clone());
            }
        }
        self.resource = Some(OfResource { resource: Arc::clone(resource), said, gathered });
        gathered
    }

    fn in_table(
        &mut self,
        span: &Span,
        (table, places): (&Arc<AttributeTable>, &[u32]),
        of_resource: Gathered,
    ) -> (Arc<Who>, Gathered) {
        if !self.table.as_ref().is_some_and(|last| Arc::ptr_eq(last, table)) {
            self.table = Some(Arc::clone(table));
            self.fields.clear();
            self.fields.resize(table.len(), Field::Unread);
            self.of_table.clear();
        }
        let (mut gathered, mut said, mut peers) =
            (Gathered::default(), std::mem::take(&mut self.places), std::mem::take(&mut self.peers));
        said.clear();
        peers.clear();
        for place in places {
            let known = &mut self.fields[*place as usize];
            if *known == Field::Unread {
                *known = field(table.get(*place));
            }
            if gathered.take(*known) {
                said.push(*place);
            } else if *known == Field::Peer {
                peers.push(*place);
            }
        }
        let gathered = gathered.and(of_resource);
        if gathered.database {
            said.extend(&peers);
        }
        let (manner, resource) = ((span.kind, span.status, gathered.carries), Arc::as_ptr(&span.resource) as usize);
        let hash = self.hasher.hash_one((&said, resource, manner));
        let same = |one: &OfTable| *one.places == *said && one.resource == resource && one.manner == manner;
        let who = match self.of_table.find(hash, same) {
            Some(one) => Arc::clone(&one.who),
            None => {
                let who = self.known(span, manner, &said.iter().map(|place| table.get(*place)).collect::<Vec<_>>());
                let one = OfTable { hash, places: said.as_slice().into(), resource, manner, who: Arc::clone(&who) };
                self.of_table.insert_unique(hash, one, |one| one.hash);
                who
            }
        };
        (self.places, self.peers) = (said, peers); // keep their memory for the next span
        (who, gathered)
    }

    fn alone(&mut self, span: &Span, of_resource: Gathered) -> (Arc<Who>, Gathered) {
        let (mut gathered, mut said, mut peers) = (Gathered::default(), Vec::new(), Vec::new());
        for attribute in &span.attributes {
            let field = field(attribute);
            if gathered.take(field) {
                said.push(attribute);
            } else if field == Field::Peer {
                peers.push(attribute);
            }
        }
        let gathered = gathered.and(of_resource);
        if gathered.database {
            said.extend(peers);
        }
        (self.known(span, (span.kind, span.status, gathered.carries), &said), gathered)
    }

    /// Who speaks so; `said` are the attributes of the span that say it.
    fn known(&mut self, span: &Span, manner: Manner, said: &[&Attribute]) -> Arc<Who> {
        let of_resource = self.resource.as_ref().map_or(&[][..], |resource| &resource.said);
        let said = || said.iter().copied().chain(of_resource);
        let mut hasher = self.hasher.build_hasher();
        (&span.service, manner).hash(&mut hasher);
        for (name, value) in said() {
            name.hash(&mut hasher);
            match value {
                AttributeValue::String(text) | AttributeValue::Json(text) => text.hash(&mut hasher),
                AttributeValue::Int(number) => number.hash(&mut hasher),
                AttributeValue::Bool(_) | AttributeValue::Double(_) => {}
            }
        }
        let hash = hasher.finish();
        let same = |one: &Known| one.manner == manner && one.service == span.service && one.said.iter().eq(said());
        if let Some(one) = self.known.find(hash, same) {
            return Arc::clone(&one.who);
        }
        let said = said().cloned().collect();
        if self.known.len() >= REMEMBERED {
            self.known.clear();
            self.whos.clear();
        }
        let who = Arc::new(identity::who(span));
        let who = match self.whos.get(&who) {
            Some(same) => Arc::clone(same),
            None => {
                self.whos.insert(Arc::clone(&who));
                who
            }
        };
        let one = Known { hash, service: Arc::clone(&span.service), said, manner, who: Arc::clone(&who) };
        self.known.insert_unique(hash, one, |one| one.hash);
        who
    }
}

/// What an attribute is for: those that [`identity::who`] reads, and sizes.
fn field((name, value): &Attribute) -> Field {
    let (text, number) = match value {
        AttributeValue::String(text) => (Some(&**text), text.parse().ok()),
        AttributeValue::Int(number) => (None, u64::try_from(*number).ok()),
        AttributeValue::Bool(_) | AttributeValue::Double(_) | AttributeValue::Json(_) => return Field::Nothing,
    };
    match &**name {
        "request_size" | "http.request.body.size" => number.map_or(Field::Nothing, Field::RequestBytes),
        "response_size" | "http.response.body.size" => number.map_or(Field::Nothing, Field::ResponseBytes),
        "http.method" | "http.request.method" | "http.protocol" if text.is_some() => Field::Carries(HTTP),
        "db.system" | "db.system.name" => Field::Database,
        "network.peer.address" | "net.sock.peer.addr" | "network.peer.port" | "server.port" | "net.peer.port" => {
            Field::Peer
        }
        "grpc.status_code" => Field::Who,
        name if text.is_some() && name.starts_with("grpc.") => Field::Carries(GRPC),
        name if text.is_some() && name.starts_with("messaging.") => Field::Carries(MESSAGING),
        name if identity::is_read(name) => Field::Who,
        _ => Field::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::span;
    use super::*;
    use crate::model::attributes::wire_bytes;
    use crate::model::span::Attributes;

    const NAMES: [&str; 24] = [
        "node_id",
        "component",
        "http.method",
        "http.status_code",
        "response_flags",
        "upstream_cluster",
        "istio.canonical_service",
        "istio.namespace",
        "peer.service",
        "network.peer.address",
        "network.peer.port",
        "server.address",
        "server.port",
        "db.system",
        "db.name",
        "messaging.system",
        "rpc.system",
        "grpc.status_code",
        "grpc.path",
        "rpc.grpc.status_code",
        "k8s.pod.name",
        "request_size",
        "http.response.body.size",
        "http.url",
    ];
    const TEXTS: [&str; 8] = [
        "",
        "proxy",
        "grpc",
        "14",
        "503",
        "sidecar~10.0.0.1~a-6f89b6c557-sg2bc.ns~ns",
        "outbound|9080||b.ns.svc.cluster.local",
        "unknown",
    ];

    fn any_attribute() -> impl Strategy<Value = Attribute> {
        let value = prop_oneof![
            4 => (0..TEXTS.len()).prop_map(|at| AttributeValue::String(TEXTS[at].into())),
            1 => (-1_i64..20).prop_map(AttributeValue::Int),
            1 => any::<bool>().prop_map(AttributeValue::Bool),
        ];
        (0..NAMES.len(), value).prop_map(|(at, value)| (NAMES[at].into(), value))
    }

    /// The same lists in one table, as a request has them.
    fn in_table(lists: &[Vec<Attribute>]) -> Vec<Attributes> {
        let mut table = AttributeTable::default();
        let mut ranges = Vec::new();
        for list in lists {
            let mut range = table.begin_list();
            for attribute in list {
                let known = (0..table.len() as u32).find(|place| table.get(*place) == attribute);
                let place = known.unwrap_or_else(|| table.add(attribute.clone()));
                table.put(&mut range, place, wire_bytes(attribute) as u32);
            }
            ranges.push(range);
        }
        table.into_lists(ranges).collect()
    }

    /// What the attributes of sizes say, read one by one.
    fn size(span: &Span, names: [&str; 2]) -> f64 {
        let all = span.attributes.iter().chain(&span.resource.attributes).filter(|(name, _)| names.contains(&&**name));
        let mut numbers = all.filter_map(|(_, value)| match value {
            AttributeValue::String(text) => text.parse::<u64>().ok(),
            AttributeValue::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        });
        numbers.next().unwrap_or(0) as f64
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_what_the_span_says(
            lists in proptest::collection::vec(proptest::collection::vec(any_attribute(), 0..6), 1..12),
            of_resource in proptest::collection::vec(any_attribute(), 0..3),
            kinds in proptest::collection::vec(any::<bool>(), 12),
        ) {
            let mut sides = Sides::default();
            let resource = Arc::new(Resource { attributes: of_resource.into() });
            for attributes in [in_table(&lists), lists.iter().cloned().map(Attributes::from).collect(), in_table(&lists)] {
                for (attributes, client) in attributes.into_iter().zip(&kinds) {
                    let kind = if *client { SpanKind::Client } else { SpanKind::Server };
                    let span = Span { attributes, resource: Arc::clone(&resource), ..span("a.b", 1, 0, kind) };
                    let side = sides.side(&span);
                    prop_assert_eq!(&*side.who, &identity::who(&span));
                    let bytes = (side.request_bytes, side.response_bytes);
                    let said = ["request_size", "http.request.body.size"];
                    prop_assert_eq!(bytes, (size(&span, said), size(&span, ["response_size", "http.response.body.size"])));
                }
            }
        }
    }

    #[test]
    fn spans_that_say_the_same_share_who_they_speak_for_and_the_rest_is_bounded() {
        let mut sides = Sides::default();
        let of = |name: &str, url: &str| {
            let attribute = |name: &str, text: &str| (name.into(), AttributeValue::String(text.into()));
            let list = vec![attribute("istio.canonical_service", name), attribute("http.url", url)];
            Span { attributes: in_table(&[list]).remove(0), ..span("a", 1, 0, SpanKind::Client) }
        };
        let (one, same) = (sides.side(&of("cart", "/1")), sides.side(&of("cart", "/2")));
        assert!(Arc::ptr_eq(&one.who, &same.who));
        for number in 0..2 * REMEMBERED {
            sides.side(&of(&number.to_string(), "/"));
            assert!(sides.known.len() <= REMEMBERED && sides.whos.len() <= REMEMBERED);
        }
    }
}
