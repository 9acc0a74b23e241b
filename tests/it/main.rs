//! Integration tests: real sockets, a real PostgreSQL, and the rules of the source tree.

mod docs;
mod postgres;
mod promql;
mod store_persist;
mod store_private_server;
mod store_tables;
mod store_views;
mod tidy;
