//! One object of the cluster as it is held between two events: short, and without what nobody asks for.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;

use crate::kubernetes::{Client, Counters, Follower, ObjectName, Query, Reflection};
use crate::mesh::{Kind, Shape, slim};

/// Slimmed JSON. The number says in which shape, so that a secret's values are dropped before anything holds them.
#[derive(Debug)]
pub(super) struct Object<const SHAPE: u8>(Arc<str>);

const DECLARED: u8 = 0;
const WITHOUT_STATUS: u8 = 1;
const POD: u8 = 2;
const SECRET: u8 = 3;
const DEFINITION: u8 = 4;

fn shape(number: u8) -> Shape {
    match number {
        WITHOUT_STATUS => Shape::WithoutStatus,
        POD => Shape::Pod,
        SECRET => Shape::Secret,
        DEFINITION => Shape::Definition,
        _ => Shape::Declared,
    }
}

impl<'de, const SHAPE: u8> Deserialize<'de> for Object<SHAPE> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Json::deserialize(deserializer)?;
        slim(&mut object, shape(SHAPE));
        Ok(Self(object.to_string().into()))
    }
}

/// The copy of one kind's objects, in its shape.
#[derive(Clone)]
pub(super) enum Held {
    Declared(Reflection<Object<DECLARED>>),
    WithoutStatus(Reflection<Object<WITHOUT_STATUS>>),
    Pod(Reflection<Object<POD>>),
    Secret(Reflection<Object<SECRET>>),
    Definition(Reflection<Object<DEFINITION>>),
}

/// What follows one kind until it is dropped.
pub(super) type Following = futures_util::future::BoxFuture<'static, ()>;

/// A copy at one moment.
#[derive(Default)]
pub(super) struct Copied {
    /// The objects, as JSON.
    pub(super) objects: Vec<(ObjectName, Arc<str>)>,
    /// Whether a list was read whole.
    pub(super) is_synced: bool,
}

/// Follows the objects of a kind.
pub(super) fn follow(
    client: &Arc<Client>,
    (kind, query): (Kind, Query),
    counters: &Arc<Counters>,
    changed: &Arc<tokio::sync::Notify>,
) -> (Following, Held) {
    macro_rules! in_shape {
        ($held:ident, $shape:ident) => {{
            let (follower, held) =
                Follower::<Object<$shape>>::new(Arc::clone(client), query, Arc::clone(counters), Arc::clone(changed));
            let run = follower.run(tokio_util::sync::CancellationToken::new());
            (Box::pin(run) as Following, Held::$held(held))
        }};
    }
    match Shape::of(kind) {
        Shape::Declared => in_shape!(Declared, DECLARED),
        Shape::WithoutStatus => in_shape!(WithoutStatus, WITHOUT_STATUS),
        Shape::Pod => in_shape!(Pod, POD),
        Shape::Secret => in_shape!(Secret, SECRET),
        Shape::Definition => in_shape!(Definition, DEFINITION),
    }
}

macro_rules! any_shape {
    ($held:expr, $name:ident => $with:expr) => {
        match $held {
            Held::Declared($name) => $with,
            Held::WithoutStatus($name) => $with,
            Held::Pod($name) => $with,
            Held::Secret($name) => $with,
            Held::Definition($name) => $with,
        }
    };
}

impl Held {
    /// The objects now.
    pub(super) fn copied(&self) -> Copied {
        any_shape!(self, held => {
            let held = held.read();
            let objects = held.objects.iter().map(|(name, object)| (name.clone(), Arc::clone(&object.0))).collect();
            Copied { objects, is_synced: held.is_synced }
        })
    }

    /// Why what is known may be old.
    pub(super) fn problem(&self) -> Option<Arc<crate::kubernetes::Error>> {
        any_shape!(self, held => held.read().problem.clone())
    }

    /// Whether a list was read whole.
    pub(super) fn is_synced(&self) -> bool {
        any_shape!(self, held => held.read().is_synced)
    }
}
