//! Something wrong or worth knowing, found in input or in the mesh.

use std::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Probably wrong.
    Warning,
    /// Wrong.
    Error,
}

impl Severity {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One thing found, with the place, the evidence and the mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `MSnnnn`, never reused.
    pub code: &'static str,
    /// How bad.
    pub severity: Severity,
    /// What it is about: `VirtualService shop/cart`, or a file.
    pub subject: String,
    /// The file that holds it; none: it came from a cluster.
    pub file: Option<String>,
    /// 1-based line in that file; 0 when unknown.
    pub line: usize,
    /// Path of the field inside the resource, `spec.http[0].route[1].weight`; empty: the whole.
    pub field: String,
    /// What happens because of it, in one sentence.
    pub message: String,
    /// What was seen: numbers, series, spans; one line each.
    pub evidence: Vec<String>,
    /// How to mend it: YAML where it can be written.
    pub fix: Option<String>,
    /// Why somebody does not want to hear of it; none: it counts.
    pub suppressed: Option<String>,
}

impl Finding {
    /// The namespace of its subject: `shop` of `VirtualService shop/cart`; of an object of the whole cluster its name, and of
    /// a file none.
    pub fn namespace(&self) -> &str {
        let rest = self.subject.split_once(' ').map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }
}
