//! The block `mesh`, of which three modules own the parts.
//!
//! In: the block. Out: the configuration of discovery, that of the audit and that of what is declared.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{audit, declared, discovery};

/// The block `mesh`: what is discovered, what is declared, and what the audit keeps silent about.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Mesh {
    discover: discovery::Presets,
    api_server: Option<String>,
    kubeconfig_file: Option<PathBuf>,
    suppress: Vec<audit::SuppressionConfig>,
    declared: declared::Config,
}

impl Mesh {
    /// The parts, as their modules know them.
    pub(super) fn parts(self) -> (discovery::MeshConfig, audit::Config, declared::Config) {
        let Self { discover, api_server, kubeconfig_file, suppress, declared } = self;
        (discovery::MeshConfig { discover, api_server, kubeconfig_file }, audit::Config { suppress }, declared)
    }
}
