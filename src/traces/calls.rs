//! Calls with both sides known, by span or by name.
//!
//! In: sides. Out: [`Call`]s. Invariant: what two sides say of their call is made once for all calls between the same two.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use super::identity::Who;
use super::sides::{REMEMBERED, Side};
use crate::model::Workload;
use crate::model::workload::{Outcome, Protocol, Service};

/// The caller of a request that has no caller in the traces, as Tempo names it.
const USER: &str = "user";

/// How two sides are connected; the `connection_type` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Connection {
    /// A call with a span on both sides.
    Direct,
    /// One side has no span and is known by name only.
    VirtualNode,
    /// Through a queue.
    Messaging,
    /// A call of a database.
    Database,
}

impl Connection {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "",
            Self::VirtualNode => "virtual_node",
            Self::Messaging => "messaging_system",
            Self::Database => "database",
        }
    }
}

/// A call with both sides known, by span or by name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) between: Arc<Between>,
    /// The client's span; `None` for a virtual client.
    pub(super) client_side: Option<Side>,
    /// The server's span; `None` for a virtual server or a database.
    pub(super) server_side: Option<Side>,
}

/// What is the same of all calls between two sides.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Between {
    pub(super) client: Arc<str>,
    pub(super) server: Arc<str>,
    pub(super) connection: Connection,
    pub(super) failed: bool,
    /// Who called, `Workload::default()` when unknown.
    pub(super) source: Workload,
    /// Who answered.
    pub(super) destination: Workload,
    /// What was asked for.
    pub(super) called: Service,
    /// What was carried, as the client reports it; or the server, where there is no client.
    pub(super) protocol: Protocol,
    /// How it ended, by the same report.
    pub(super) outcome: Outcome,
}

impl Deref for Call {
    type Target = Between;

    fn deref(&self) -> &Between {
        &self.between
    }
}

impl Call {
    /// The side whose report counts: the client's, and the server's where there is none.
    pub(super) fn report(&self) -> Option<&Side> {
        self.client_side.as_ref().or(self.server_side.as_ref())
    }
}

/// Makes calls.
#[derive(Default)]
pub(super) struct Calls {
    /// By where the two lie; the sides are held, so that no other comes to lie there.
    known: HashMap<[usize; 2], Known, foldhash::fast::RandomState>,
}

type Known = ([Option<Arc<Who>>; 2], Arc<Between>);

impl Calls {
    pub(super) fn paired(&mut self, client: Side, server: Side) -> Call {
        let between = self.between([Some(&client.who), Some(&server.who)], || Between::paired(&client, &server));
        Call { between, client_side: Some(client), server_side: Some(server) }
    }

    /// A call whose server is known by name only.
    pub(super) fn of_client(&mut self, client: Side) -> Call {
        let between = self.between([Some(&client.who), None], || Between::of_client(&client));
        Call { between, client_side: Some(client), server_side: None }
    }

    /// A call whose client is known by name only, or not at all.
    pub(super) fn of_server(&mut self, server: Side) -> Call {
        let between = self.between([None, Some(&server.who)], || Between::of_server(&server));
        Call { between, client_side: None, server_side: Some(server) }
    }

    fn between(&mut self, sides: [Option<&Arc<Who>>; 2], make: impl FnOnce() -> Between) -> Arc<Between> {
        let places = sides.map(|side| side.map_or(0, |who| Arc::as_ptr(who) as usize));
        if let Some((_, between)) = self.known.get(&places) {
            return Arc::clone(between);
        }
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let between = Arc::new(make());
        self.known.insert(places, (sides.map(|side| side.cloned()), Arc::clone(&between)));
        between
    }
}

impl Between {
    fn paired(client: &Who, server: &Who) -> Self {
        let connection = if client.messaging || server.messaging { Connection::Messaging } else { Connection::Direct };
        let called = if client.called == Service::default() { &server.called } else { &client.called }.clone();
        Self {
            client: Arc::clone(&client.service),
            server: Arc::clone(&server.service),
            connection,
            failed: client.failed || server.failed,
            source: client.workload.clone(),
            destination: server.workload.clone(),
            called,
            protocol: client.protocol,
            outcome: client.outcome.clone(),
        }
    }

    fn of_client(client: &Who) -> Self {
        let (connection, name) = match &client.database {
            Some(name) => (Connection::Database, Some(Arc::clone(name))),
            None => (Connection::VirtualNode, client.peer.clone()),
        };
        let server = name.unwrap_or_else(|| Arc::from("unknown"));
        let called = match (&client.database, &client.called) {
            (None, called) if called.name.is_some() => called.clone(),
            (_, called) => Service { name: Some(Arc::clone(&server)), ..called.clone() },
        };
        Self {
            client: Arc::clone(&client.service),
            server,
            connection,
            failed: client.failed,
            source: client.workload.clone(),
            destination: Workload::default(),
            called,
            protocol: client.protocol,
            outcome: client.outcome.clone(),
        }
    }

    fn of_server(server: &Who) -> Self {
        let named = || Some(Workload { name: Some(server.peer.clone()?), ..Workload::default() });
        let source = server.peer_workload.clone().or_else(named);
        Self {
            client: server.peer.clone().unwrap_or_else(|| Arc::from(USER)),
            server: Arc::clone(&server.service),
            connection: Connection::VirtualNode,
            failed: server.failed,
            source: source.unwrap_or_default(),
            destination: server.workload.clone(),
            called: server.called.clone(),
            protocol: server.protocol,
            outcome: server.outcome.clone(),
        }
    }
}
