//! Something wrong or worth knowing, found in input or in the mesh.

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

/// One thing found, with the place and the mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `MSnnnn`, never reused.
    pub code: &'static str,
    /// How bad.
    pub severity: Severity,
    /// File, resource or rule it is about.
    pub subject: String,
    /// Line in the file, when there is one.
    pub line: Option<usize>,
    /// What happens because of it.
    pub message: String,
    /// How to mend it.
    pub fix: Option<String>,
}
