//! Reads what an address asks for, and builds addresses. In: a query string. Out: a page's parameters, or a page that
//! says what is wrong with them; links whose values are percent-encoded whatever they hold.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::response::Response;
use serde::de::DeserializeOwned;

use super::{State, error, frame};
use crate::access::Caller;

/// The state of the pages, which knows who asks.
pub(super) struct Shared<S>(pub(super) S);

impl FromRequestParts<State> for Shared<State> {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Infallible> {
        Ok(Self(state.seen_by(parts)))
    }
}

impl State {
    fn seen_by(&self, parts: &Parts) -> Self {
        let caller = parts.extensions.get::<Caller>().cloned().unwrap_or_default();
        Self { caller, ..self.clone() }
    }
}

/// The parameters of a page. Those that cannot be read (a name given twice, say) become a page with status 400.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<State> for Asked<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Response> {
        let page = frame::page_at(parts.uri.path());
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(reason) => Err(error::bad_request(&state.seen_by(parts), page, reason.body_text())),
        }
    }
}

/// A parameter that says something: absent and empty (an empty field of a form) are the same.
pub(super) fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// The address of a page with parameters; those without a value are left out.
pub(super) fn link(page: &str, parameters: &[(&str, &str)]) -> String {
    let said = parameters.iter().filter(|(_, value)| !value.is_empty());
    let url = reqwest::Url::parse_with_params("http://x/", said);
    match url.ok().as_ref().and_then(reqwest::Url::query).filter(|query| !query.is_empty()) {
        Some(query) => format!("/{page}?{query}"),
        None => format!("/{page}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_carry_any_value_and_leave_out_empty_ones() {
        for (parameters, expected) in [
            (vec![], "/graph"),
            (vec![("select", "")], "/graph"),
            (vec![("view", "app"), ("at", "")], "/graph?view=app"),
            (vec![("select", "a>b&c=\"d\"\n<script>")], "/graph?select=a%3Eb%26c%3D%22d%22%0A%3Cscript%3E"),
            (vec![("select", "\u{202e}\u{1f980}")], "/graph?select=%E2%80%AE%F0%9F%A6%80"),
        ] {
            assert_eq!(link("graph", &parameters), expected);
        }
    }
}
