//! Integration tests: real sockets, a real PostgreSQL, and the rules of the source tree.

mod api;
mod api_limits;
mod api_mesh;
mod api_query;
mod api_state;
mod postgres;
mod promql;
mod store_persist;
mod store_private_server;
mod store_tables;
mod store_views;
mod tidy;
