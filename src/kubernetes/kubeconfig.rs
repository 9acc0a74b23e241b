//! kubeconfig files: contexts, clusters, users with certificates or tokens. Programs that make tokens are not run.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Access, Error};
use crate::http_client::{self, Authorization, BasicAuth};
use crate::units::Secret;
use crate::yaml;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    #[serde(rename = "current-context")]
    current_context: String,
    contexts: Vec<Named<Context>>,
    clusters: Vec<Named<Cluster>>,
    users: Vec<Named<User>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named<T> {
    name: String,
    #[serde(alias = "context", alias = "cluster", alias = "user")]
    it: T,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
    namespace: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    insecure_skip_tls_verify: bool,
    proxy_url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<Secret>,
    token: Option<Secret>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    username: Option<String>,
    password: Option<Secret>,
    exec: Option<IgnoredAny>,
    auth_provider: Option<IgnoredAny>,
    #[serde(rename = "as")]
    acts_as: Option<IgnoredAny>,
}

/// What the file says of a context; none: its current one. Relative paths are taken from the folder of the file.
pub(super) fn access(path: &Path, context: Option<&str>) -> Result<Access, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    parse(&text, path.parent().unwrap_or(Path::new("")), context)
        .map_err(|reason| Error::Kubeconfig { path: path.to_owned(), reason })
}

fn parse(text: &str, folder: &Path, context: Option<&str>) -> Result<Access, String> {
    let (file, problems) = yaml::decode::<File>(text);
    // What other programs wrote into it is none of our business; what we need is checked below.
    let file = file.ok_or_else(|| problems.first().map_or_else(|| "not YAML".to_owned(), ToString::to_string))?;
    let name = match context {
        Some(name) => name,
        None if file.current_context.is_empty() => return Err("no current-context: name a context".to_owned()),
        None => &file.current_context,
    };
    let context = find(&file.contexts, "context", name)?;
    let cluster = find(&file.clusters, "cluster", &context.cluster)?;
    let user = match context.user.as_str() {
        "" => &User::default(),
        name => find(&file.users, "user", name)?,
    };
    let whole = |path: &Path| folder.join(path);
    let url = reqwest::Url::parse(&cluster.server).ok().filter(|url| url.has_host());
    if url.is_none() {
        let (server, name) = (&cluster.server, &context.cluster);
        return Err(format!("the server {server:?} of cluster {name:?} is not a URL"));
    }
    let mut http = user.http(&context.user, folder)?;
    let tls = &mut http.tls_config;
    match &cluster.certificate_authority_data {
        Some(data) => tls.ca = Some(decoded("certificate-authority-data", data)?),
        None => tls.ca_file = cluster.certificate_authority.as_deref().map(whole),
    }
    tls.insecure_skip_verify = cluster.insecure_skip_tls_verify;
    tls.server_name.clone_from(&cluster.tls_server_name);
    http.proxy_url.clone_from(&cluster.proxy_url);
    http.validate().map_err(|error| error.to_string())?;
    let server = cluster.server.trim_end_matches('/').to_owned();
    Ok(Access { server, http, namespace: context.namespace.clone() })
}

fn find<'a, T>(all: &'a [Named<T>], what: &str, name: &str) -> Result<&'a T, String> {
    all.iter().find(|one| one.name == name).map(|one| &one.it).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
        format!("there is no {what} {name:?}; there are: {}", names.join(", "))
    })
}

impl User {
    fn http(&self, name: &str, folder: &Path) -> Result<http_client::Config, String> {
        let refused = [
            (self.exec.is_some(), "exec", "programs are not run"),
            (self.auth_provider.is_some(), "auth-provider", "it is not offered"),
            (self.acts_as.is_some(), "as", "acting as somebody else is not offered"),
        ];
        if let Some((_, key, why)) = refused.into_iter().find(|(given, ..)| *given) {
            return Err(format!(
                "user {name:?} has `{key}`: {why}; use a token, a tokenFile or a client certificate, as a service \
                 account has them"
            ));
        }
        let mut http = http_client::Config::default();
        let tls = &mut http.tls_config;
        match &self.client_certificate_data {
            Some(data) => tls.cert = Some(decoded("client-certificate-data", data)?),
            None => tls.cert_file = self.client_certificate.as_deref().map(|path| folder.join(path)),
        }
        match &self.client_key_data {
            Some(data) => tls.key = Some(Secret::from(decoded("client-key-data", data.reveal())?)),
            None => tls.key_file = self.client_key.as_deref().map(|path| folder.join(path)),
        }
        // As in client-go: a token file wins over a token, and both over a name and password.
        let given = |secret: &Option<Secret>| secret.clone().filter(|secret| !secret.reveal().is_empty());
        if let Some(file) = &self.token_file {
            let credentials_file = Some(folder.join(file));
            http.authorization = Some(Authorization { credentials_file, ..Authorization::default() });
        } else if let Some(credentials) = given(&self.token) {
            http.authorization = Some(Authorization { credentials: Some(credentials), ..Authorization::default() });
        } else if let Some(username) = self.username.clone() {
            http.basic_auth = Some(BasicAuth { username, password: self.password.clone(), ..BasicAuth::default() });
        }
        Ok(http)
    }
}

/// Text that stands in the file as base64 (RFC 4648 §4).
fn decoded(key: &str, text: &str) -> Result<String, String> {
    let wrong = || format!("{key} is not base64 of a PEM text");
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(text.len() * 3 / 4), 0_u32, 0);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(wrong()),
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.extend(u8::try_from(bits >> held & 0xff));
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const FILE: &str = "apiVersion: v1
kind: Config
current-context: one
preferences: {}
contexts:
- {name: one, context: {cluster: c, user: u, namespace: shop}}
- {name: two, context: {cluster: d, user: cert}}
- {name: three, context: {cluster: c, user: exec}}
- {name: four, context: {cluster: gone, user: u}}
- {name: five, context: {cluster: bad, user: u}}
clusters:
- {name: c, cluster: {server: 'https://10.0.0.1:6443/', certificate-authority: ca.pem, tls-server-name: kube}}
- {name: d, cluster: {server: 'https://d', certificate-authority-data: Y2EgdGV4dA==, insecure-skip-tls-verify: true}}
- {name: bad, cluster: {server: nowhere}}
users:
- {name: u, user: {token: secret}}
- {name: cert, user: {client-certificate-data: Y2VydA==, client-key-data: a2V5}}
- {name: exec, user: {exec: {command: aws, args: [eks]}}}
";

    #[test]
    fn gives_the_server_and_credentials_of_a_context() {
        let one = parse(FILE, Path::new("/etc/k"), None).unwrap();
        assert_eq!((one.server.as_str(), one.namespace.as_deref()), ("https://10.0.0.1:6443", Some("shop")));
        assert_eq!(one.http.tls_config.ca_file.as_deref(), Some(Path::new("/etc/k/ca.pem")));
        assert_eq!(one.http.tls_config.server_name.as_deref(), Some("kube"));
        let token = one.http.authorization.unwrap().credentials.unwrap();
        assert_eq!(token.reveal(), "secret");
        let two = parse(FILE, Path::new(""), Some("two")).unwrap().http.tls_config;
        assert_eq!(
            (two.ca.as_deref(), two.cert.as_deref(), two.insecure_skip_verify),
            (Some("ca text"), Some("cert"), true)
        );
        assert_eq!(two.key.unwrap().reveal(), "key");
    }

    #[test]
    fn says_what_is_wrong_with_it() {
        for (context, needle) in [
            (Some("three"), "has `exec`: programs are not run"),
            (Some("four"), "there is no cluster \"gone\"; there are: c, d, bad"),
            (Some("five"), "the server \"nowhere\" of cluster \"bad\" is not a URL"),
            (Some("nine"), "there is no context \"nine\"; there are: one, two"),
        ] {
            let error = parse(FILE, Path::new(""), context).unwrap_err();
            assert!(error.contains(needle), "{error}");
        }
        let error = parse("contexts: []", Path::new(""), None).unwrap_err();
        assert!(error.contains("no current-context"), "{error}");
        let bad = FILE.replace("Y2EgdGV4dA==", "'*'");
        assert!(
            parse(&bad, Path::new(""), Some("two")).unwrap_err().contains("certificate-authority-data is not base64")
        );
        assert!(matches!(access(Path::new("/nowhere/config"), None), Err(Error::File { .. })));
    }
}
