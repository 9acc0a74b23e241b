//! meshscope watches a service mesh: it scrapes proxies, takes spans, evaluates rules, tells people, and draws the graph.
//!
//! Modules stand in the order the data flows; `tests/it/tidy.rs` holds the table of who may import whom.

// leaves
pub mod access;
pub mod batching;
pub mod clock;
pub mod gotemplate;
pub mod http_client;
pub mod kubernetes;
pub mod model;
pub mod traceql;
pub mod units;
pub mod web_config;
pub mod wire;
pub mod yaml;
// in
pub mod declared;
pub mod discovery;
pub mod mesh;
pub mod otlp;
pub mod push;
pub mod scrape;
// hold
pub mod access_logs;
pub mod rollup;
pub mod series;
pub mod traces;
pub mod upstream;
// derive
pub mod audit;
pub mod changes;
pub mod context;
pub mod graph;
pub mod promql;
pub mod rules;
pub mod slo;
// out
pub mod dashboards;
pub mod forward;
pub mod notify;
// keep
pub mod persist;
pub mod store;
// face
pub mod api;
pub mod web;
// the whole
pub mod app;
pub mod cli;
pub mod config;
pub mod demo;
pub mod telemetry;
