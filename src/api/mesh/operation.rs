//! One operation of our own API: its route, and what the OpenAPI document says of it, in one piece.
//!
//! In: a path and a handler. Out: a route, and schemas of what the handler reads and answers. A handler is a function of the
//! state and its parameters, so a route without a description, or a description of a route that is not there, cannot be
//! written.

use std::future::Future;
use std::marker::PhantomData;

use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, State as Shared};
use axum::http::Method;
use axum::middleware::from_fn;
use axum::response::Response;
use axum::routing::{self, MethodRouter};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::query;
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::api::{State, browser, encode};

/// What all paths of this API begin with.
pub(super) const ROOT: &str = "/api/mesh/v1";

/// An answer that is written already; its type says what was written.
pub(super) struct Answer<A> {
    response: Response,
    // Of a function that takes it, so that an answer that borrowed what it was written from is as good as one that did not.
    of: PhantomData<fn(A)>,
}

impl<A> Answer<A> {
    /// An answer in a form that [`Operation::or`] or [`Operation::bare`] describes.
    pub(super) fn other(response: Response) -> Self {
        Self { response, of: PhantomData }
    }
}

impl<A: Serialize> Answer<A> {
    /// `{"status":"success","data":…}`.
    pub(super) fn new(data: A) -> Self {
        Self::with(data, &[])
    }

    /// The same with warnings.
    pub(super) fn with(data: A, warnings: &[String]) -> Self {
        Self::other(encode::success_with(data, warnings))
    }
}

/// What a handler gives.
pub(super) type Outcome<A> = Result<Answer<A>, ApiError>;

/// Makes the schema of a type, and notes those that it needs.
pub(super) type Describe = fn(&mut SchemaGenerator) -> Schema;

/// The body of an answer.
pub(super) struct Content {
    pub(super) media_type: &'static str,
    pub(super) schema: Describe,
}

/// An operation.
pub(super) struct Operation {
    /// Below [`ROOT`].
    pub(super) path: &'static str,
    pub(super) method: Method,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    /// Of its parameters: an object, or several in a tuple.
    pub(super) query: Describe,
    /// Of `data` in its usual answer; none: it has no wrapper around it, and `others` says it all.
    pub(super) data: Option<Describe>,
    /// Answers without the wrapper.
    pub(super) others: Vec<Content>,
    route: MethodRouter<State>,
}

/// An operation that reads.
pub(super) fn get<Q, A, F>(path: &'static str, id: &'static str, handler: fn(State, Q) -> F) -> Operation
where
    Q: DeserializeOwned + JsonSchema + Send + 'static,
    A: JsonSchema + 'static,
    F: Future<Output = Outcome<A>> + Send + 'static,
{
    let call =
        move |Shared(state): Shared<State>, captures: Captures, params: Params| run(handler, state, captures, params);
    Operation::new::<Q, A>(Method::GET, path, id, routing::get(call))
}

/// An operation that changes something, on behalf of no other site.
pub(super) fn post<Q, A, F>(path: &'static str, id: &'static str, handler: fn(State, Q) -> F) -> Operation
where
    Q: DeserializeOwned + JsonSchema + Send + 'static,
    A: JsonSchema + 'static,
    F: Future<Output = Outcome<A>> + Send + 'static,
{
    let call =
        move |Shared(state): Shared<State>, captures: Captures, params: Params| run(handler, state, captures, params);
    Operation::new::<Q, A>(Method::POST, path, id, routing::post(call).layer(from_fn(browser::same_origin)))
}

type Captures = Result<RawPathParams, RawPathParamsRejection>;

async fn run<Q, A, F>(
    handler: fn(State, Q) -> F,
    state: State,
    captures: Captures,
    params: Params,
) -> Result<Response, ApiError>
where
    Q: DeserializeOwned,
    F: Future<Output = Outcome<A>>,
{
    let captures = captures.map_err(|error| ApiError::BadData(format!("the path cannot be read: {error}")))?;
    let captured: Vec<(&str, &str)> = captures.iter().collect();
    let query = query::read(&captured, &params)?;
    Ok(handler(state, query).await?.response)
}

impl Operation {
    fn new<Q: JsonSchema, A: JsonSchema>(
        method: Method,
        path: &'static str,
        id: &'static str,
        route: MethodRouter<State>,
    ) -> Self {
        let (query, data): (Describe, Describe) =
            (SchemaGenerator::subschema_for::<Q>, SchemaGenerator::subschema_for::<A>);
        Self { path, method, id, summary: "", query, data: Some(data), others: Vec::new(), route }
    }

    /// What it is for, in a line.
    pub(super) fn about(self, summary: &'static str) -> Self {
        Self { summary, ..self }
    }

    /// It may answer in another form, too.
    pub(super) fn or(mut self, media_type: &'static str, schema: Describe) -> Self {
        self.others.push(Content { media_type, schema });
        self
    }

    /// It answers JSON of this form, without a wrapper.
    pub(super) fn bare(mut self, schema: Describe) -> Self {
        self.data = None;
        self.or("application/json", schema)
    }

    /// Adds its route.
    pub(super) fn mount(self, router: Router<State>) -> Router<State> {
        router.route(&format!("{ROOT}{}", self.path), self.route)
    }
}
