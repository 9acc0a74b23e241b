//! Integration tests: real sockets, a real PostgreSQL.

mod postgres;
mod store_persist;
mod store_private_server;
mod store_tables;
mod store_views;
