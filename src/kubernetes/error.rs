//! Why a cluster did not answer as hoped, in words that say what to mend.

use std::path::PathBuf;

use crate::http_client;

/// Why something of a cluster could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// We do not run in a pod, so nothing says where the cluster is.
    #[error(
        "not inside a Kubernetes pod (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set): name the cluster \
         by kubeconfig_file or api_server"
    )]
    NotInCluster,
    /// A file that says how to reach the cluster cannot be read.
    #[error("read `{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The kubeconfig file does not say how to reach a cluster.
    #[error("kubeconfig `{}`: {reason}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Credentials or certificates.
    #[error(transparent)]
    Client(#[from] http_client::Error),
    /// The API server cannot be reached, or broke off.
    #[error("the API server {server} cannot be reached: {reason}")]
    Away {
        /// Its address.
        server: String,
        /// Why.
        reason: String,
    },
    /// 401.
    #[error(
        "the API server {server} does not accept our credentials (401 Unauthorized: {message}): the token is wrong or has \
         expired, or the client certificate is not of its CA"
    )]
    Unauthorized {
        /// Its address.
        server: String,
        /// What it says.
        message: String,
    },
    /// 403.
    #[error(
        "we may not {verb} {resource} {place} (403 Forbidden: {message}): give our account the verb \"{verb}\" on \
         {resource} by a Role or ClusterRole"
    )]
    Forbidden {
        /// `list` or `watch`.
        verb: &'static str,
        /// `pods`, `gateways.networking.istio.io`.
        resource: String,
        /// `in namespace x` or `in all namespaces`.
        place: String,
        /// What the server says.
        message: String,
    },
    /// 404: the cluster does not serve such a resource.
    #[error("the cluster does not serve {resource} (404 Not Found)")]
    NotServed {
        /// `gateways.networking.istio.io`, with its version.
        resource: String,
    },
    /// 410: what we know is too old to go on from.
    #[error("the version to go on from is gone (410 Gone)")]
    Gone,
    /// Any other status.
    #[error("the API server answers {code} to {verb} {resource}: {message}")]
    Status {
        /// The HTTP status, or that of an error event.
        code: u16,
        /// `list` or `watch`.
        verb: &'static str,
        /// Of what.
        resource: String,
        /// What the server says.
        message: String,
    },
    /// What it sends is not the API of Kubernetes.
    #[error("the answer of {server} to {verb} {resource} is not that of a Kubernetes API server: {reason}")]
    Decode {
        /// Its address.
        server: String,
        /// `list` or `watch`.
        verb: &'static str,
        /// Of what.
        resource: String,
        /// Why.
        reason: String,
    },
    /// More than we hold.
    #[error("{what} of {resource} exceeds the limit of {limit}")]
    TooLarge {
        /// What of it.
        what: &'static str,
        /// Of what.
        resource: String,
        /// The bound.
        limit: usize,
    },
}
