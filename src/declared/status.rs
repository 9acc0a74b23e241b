//! How the sources of what is declared fare, for pages and metrics.

use std::sync::atomic::AtomicU64;

use crate::model::Timestamp;

/// Counts since start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Snapshots published.
    pub published: AtomicU64,
    /// Times the files were read.
    pub file_reads: AtomicU64,
    /// Documents of files, and objects of the cluster, that could not be read.
    pub unread: AtomicU64,
}

/// How the sources fare.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Objects known now.
    pub objects: usize,
    /// When something was last another.
    pub changed_at: Option<Timestamp>,
    /// Files; none: none are configured.
    pub files: Option<FilesStatus>,
    /// The cluster; none: it is not watched.
    pub cluster: Option<ClusterStatus>,
}

/// How reading files fares.
#[derive(Clone, Debug, Default)]
pub struct FilesStatus {
    /// Objects in them.
    pub objects: usize,
    /// Files they were read from.
    pub files: usize,
    /// When they were last read.
    pub read_at: Option<Timestamp>,
    /// What could not be read, `file:line: why`.
    pub problems: Vec<String>,
}

/// How watching the cluster fares.
#[derive(Clone, Debug, Default)]
pub struct ClusterStatus {
    /// By kind, in the order of the kinds.
    pub kinds: Vec<KindStatus>,
    /// When an object of it was last another.
    pub changed_at: Option<Timestamp>,
}

/// How one kind is watched.
#[derive(Clone, Debug)]
pub struct KindStatus {
    /// `VirtualService`.
    pub kind: &'static str,
    /// `networking.istio.io`; empty: the core group.
    pub group: &'static str,
    /// The version that is watched.
    pub version: Option<&'static str>,
    /// Objects known now.
    pub objects: usize,
    /// How it fares.
    pub state: KindState,
}

/// How a kind fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KindState {
    /// Nobody has answered yet.
    Waiting,
    /// What is known follows the cluster.
    Following,
    /// The cluster does not serve it: its definition is not installed.
    NotServed,
    /// We may not read it; which right is missing.
    Forbidden(String),
    /// What is known may be old, and why.
    Behind(String),
}

impl KindState {
    /// One word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Following => "following",
            Self::NotServed => "not served",
            Self::Forbidden(_) => "forbidden",
            Self::Behind(_) => "behind",
        }
    }

    /// What to mend, where something is wrong.
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Forbidden(reason) | Self::Behind(reason) => Some(reason),
            Self::Waiting | Self::Following | Self::NotServed => None,
        }
    }
}
