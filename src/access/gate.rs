//! Judges each request before anything is done: limits, who it is, what they may do, on whose behalf.
//!
//! Invariant: the order is limits of the client, proof, role, origin; a wrong password costs more than a right one, also on
//! the paths that are not limited.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::header::{HOST, HeaderMap};
use http::{Method, Uri};

use super::actions::{Action, Need, action};
use super::caller::{Caller, Proof, Role};
use super::config::{ByWhom, RateLimitConfig, RolesConfig, TrustedProxyConfig};
use super::limit::{Client, Limits, of_client};
use super::origin::{is_cross_site, is_rebound};
use super::proxy::{Said, TrustedProxy};
use crate::web_config::{CertificateNames, Guard, Identity, Refusal};

/// What scrapes and probes ask: not limited, but for who sends wrong passwords.
const PROBES: [&str; 3] = ["/metrics", "/-/healthy", "/-/ready"];

/// What the configuration says of a listener.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The proxy that says who asks.
    pub proxy: Option<TrustedProxyConfig>,
    /// Who may do more than read; `None`: everybody.
    pub roles: Option<RolesConfig>,
    /// How much each client may ask.
    pub rate_limit: RateLimitConfig,
    /// The host under which browsers know us, besides addresses and `localhost`.
    pub known_host: Option<String>,
    /// Whether no other name leads here by right: changes under such a name are refused to browsers that proved nothing.
    pub knows_all_hosts: bool,
}

/// Where a request comes from.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The other end of the connection.
    pub address: Option<IpAddr>,
    /// The names in its certificate.
    pub certificate: CertificateNames,
}

/// What a gate counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests of who may not do what they asked for.
    pub forbidden: AtomicU64,
    /// Changes that a page of another site asked for.
    pub cross_site: AtomicU64,
    /// Requests of clients past their `web.rate_limit`.
    pub limited: AtomicU64,
    /// Requests with the trusted proxy's headers that did not come from it.
    pub ignored_proxy_headers: AtomicU64,
}

/// Why a request is not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No valid password, token or word of the proxy: 401.
    Unauthorized,
    /// Too many requests: 429, with the time to wait.
    TooMany(Duration),
    /// Known, and not allowed; or on behalf of another site: 403, with the reason.
    Forbidden(String),
}

/// Judges the requests of one listener. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    guard: Guard,
    settings: Settings,
    proxy: Option<TrustedProxy>,
    limits: Option<Limits>,
    counters: Counters,
}

/// What is known of who asks, for the lists.
#[derive(Default)]
struct Known<'a> {
    user: Option<&'a str>,
    token: Option<&'a Path>,
    names: &'a [String],
    proxy_user: Option<&'a str>,
    groups: &'a [String],
}

impl Known<'_> {
    fn is_one_of(&self, whom: &ByWhom) -> bool {
        let ByWhom { users, token_files, certificate_names, proxy_users, proxy_groups } = whom;
        self.user.is_some_and(|user| users.iter().any(|one| one == user))
            || self.token.is_some_and(|token| token_files.iter().any(|one| one == token))
            || self.names.iter().any(|name| certificate_names.contains(name))
            || self.proxy_user.is_some_and(|user| proxy_users.iter().any(|one| one == user))
            || self.groups.iter().any(|group| proxy_groups.contains(group))
    }
}

impl Gate {
    /// A gate behind `guard`, which checks passwords and tokens.
    pub fn new(guard: Guard, settings: Settings) -> Self {
        let proxy = settings.proxy.as_ref().and_then(TrustedProxy::new);
        let limits = Limits::new(&settings.rate_limit);
        Self(Arc::new(Inner { guard, settings, proxy, limits, counters: Counters::default() }))
    }

    /// What checks passwords and tokens.
    pub fn guard(&self) -> &Guard {
        &self.0.guard
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Clients whose requests are counted now.
    pub fn clients(&self) -> usize {
        self.0.limits.as_ref().map_or(0, Limits::clients)
    }

    /// Who is let in and what they may do, in words for people.
    pub fn says(&self) -> String {
        let Settings { proxy, roles, rate_limit, .. } = &self.0.settings;
        let mut said = Vec::new();
        if proxy.is_some() {
            said.push("users of a trusted proxy".to_owned());
        }
        said.push(if roles.is_some() { "roles" } else { "no roles: all may change" }.to_owned());
        if rate_limit.requests_per_second > 0.0 {
            said.push(format!("{} requests a second for each client", rate_limit.requests_per_second));
        }
        said.join(", ")
    }

    /// Who asks, as far as is known, and whether the request is let through.
    pub async fn admit(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> (Caller, Result<(), Refused>) {
        let inner = &*self.0;
        let (said, address) = match &inner.proxy {
            None => (Said::Nothing, peer.address),
            Some(proxy) => (proxy.read(headers, peer.address), proxy.client(headers, peer.address)),
        };
        if said == Said::Ignored {
            inner.counters.ignored_proxy_headers.fetch_add(1, Relaxed);
            tracing::debug!(?address, "the trusted proxy's headers came from elsewhere and are ignored");
        }
        let unknown = Caller { address, role: Role::Reader, ..Caller::default() };
        if let Err(wait) = self.limited(&said, address, uri.path()) {
            inner.counters.limited.fetch_add(1, Relaxed);
            return (unknown, Err(Refused::TooMany(wait)));
        }
        let caller = match self.identify(&said, headers, peer).await {
            Ok(caller) => Caller { address, ..caller },
            Err(refused) => {
                if let (Refused::Unauthorized, Some(limits), Some(address)) = (&refused, &inner.limits, address) {
                    // What is left tells later, in `limited`.
                    let _ = limits.take(Client::Failures(of_client(address)));
                }
                return (unknown, Err(refused));
            }
        };
        let allowed = self.allowed(&caller, (method, uri), headers);
        (caller, allowed)
    }

    fn limited(&self, said: &Said, address: Option<IpAddr>, path: &str) -> Result<(), Duration> {
        let (Some(limits), Some(address)) = (&self.0.limits, address) else { return Ok(()) };
        if limits.exempts(address) {
            return Ok(());
        }
        limits.look(Client::Failures(of_client(address)))?;
        match said {
            _ if PROBES.contains(&path) => Ok(()),
            Said::Vouched(vouched) => limits.take(Client::User(vouched.user.as_str().into())),
            _ => limits.take(Client::Address(of_client(address))),
        }
    }

    /// Who it is, by the best proof; a certificate's names count beside a password.
    async fn identify(&self, said: &Said, headers: &HeaderMap, peer: &Peer) -> Result<Caller, Refused> {
        let inner = &*self.0;
        let refusal = |refusal| match refusal {
            Refusal::Unauthorized => Refused::Unauthorized,
            Refusal::TooMany => Refused::TooMany(Duration::from_secs(1)),
        };
        let unauthorized = || {
            inner.guard.counters().unauthorized.fetch_add(1, Relaxed);
            Refused::Unauthorized
        };
        let names = peer.certificate.get();
        let known = Known { names, ..Known::default() };
        if *said == Said::Unclear {
            return Err(unauthorized());
        }
        if let (Said::Vouched(vouched), Some(proxy)) = (said, &inner.proxy) {
            inner.guard.admit_known().map_err(refusal)?;
            // The certificate is the proxy's own.
            let known = Known { proxy_user: Some(&vouched.user), groups: &vouched.groups, ..Known::default() };
            let caller = self.caller(&vouched.user, Proof::Proxy, &known);
            if !proxy.allows(vouched) {
                inner.counters.forbidden.fetch_add(1, Relaxed);
                return Err(Refused::Forbidden(format!(
                    "{caller} is not in web.trusted_proxy.allow_users, and in no group of allow_groups"
                )));
            }
            return Ok(caller);
        }
        match inner.guard.admit(headers).await.map_err(refusal)? {
            Identity::User(user) => Ok(self.caller(&user, Proof::Password, &Known { user: Some(&user), ..known })),
            Identity::Token(file) => {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                Ok(self.caller(&name, Proof::Token, &Known { token: Some(&file), ..known }))
            }
            Identity::Anyone => match (&inner.proxy, names.first()) {
                // Who comes by the proxy is somebody, or nobody at all.
                (Some(proxy), _) if proxy.is_proxy(peer.address) => Err(unauthorized()),
                (_, Some(name)) => Ok(self.caller(name, Proof::Certificate, &known)),
                (Some(_), None) => Err(unauthorized()),
                (None, None) => Ok(self.caller("", Proof::Nothing, &known)),
            },
        }
    }

    fn caller(&self, name: &str, proof: Proof, known: &Known<'_>) -> Caller {
        let role = match &self.0.settings.roles {
            None => Role::Administrator,
            Some(roles) if known.is_one_of(&roles.admins) => Role::Administrator,
            Some(roles) if known.is_one_of(&roles.senders) => Role::Sender,
            Some(_) => Role::Reader,
        };
        Caller { name: name.into(), proof, address: None, role }
    }

    fn allowed(&self, caller: &Caller, (method, uri): (&Method, &Uri), headers: &HeaderMap) -> Result<(), Refused> {
        let Settings { known_host, knows_all_hosts, .. } = &self.0.settings;
        let counters = &self.0.counters;
        let Action { need, what, .. } = action(method, uri.path());
        if !caller.may(*need) {
            counters.forbidden.fetch_add(1, Relaxed);
            let may = if caller.role == Role::Sender { "may read and send" } else { "may only read" };
            let list = if *need == Need::Send { "web.roles.senders or admins" } else { "web.roles.admins" };
            let path = uri.path();
            return Err(Refused::Forbidden(format!(
                "{caller} {may}; to {what} ({method} {path}) one must be in {list} of the configuration"
            )));
        }
        if *need == Need::Read {
            return Ok(());
        }
        let from_elsewhere = if is_cross_site(headers, uri) {
            "refused: the request comes from a page of another site".to_owned()
        } else if *knows_all_hosts
            && matches!(caller.proof, Proof::Nothing | Proof::Certificate)
            && is_rebound(headers, uri, known_host.as_deref())
        {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
            format!("refused: `{host}` is not known as a name of meshscope; if it is one, write it in web.external_url")
        } else {
            return Ok(());
        };
        counters.cross_site.fetch_add(1, Relaxed);
        Err(Refused::Forbidden(from_elsewhere))
    }
}
