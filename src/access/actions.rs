//! What every request that is no GET does, and what it needs.
//!
//! Invariant: what is not listed needs an administrator, so a route that somebody adds and forgets here is closed to readers;
//! `tests/it/app_roles.rs` fails until it is listed.

use http::Method;

/// What one must be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// To read: it changes nothing.
    Read,
    /// To send samples, metrics or alerts.
    Send,
    /// To change what others see or are told.
    Administer,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// The method.
    pub method: &'static str,
    /// The path; `*` stands for one part of it.
    pub path: &'static str,
    /// What it needs.
    pub need: Need,
    /// What it does, in words that follow "to".
    pub what: &'static str,
}

const fn act(method: &'static str, path: &'static str, need: Need, what: &'static str) -> Action {
    Action { method, path, need, what }
}

/// All requests but GET, HEAD and OPTIONS, which read.
#[rustfmt::skip]
pub const ACTIONS: &[Action] = &[
    // Queries whose text is too long for an address.
    act("POST", "/api/v1/query", Need::Read, "query"),
    act("POST", "/api/v1/query_range", Need::Read, "query"),
    act("POST", "/api/v1/query_exemplars", Need::Read, "query"),
    act("POST", "/api/v1/format_query", Need::Read, "format a query"),
    act("POST", "/api/v1/parse_query", Need::Read, "parse a query"),
    act("POST", "/api/v1/series", Need::Read, "list series"),
    act("POST", "/api/v1/labels", Need::Read, "list labels"),
    // What programs send.
    act("POST", "/api/v1/write", Need::Send, "write samples"),
    act("POST", "/api/v1/otlp/v1/metrics", Need::Send, "write metrics"),
    act("POST", "/alertmanager/api/v2/alerts", Need::Send, "post alerts"),
    // What people change.
    act("POST", "/alertmanager/api/v2/silences", Need::Administer, "make or edit a silence"),
    act("DELETE", "/alertmanager/api/v2/silence/*", Need::Administer, "end a silence"),
    act("POST", "/silences/new", Need::Administer, "make or edit a silence"),
    act("POST", "/silences/*/expire", Need::Administer, "end a silence"),
    act("POST", "/notifications/*/retry", Need::Administer, "send a notification again"),
    act("POST", "/notifications/*/drop", Need::Administer, "drop a notification"),
    act("POST", "/api/mesh/v1/notifications/*/retry", Need::Administer, "send a notification again"),
    act("POST", "/api/mesh/v1/notifications/*/drop", Need::Administer, "drop a notification"),
    act("POST", "/api/v1/import", Need::Administer, "import samples"),
    act("POST", "/-/reload", Need::Administer, "reload the configuration"),
    act("PUT", "/-/reload", Need::Administer, "reload the configuration"),
    act("POST", "/-/quit", Need::Administer, "stop the process"),
    act("PUT", "/-/quit", Need::Administer, "stop the process"),
    act("DELETE", "/api/v1/series", Need::Administer, "delete series"),
    act("POST", "/api/v1/admin/tsdb/delete_series", Need::Administer, "delete series"),
    act("PUT", "/api/v1/admin/tsdb/delete_series", Need::Administer, "delete series"),
    act("POST", "/api/v1/admin/tsdb/clean_tombstones", Need::Administer, "delete series"),
    act("PUT", "/api/v1/admin/tsdb/clean_tombstones", Need::Administer, "delete series"),
    act("POST", "/api/v1/admin/tsdb/snapshot", Need::Administer, "write a snapshot"),
    act("PUT", "/api/v1/admin/tsdb/snapshot", Need::Administer, "write a snapshot"),
];

const READ: Action = act("GET", "", Need::Read, "read");
const UNLISTED: Action = act("", "", Need::Administer, "change something");

/// What a request does. One that is not listed counts as a change; its `path` is empty.
pub fn action(method: &Method, path: &str) -> &'static Action {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return &READ;
    }
    ACTIONS.iter().find(|action| action.method == method.as_str() && is_at(action.path, path)).unwrap_or(&UNLISTED)
}

fn is_at(pattern: &str, path: &str) -> bool {
    let (mut expected, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (expected.next(), parts.next()) {
            (None, None) => return true,
            (Some("*"), Some(part)) if !part.is_empty() => {}
            (Some(expected), Some(part)) if expected == part => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_needs_an_administrator() {
        let check = |method: Method, path: &str, need: Need| assert_eq!(action(&method, path).need, need, "{path}");
        check(Method::GET, "/anything", Need::Read);
        check(Method::OPTIONS, "/-/reload", Need::Read);
        check(Method::POST, "/api/v1/query", Need::Read);
        check(Method::POST, "/api/v1/write", Need::Send);
        check(Method::POST, "/silences/abc/expire", Need::Administer);
        // Not the routes that they resemble.
        for path in [
            "//api/v1/query",
            "/api/v1/query/",
            "/api/v1/Query",
            "/api/v1/%71uery",
            "/nothing",
            "",
            "/silences//expire",
        ] {
            check(Method::POST, path, Need::Administer);
        }
        check(Method::PATCH, "/api/v1/query", Need::Administer);
        assert_eq!(action(&Method::POST, "/silences//expire").path, "");
        assert_eq!(action(&Method::POST, "/silences/abc/expire").what, "end a silence");
    }
}
