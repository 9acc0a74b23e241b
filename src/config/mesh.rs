//! The block `mesh`, of which two modules own the parts.
//!
//! In: the block. Out: the configuration of discovery and that of the audit.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{audit, discovery};

/// The block `mesh`: what is discovered, and what the audit keeps silent about.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Mesh {
    discover: discovery::Presets,
    api_server: Option<String>,
    kubeconfig_file: Option<PathBuf>,
    suppress: Vec<audit::SuppressionConfig>,
}

impl Mesh {
    /// The two parts, as their modules know them.
    pub(super) fn parts(self) -> (discovery::MeshConfig, audit::Config) {
        let Self { discover, api_server, kubeconfig_file, suppress } = self;
        (discovery::MeshConfig { discover, api_server, kubeconfig_file }, audit::Config { suppress })
    }
}
