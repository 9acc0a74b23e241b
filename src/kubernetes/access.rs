//! How a cluster is reached: from inside a pod, by a kubeconfig file, or by an address and HTTP settings.

use std::path::{Path, PathBuf};

use super::{Error, kubeconfig};
use crate::http_client::{self, Authorization};

/// Where a pod finds what its service account needs.
const ACCOUNT_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Which cluster, and how to reach it. Without address and file: the one we run in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterConfig {
    /// Address of the API server; then `http` holds the credentials.
    pub api_server: Option<String>,
    /// A kubeconfig file.
    pub kubeconfig_file: Option<PathBuf>,
    /// The context of the kubeconfig file; none: its current one.
    pub context: Option<String>,
    /// HTTP settings for `api_server`.
    pub http: http_client::Config,
    /// The pod's account; none: the usual place. For tests.
    pub account: Option<ServiceAccount>,
}

/// What a pod knows of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Address of the API server.
    pub server: String,
    /// The folder with `token`, `ca.crt` and `namespace`; the token is read again at each request.
    pub folder: PathBuf,
}

/// A cluster that can be asked.
#[derive(Debug)]
pub struct Access {
    /// `https://10.0.0.1:443`, without a slash at the end.
    pub server: String,
    /// The settings of its client.
    pub http: http_client::Config,
    /// Our own namespace, where one is known.
    pub namespace: Option<String>,
}

impl ClusterConfig {
    /// Reads the files and the environment that say how to reach the cluster, now.
    ///
    /// # Errors
    /// When they do not say it.
    pub fn access(&self) -> Result<Access, Error> {
        if let Some(server) = &self.api_server {
            let server = server.trim_end_matches('/').to_owned();
            return Ok(Access { server, http: self.http.clone(), namespace: None });
        }
        if let Some(path) = &self.kubeconfig_file {
            return kubeconfig::access(path, self.context.as_deref());
        }
        let account = match &self.account {
            Some(account) => account.clone(),
            None => ServiceAccount::of_this_pod()?,
        };
        account.access()
    }
}

impl ServiceAccount {
    fn of_this_pod() -> Result<Self, Error> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host = variable("KUBERNETES_SERVICE_HOST").ok_or(Error::NotInCluster)?;
        let port = variable("KUBERNETES_SERVICE_PORT").ok_or(Error::NotInCluster)?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Ok(Self { server: format!("https://{host}:{port}"), folder: PathBuf::from(ACCOUNT_FOLDER) })
    }

    fn access(self) -> Result<Access, Error> {
        let Self { server, folder } = self;
        let token = folder.join("token");
        let readable = |path: &Path| match std::fs::metadata(path) {
            Ok(_) => Ok(()),
            Err(source) => Err(Error::File { path: path.to_owned(), source }),
        };
        readable(&token)?;
        let ca = folder.join("ca.crt");
        let mut http = http_client::Config {
            authorization: Some(Authorization { credentials_file: Some(token), ..Authorization::default() }),
            ..http_client::Config::default()
        };
        if server.starts_with("https:") {
            readable(&ca)?;
            http.tls_config.ca_file = Some(ca);
        }
        let namespace = std::fs::read_to_string(folder.join("namespace")).ok().map(|text| text.trim().to_owned());
        Ok(Access { server, http, namespace: namespace.filter(|namespace| !namespace.is_empty()) })
    }
}
