//! A simulated mesh: an ordinary outside world over real sockets, for `meshscope demo` and for tests.
//!
//! In: where to send spans, where to keep files. Out: scrape pages over HTTP, spans and access logs over OTLP gRPC, a webhook receiver,
//! and the text of a configuration that points at them. Nothing in meshscope knows that this mesh is simulated.

use std::io::Write as _;

pub mod access_logs;
pub mod configuration;
pub mod incidents;
pub mod page;
pub mod proxy;
pub mod random;
mod resources;
pub mod spans;
pub mod topology;
pub mod traffic;
pub mod webhook;
pub mod world;

pub use configuration::configuration;
pub use incidents::Script;
pub use world::{Config, Error, World};

/// Writes a line to the terminal. A reader that went away (`meshscope demo | head`) must not stop the mesh, as
/// `println!` would by panicking, so a failed write is let go.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
