//! The keys of `web` that say who may do what.

use std::path::PathBuf;

use http::HeaderName;
use serde::Deserialize;

use crate::units::Network;

/// Who may do more than read: the block `web.roles`. Without it everybody who is let in may do everything.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolesConfig {
    /// Who may change silences and notifications, reload, and send.
    pub admins: ByWhom,
    /// Who may send samples, metrics and alerts, and read.
    pub senders: ByWhom,
}

/// Who is meant, by how they prove it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ByWhom {
    /// Users of `basic_auth_users` in `web.config_file`.
    pub users: Vec<String>,
    /// Files of `web.bearer_token_files`.
    pub token_files: Vec<PathBuf>,
    /// Subject alternative names of clients' verified certificates.
    pub certificate_names: Vec<String>,
    /// Users that the trusted proxy names.
    pub proxy_users: Vec<String>,
    /// Groups that the trusted proxy names.
    pub proxy_groups: Vec<String>,
}

/// A proxy that says who asks, as oauth2-proxy does after a login with OpenID Connect: the block `web.trusted_proxy`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrustedProxyConfig {
    /// Where it connects from. The headers count from nobody else.
    pub networks: Vec<Network>,
    /// The header with the user's name. Default `X-Forwarded-User`.
    pub user_header: String,
    /// The header with the user's groups, separated by commas. Default `X-Forwarded-Groups`.
    pub groups_header: String,
    /// Users that are let in; with `allow_groups` empty too, all whom the proxy names.
    pub allow_users: Vec<String>,
    /// Groups whose members are let in.
    pub allow_groups: Vec<String>,
}

impl Default for TrustedProxyConfig {
    fn default() -> Self {
        Self {
            networks: Vec::new(),
            user_header: "X-Forwarded-User".to_owned(),
            groups_header: "X-Forwarded-Groups".to_owned(),
            allow_users: Vec::new(),
            allow_groups: Vec::new(),
        }
    }
}

/// How much each client may ask: the block `web.rate_limit`. A client is a user of the trusted proxy, else an address (of
/// IPv6, a network of 64 bits).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimitConfig {
    /// Requests a second of one client; 0, the default, does not limit.
    pub requests_per_second: f64,
    /// Requests of one client at once, after a pause. Default 200.
    pub burst: u32,
    /// Clients that are told apart; more share one allowance. Default 10,000.
    pub clients_max: usize,
    /// Networks that are not limited.
    pub exempt_networks: Vec<Network>,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self { requests_per_second: 0.0, burst: 200, clients_max: 10_000, exempt_networks: Vec::new() }
    }
}

impl RateLimitConfig {
    /// What is wrong with it.
    pub fn problem(&self) -> Option<String> {
        let Self { requests_per_second: rate, burst, clients_max, .. } = self;
        match () {
            () if !(0.0..=1e6).contains(rate) => {
                Some(format!("web.rate_limit.requests_per_second: {rate} is not between 0 and 1000000"))
            }
            () if *rate > 0.0 && *burst == 0 => {
                Some("web.rate_limit.burst: 0 lets no request through; write at least 1".to_owned())
            }
            () if *clients_max == 0 => Some("web.rate_limit.clients_max must be at least 1".to_owned()),
            () => None,
        }
    }
}

impl TrustedProxyConfig {
    /// What is wrong with it.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.networks.is_empty() {
            found.push(
                "web.trusted_proxy.networks: missing; name the addresses the proxy connects from, such as `127.0.0.1`"
                    .to_owned(),
            );
        }
        for (key, name) in [("user_header", &self.user_header), ("groups_header", &self.groups_header)] {
            if name.parse::<HeaderName>().is_err() {
                found.push(format!("web.trusted_proxy.{key}: {name:?} is not a header name"));
            }
        }
        if self.user_header.eq_ignore_ascii_case(&self.groups_header) {
            found.push("web.trusted_proxy: user_header and groups_header are the same header".to_owned());
        }
        found
    }
}

impl RolesConfig {
    /// What names something that is not there.
    pub fn problems(&self, token_files: &[PathBuf], has_config_file: bool, has_proxy: bool) -> Vec<String> {
        let mut found = Vec::new();
        for (role, whom) in [("admins", &self.admins), ("senders", &self.senders)] {
            let ByWhom { users, token_files: tokens, certificate_names, proxy_users, proxy_groups } = whom;
            for file in tokens.iter().filter(|file| !token_files.contains(file)) {
                found.push(format!(
                    "web.roles.{role}.token_files: `{}` is not one of web.bearer_token_files",
                    file.display()
                ));
            }
            let needs = |key: &str, what: &str| format!("web.roles.{role}.{key} needs {what}");
            if !has_config_file && !users.is_empty() {
                found.push(needs("users", "web.config_file with basic_auth_users"));
            }
            if !has_config_file && !certificate_names.is_empty() {
                found
                    .push(needs("certificate_names", "web.config_file with a tls_server_config that verifies clients"));
            }
            let names_of_proxy = proxy_users.len() + proxy_groups.len();
            if !has_proxy && names_of_proxy > 0 {
                found.push(needs("proxy_users and proxy_groups", "web.trusted_proxy"));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn what_names_something_that_is_not_there_is_told_with_its_key() {
        let check = |web: &str, expect: &str| {
            let said = Config::parse(&format!("web: {{{web}}}"), None).err().map(|error| error.to_string());
            let said = said.unwrap_or_default();
            assert!(if expect.is_empty() { said.is_empty() } else { said.contains(expect) }, "{web}: {said}");
        };
        check("roles: {}", "");
        check("bearer_token_files: [a], roles: {admins: {token_files: [a]}}", "");
        check(
            "roles: {admins: {token_files: [a]}}",
            "web.roles.admins.token_files: `a` is not one of web.bearer_token_files",
        );
        check("roles: {admins: {users: [a]}}", "web.roles.admins.users needs web.config_file");
        check(
            "roles: {senders: {certificate_names: [a]}}",
            "web.roles.senders.certificate_names needs web.config_file",
        );
        check("roles: {admins: {proxy_groups: [a]}}", "proxy_users and proxy_groups needs web.trusted_proxy");
        check("trusted_proxy: {networks: [127.0.0.1]}, roles: {admins: {proxy_groups: [a]}}", "");
        check("trusted_proxy: {}", "web.trusted_proxy.networks: missing");
        check("trusted_proxy: {networks: [ten]}", "not a valid network: \"ten\"");
        check(
            "trusted_proxy: {networks: [::1], user_header: 'a b'}",
            "web.trusted_proxy.user_header: \"a b\" is not a header",
        );
        check("trusted_proxy: {networks: [::1], user_header: A, groups_header: a}", "are the same header");
        check("rate_limit: {requests_per_second: -1}", "-1 is not between 0 and 1000000");
        check("rate_limit: {requests_per_second: .nan}", "web.rate_limit.requests_per_second");
        check("rate_limit: {requests_per_second: 5, burst: 0}", "web.rate_limit.burst: 0 lets no request through");
        check("rate_limit: {clients_max: 0}", "web.rate_limit.clients_max");
        check("admins: [a]", "unknown key");
    }
}
