//! Integration tests: real sockets, a real PostgreSQL, and the rules of the source tree.

mod api;
mod api_limits;
mod api_mesh;
mod api_query;
mod api_state;
mod app;
mod app_cli;
mod app_edges;
mod app_outage;
mod app_restart;
mod app_rules;
mod app_scrape;
mod app_traces;
mod docs;
mod fuzz;
mod postgres;
mod promql;
mod store_persist;
mod store_private_server;
mod store_tables;
mod store_views;
mod tidy;
