//! Integration tests: real sockets, a real PostgreSQL.
mod promql;
