//! Where requests may lead: networks that are allowed and denied, asked when a connection is made.
//!
//! In: the block `security.outgoing`, and each address after its name was looked up. Out: leave, or why not. Invariants: what
//! is connected to is the address that was asked about, so a name that changes its address in between (rebinding) gains
//! nothing; redirects are asked about like first requests; addresses where clouds keep credentials are refused unless they
//! are named.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use reqwest::Url;
use serde::Deserialize;

use crate::units::{Network, plain};

/// Addresses at which clouds hand out credentials and other data of the machine: AWS, Azure, Google and most others at the
/// first; ECS tasks and EKS pods at the next two; Alibaba; then the same over IPv6 of EC2, EKS and Google.
const METADATA: [IpAddr; 7] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Where one kind of request may lead.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReachConfig {
    /// Networks that alone may be reached; empty: all that are not denied.
    pub allow: Vec<Network>,
    /// Networks that may not be reached, whatever `allow` says.
    pub deny: Vec<Network>,
}

/// The block `security`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecurityConfig {
    /// Where requests of our own may lead.
    pub outgoing: OutgoingConfig,
}

/// The block `security.outgoing`: who meshscope may be made to call.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutgoingConfig {
    /// Receivers of notifications: webhooks, Slack, PagerDuty, mail.
    pub notifications: ReachConfig,
    /// The Alertmanagers of `alerting`.
    pub alertmanagers: ReachConfig,
    /// Lists of targets, and the API servers of clusters.
    pub discovery: ReachConfig,
    /// Targets.
    pub scrape: ReachConfig,
    /// Receivers of remote write.
    pub remote_write: ReachConfig,
    /// The other replicas on the same database.
    pub replicas: ReachConfig,
    /// The engine of `storage.query_upstream`.
    pub query_upstream: ReachConfig,
}

impl OutgoingConfig {
    /// The limits of each kind.
    pub fn reaches(&self) -> Reaches {
        let Self { notifications, alertmanagers, discovery, scrape, remote_write, replicas, query_upstream } = self;
        Reaches {
            notifications: Reach::new("notifications", notifications),
            alertmanagers: Reach::new("alertmanagers", alertmanagers),
            discovery: Reach::new("discovery", discovery),
            scrape: Reach::new("scrape", scrape),
            remote_write: Reach::new("remote_write", remote_write),
            replicas: Reach::new("replicas", replicas),
            query_upstream: Reach::new("query_upstream", query_upstream),
        }
    }
}

/// The limits of each kind of request; clones count together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reaches {
    /// Of receivers of notifications.
    pub notifications: Reach,
    /// Of Alertmanagers.
    pub alertmanagers: Reach,
    /// Of lists of targets and API servers.
    pub discovery: Reach,
    /// Of targets.
    pub scrape: Reach,
    /// Of receivers of remote write.
    pub remote_write: Reach,
    /// Of the other replicas.
    pub replicas: Reach,
    /// Of the engine of `storage.query_upstream`.
    pub query_upstream: Reach,
}

impl Reaches {
    /// All of them.
    pub fn all(&self) -> [&Reach; 7] {
        let Self { notifications, alertmanagers, discovery, scrape, remote_write, replicas, query_upstream } = self;
        [notifications, alertmanagers, discovery, scrape, remote_write, replicas, query_upstream]
    }

    /// Makes these, read anew, and all clones of the `former` ones the same: what runs follows a reload, and what was counted
    /// stays counted.
    pub fn follow_on(&self, former: &Self) {
        for (new, old) in self.all().into_iter().zip(former.all()) {
            if let (Some(new), Some(old)) = (&new.0, &old.0) {
                let shared = old.load_full();
                shared.config.store(new.load().config.load_full());
                new.store(shared);
            }
        }
    }
}

/// Where one kind of request may lead. Cheap to clone; the default leaves everything open, for commands that people run.
#[derive(Clone, Debug, Default)]
pub struct Reach(Option<Arc<ArcSwap<Limits>>>);

#[derive(Debug)]
struct Limits {
    purpose: &'static str,
    config: ArcSwap<ReachConfig>,
    refused: AtomicU64,
}

impl PartialEq for Reach {
    fn eq(&self, other: &Self) -> bool {
        let of = |reach: &Self| {
            let limits = reach.0.as_ref()?.load_full();
            Some((limits.purpose, limits.config.load_full()))
        };
        of(self) == of(other)
    }
}

impl Reach {
    /// The limits that `security.outgoing.PURPOSE` sets.
    pub fn new(purpose: &'static str, config: &ReachConfig) -> Self {
        let config = ArcSwap::from_pointee(config.clone());
        Self(Some(Arc::new(ArcSwap::from_pointee(Limits { purpose, config, refused: AtomicU64::new(0) }))))
    }

    /// The key below `security.outgoing`; empty when nothing is limited.
    pub fn purpose(&self) -> &'static str {
        self.0.as_ref().map_or("", |limits| limits.load().purpose)
    }

    /// Connections that were refused so far.
    pub fn refused(&self) -> u64 {
        self.0.as_ref().map_or(0, |limits| limits.load().refused.load(Relaxed))
    }

    /// Whether an address may be connected to, which `host` leads to.
    ///
    /// # Errors
    /// When it may not: names host, address and key.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), String> {
        let Some(limits) = self.0.as_ref().map(|limits| limits.load_full()) else { return Ok(()) };
        let config = limits.config.load();
        let ReachConfig { allow, deny } = &**config;
        let address = plain(address);
        let names = |list: &[Network]| list.iter().any(|network| network.contains(address));
        let is_named = || allow.iter().any(|network| network.is_one_address() && network.contains(address));
        let key = |list: &str| format!("security.outgoing.{}.{list}", limits.purpose);
        let reason = match () {
            () if names(deny) => format!("is in {}", key("deny")),
            () if METADATA.contains(&address) && !is_named() => {
                format!("hands out credentials of this machine and is not one of {}", key("allow"))
            }
            () if !allow.is_empty() && !names(allow) => format!("is not in {}", key("allow")),
            () => return Ok(()),
        };
        limits.refused.fetch_add(1, Relaxed);
        let leads = if host.parse::<IpAddr>().is_ok_and(|literal| plain(literal) == address) {
            address.to_string()
        } else {
            format!("`{host}` leads to {address}, which")
        };
        Err(format!("refused: {leads} {reason}"))
    }

    /// Leaves of a name's addresses those that may be connected to.
    ///
    /// # Errors
    /// When none is left.
    pub(super) fn filter<T: Copy>(
        &self,
        host: &str,
        found: Vec<T>,
        address: impl Fn(T) -> IpAddr,
    ) -> Result<Vec<T>, String> {
        if self.0.is_none() {
            return Ok(found);
        }
        let mut reason = None;
        let mut open = found;
        open.retain(|one| match self.check(host, address(*one)) {
            Ok(()) => true,
            Err(refused) => {
                reason = Some(refused);
                false
            }
        });
        match (open.is_empty(), reason) {
            (true, Some(reason)) => Err(reason),
            _ => Ok(open),
        }
    }

    /// Whether a URL whose host is an address may be asked; names are asked about when they are looked up.
    ///
    /// # Errors
    /// When it may not.
    pub fn check_url(&self, url: &Url) -> Result<(), String> {
        // The library reads all ways to write an address: `0x7f.1` and `2130706433` come as 127.0.0.1.
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        host.parse().map_or(Ok(()), |address| self.check(host, address))
    }

    /// The addresses of a mail server that may be connected to, looked up now.
    ///
    /// # Errors
    /// When the name is unknown or none of its addresses may be reached.
    pub async fn look_up(&self, host: &str, port: u16) -> Result<Vec<std::net::SocketAddr>, String> {
        let found = tokio::net::lookup_host((host, port)).await.map_err(|error| error.to_string())?;
        self.filter(host, found.collect(), |address| address.ip())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn reach(allow: &[&str], deny: &[&str]) -> Reach {
        let list = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Reach::new("notifications", &ReachConfig { allow: list(allow), deny: list(deny) })
    }

    #[test]
    fn an_address_is_refused_with_host_address_and_key() {
        let check = |reach: &Reach, address: &str, expect: &str| {
            let said = reach.check("hooks.example", address.parse().unwrap()).err().unwrap_or_default();
            assert!(if expect.is_empty() { said.is_empty() } else { said.contains(expect) }, "{address}: {said:?}");
        };
        let open = reach(&[], &[]);
        check(&open, "127.0.0.1", "");
        check(&open, "203.0.113.1", "");
        let metadata = "hands out credentials of this machine and is not one of security.outgoing.notifications.allow";
        for address in ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200"] {
            check(&open, address, metadata);
            // A wide network does not name it.
            check(&reach(&["0.0.0.0/0", "::/0"], &[]), address, metadata);
        }
        check(&reach(&["169.254.169.254"], &[]), "169.254.169.254", "");
        check(&reach(&["169.254.169.254"], &["169.254.0.0/16"]), "169.254.169.254", "is in security.outgoing");
        let inside = reach(&["10.0.0.0/8", "fd00::/8"], &["10.9.0.0/16"]);
        check(&inside, "10.1.1.1", "");
        check(&inside, "fd12::1", "");
        check(
            &inside,
            "10.9.1.1",
            "`hooks.example` leads to 10.9.1.1, which is in security.outgoing.notifications.deny",
        );
        check(&inside, "::ffff:10.9.1.1", "leads to 10.9.1.1");
        check(&inside, "8.8.8.8", "is not in security.outgoing.notifications.allow");
        assert_eq!(inside.refused(), 3);
        assert_eq!(Reach::default().check("a", "169.254.169.254".parse().unwrap()), Ok(()));
    }

    #[test]
    fn every_way_to_write_an_address_in_a_url_is_understood() {
        let limits = reach(&[], &["127.0.0.0/8", "::1"]);
        let refused = [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1:80/a",
            "http://0177.0.0.1/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[::1]:9090/",
            "http://user@127.1/",
        ];
        for url in refused {
            assert!(limits.check_url(&Url::parse(url).unwrap()).is_err(), "{url}");
        }
        for url in ["http://127.0.0.1.example/", "http://128.0.0.1/", "http://example/"] {
            assert_eq!(limits.check_url(&Url::parse(url).unwrap()), Ok(()), "{url}");
        }
    }

    #[test]
    fn what_runs_follows_a_reload_and_goes_on_counting() {
        let read = |address: &str| {
            let deny = vec![address.parse().unwrap()];
            OutgoingConfig { scrape: ReachConfig { deny, ..ReachConfig::default() }, ..OutgoingConfig::default() }
        };
        let (first, second) = (read("192.0.2.1").reaches(), read("192.0.2.2").reaches());
        let of_a_client = first.scrape.clone();
        let asks = |reach: &Reach, address: &str| reach.check("a", address.parse().unwrap()).is_ok();
        assert!(!asks(&of_a_client, "192.0.2.1"));
        second.follow_on(&first);
        assert_eq!((asks(&of_a_client, "192.0.2.1"), asks(&of_a_client, "192.0.2.2")), (true, false));
        assert!(!asks(&second.scrape, "192.0.2.2"));
        assert_eq!((first.scrape.refused(), second.scrape.refused()), (3, 3));
    }

    #[test]
    fn of_several_addresses_those_that_are_open_are_left() {
        let limits = reach(&["10.0.0.0/8"], &[]);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let kept = limits.filter("a", vec![address("192.0.2.1"), address("10.0.0.1")], |one| one);
        assert_eq!(kept, Ok(vec![address("10.0.0.1")]));
        assert!(limits.filter("a", vec![address("192.0.2.1")], |one| one).unwrap_err().contains("192.0.2.1"));
        assert_eq!(limits.filter("a", Vec::<IpAddr>::new(), |one| one), Ok(Vec::new()));
    }
}
