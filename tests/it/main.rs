//! Integration tests: real sockets, a real PostgreSQL, and the rules of the source tree.

mod tidy;
