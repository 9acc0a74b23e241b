//! How a command proves to a server who it is: flags that all commands share that ask one.

use std::path::PathBuf;

use crate::http_client::{self, Authorization, BasicAuth, TlsConfig};

/// A token or a user, and whose certificates are trusted.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Login")]
pub(super) struct Login {
    /// A file with the bearer token that the server wants.
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    pub(super) token_file: Option<PathBuf>,
    /// The user that the server wants.
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,
    /// A file with that user's password.
    #[arg(long, value_name = "FILE", requires = "user")]
    pub(super) password_file: Option<PathBuf>,
    /// A file with the certificates of the authority that the server's certificate is of.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Login {
    /// The same as settings of a client.
    pub(super) fn http(&self) -> http_client::Config {
        let authorization =
            |file: &PathBuf| Authorization { credentials_file: Some(file.clone()), ..Default::default() };
        let basic = |user: &String| BasicAuth {
            username: user.clone(),
            password_file: self.password_file.clone(),
            ..Default::default()
        };
        http_client::Config {
            authorization: self.token_file.as_ref().map(authorization),
            basic_auth: self.user.as_ref().map(basic),
            tls_config: TlsConfig { ca_file: self.ca_file.clone(), ..Default::default() },
            ..Default::default()
        }
    }

    /// A client that says so with each request.
    ///
    /// # Errors
    /// When a file cannot be read or is not what it should be.
    pub(super) fn client(&self) -> Result<reqwest::Client, http_client::Error> {
        http_client::build_logged_in(&self.http())
    }
}
