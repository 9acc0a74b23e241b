//! What a trusted proxy says of its clients.
//!
//! Invariants: only what comes from the proxy's own networks is believed; two users in one request are none; the address of
//! a client is the last one of `X-Forwarded-For` that is not a trusted proxy's, since what stands before it is the client's
//! own word.

use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderName};

use super::config::TrustedProxyConfig;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Addresses of `X-Forwarded-For` that are read, from the end.
const HOPS_MAX: usize = 20;
/// Longest name of a user or group that is believed.
const NAME_BYTES_MAX: usize = 256;

/// The checked settings.
#[derive(Debug)]
pub(super) struct TrustedProxy {
    config: TrustedProxyConfig,
    user_header: HeaderName,
    groups_header: HeaderName,
}

/// Whom the proxy vouches for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Vouched {
    pub(super) user: String,
    pub(super) groups: Vec<String>,
}

/// What the headers of a request say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing, or nothing that is believed.
    Nothing,
    /// Somebody else than the proxy sent the headers.
    Ignored,
    /// They cannot be understood: more than one user, or a name that is none.
    Unclear,
    /// Who asks.
    Vouched(Vouched),
}

impl TrustedProxy {
    /// `None` when a header's name is none, which the configuration's check has told.
    pub(super) fn new(config: &TrustedProxyConfig) -> Option<Self> {
        let user_header = config.user_header.parse().ok()?;
        let groups_header = config.groups_header.parse().ok()?;
        Some(Self { config: config.clone(), user_header, groups_header })
    }

    /// Whether the address is one of the proxy's.
    pub(super) fn is_proxy(&self, address: Option<IpAddr>) -> bool {
        address.is_some_and(|address| self.config.networks.iter().any(|network| network.contains(address)))
    }

    /// What the request says of who asks.
    pub(super) fn read(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Said {
        let carries = headers.contains_key(&self.user_header) || headers.contains_key(&self.groups_header);
        if !self.is_proxy(peer) {
            return if carries { Said::Ignored } else { Said::Nothing };
        }
        let mut users = headers.get_all(&self.user_header).iter();
        let (Some(user), None) = (users.next(), users.next()) else {
            return if headers.contains_key(&self.user_header) { Said::Unclear } else { Said::Nothing };
        };
        let Some(user) = user.to_str().ok().map(str::trim).filter(|user| is_name(user)) else { return Said::Unclear };
        let groups = headers.get_all(&self.groups_header);
        let groups = groups.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        let groups = groups.map(|group| group.trim().to_owned()).filter(|group| is_name(group)).collect();
        Said::Vouched(Vouched { user: user.to_owned(), groups })
    }

    /// Whether the lists let somebody in.
    pub(super) fn allows(&self, vouched: &Vouched) -> bool {
        let TrustedProxyConfig { allow_users, allow_groups, .. } = &self.config;
        (allow_users.is_empty() && allow_groups.is_empty())
            || allow_users.contains(&vouched.user)
            || vouched.groups.iter().any(|group| allow_groups.contains(group))
    }

    /// The address of the client that asks through the proxy.
    pub(super) fn client(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Option<IpAddr> {
        if !self.is_proxy(peer) {
            return peer;
        }
        let lines: Vec<&str> =
            headers.get_all(FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or("?")).collect();
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(',')).map(str::trim).take(HOPS_MAX);
        let mut last = peer;
        for hop in hops {
            // What cannot be read says that the hop before it is the last that is known.
            let Some(address) = address_of(hop) else { return last };
            last = Some(address);
            if !self.is_proxy(last) {
                return last;
            }
        }
        last
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)
}

/// An address, which some proxies write with a port or in brackets.
fn address_of(hop: &str) -> Option<IpAddr> {
    let plain = hop.parse().ok();
    plain.or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip())).or_else(|| {
        let inner = hop.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use http::HeaderValue;

    use super::*;

    fn proxy(allow_users: &[&str], allow_groups: &[&str]) -> TrustedProxy {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let config = TrustedProxyConfig {
            networks: vec!["10.0.0.0/24".parse().unwrap(), "::1".parse().unwrap()],
            allow_users: texts(allow_users),
            allow_groups: texts(allow_groups),
            ..TrustedProxyConfig::default()
        };
        TrustedProxy::new(&config).unwrap()
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn at(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    #[test]
    fn only_the_proxys_own_word_counts() {
        let proxy = proxy(&[], &[]);
        let ali =
            [("x-forwarded-user", "ali"), ("x-forwarded-groups", "ops, dev,,"), ("x-forwarded-groups", "on call")];
        let groups = ["ops", "dev", "on call"].map(str::to_owned).to_vec();
        let vouched = Said::Vouched(Vouched { user: "ali".to_owned(), groups });
        assert_eq!(proxy.read(&headers(&ali), at("10.0.0.7")), vouched);
        assert_eq!(proxy.read(&headers(&ali), at("::ffff:10.0.0.7")), vouched);
        for spoofer in [at("10.0.1.7"), at("127.0.0.1"), None] {
            assert_eq!(proxy.read(&headers(&ali), spoofer), Said::Ignored);
        }
        let groups_alone = [("x-forwarded-groups", "ops")];
        assert_eq!(proxy.read(&headers(&groups_alone), at("127.0.0.1")), Said::Ignored);
        assert_eq!(proxy.read(&headers(&groups_alone), at("10.0.0.7")), Said::Nothing);
        assert_eq!(proxy.read(&headers(&[]), at("127.0.0.1")), Said::Nothing);
        // A header that the client sent and the proxy let stand beside its own.
        let two = [("x-forwarded-user", "root"), ("x-forwarded-user", "ali")];
        assert_eq!(proxy.read(&headers(&two), at("10.0.0.7")), Said::Unclear);
        assert_eq!(proxy.read(&headers(&[("x-forwarded-user", " ")]), at("10.0.0.7")), Said::Unclear);
    }

    #[test]
    fn the_lists_let_in_whom_they_name() {
        let who = |user: &str, groups: &[&str]| Vouched {
            user: user.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        };
        assert!(proxy(&[], &[]).allows(&who("anyone", &[])));
        assert!(proxy(&["ali"], &[]).allows(&who("ali", &[])));
        assert!(!proxy(&["ali"], &[]).allows(&who("Ali", &["ali"])));
        assert!(proxy(&["ali"], &["ops"]).allows(&who("bo", &["dev", "ops"])));
        assert!(!proxy(&[], &["ops"]).allows(&who("ops", &["ops2"])));
    }

    #[test]
    fn a_client_is_the_last_hop_that_is_no_proxy() {
        let proxy = proxy(&[], &[]);
        let check = |lines: &[(&'static str, &'static str)], peer: &str, expect: &str| {
            assert_eq!(proxy.client(&headers(lines), at(peer)), at(expect), "{lines:?}");
        };
        check(&[("x-forwarded-for", "192.0.2.1")], "10.0.0.7", "192.0.2.1");
        check(&[("x-forwarded-for", "192.0.2.1")], "127.0.0.1", "127.0.0.1"); // not through the proxy
        check(&[("x-forwarded-for", "1.1.1.1, 192.0.2.1, 10.0.0.9")], "10.0.0.7", "192.0.2.1");
        check(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "192.0.2.1:4711")], "10.0.0.7", "192.0.2.1");
        check(&[("x-forwarded-for", "192.0.2.1, rubbish")], "10.0.0.7", "10.0.0.7");
        check(&[("x-forwarded-for", "[2001:db8::1]")], "10.0.0.7", "2001:db8::1");
        check(&[], "10.0.0.7", "10.0.0.7");
    }
}
