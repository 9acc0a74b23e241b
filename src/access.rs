//! Who asks, and what they may do: proof by password, token, certificate or a proxy's word; roles; limits for each client;
//! pages of other sites; the audit log.
//!
//! In: the head of a request and where it comes from. Out: a [`Caller`] with a role, or why it is refused. Invariants: a
//! route that no list names needs an administrator; a header that vouches for somebody counts from trusted proxies only;
//! nothing here reads a body; no secret is in a message.

mod actions;
mod caller;
mod config;
mod gate;
mod limit;
mod origin;
mod proxy;
mod record;

pub use actions::{ACTIONS, Action, Need, action};
pub use caller::{Caller, Proof, Role};
pub use config::{ByWhom, RateLimitConfig, RolesConfig, TrustedProxyConfig};
pub use gate::{Counters, Gate, Peer, Refused, Settings};
pub use origin::is_cross_site;
pub use record::Record;
