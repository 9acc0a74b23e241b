//! The nouns of meshscope: labels, samples, alerts, spans, workloads.
//!
//! Invariant: no IO, no serde, imports nothing of the crate. What a type cannot know is `None`, not a placeholder text.

pub mod access_log;
mod alert;
pub mod attributes;
mod finding;
mod grpc;
mod hash;
mod labels;
mod matcher;
mod re2;
mod sample;
pub mod span;
pub mod span_key;
mod time;
pub mod workload;

pub use access_log::AccessRecord;
pub use alert::{Alert, AlertState, AlertTransition};
pub use finding::{Finding, Severity};
pub use grpc::GRPC_STATUSES;
pub use hash::fnv1a;
pub use labels::{Iter as LabelsIter, Labels, METADATA_LABELS, METRIC_NAME, Neighbours};
pub use matcher::{MatchOp, Matcher, RegexError, anchored_regex};
pub use sample::{STALE_NAN_BITS, Sample, is_stale, stale_marker};
pub use span::Span;
pub use time::Timestamp;
pub use workload::{EdgeKey, EdgeMinute, Workload};
