//! A token bucket for each client, in a table that does not grow past its bound.
//!
//! Invariants: at most `clients_max` buckets, and one that all share who come when the table is full; a bucket that is not
//! full is never forgotten, so nobody gains by filling the table.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::config::RateLimitConfig;
use crate::units::plain;

/// How often a full table is looked through for buckets that are full again.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Who has a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Client {
    /// An address; of IPv6 its network of 64 bits, since that is what one customer has.
    Address(IpAddr),
    /// A user that the trusted proxy names.
    User(Arc<str>),
    /// Wrong passwords and tokens from an address.
    Failures(IpAddr),
}

/// The address as clients are told apart.
pub(super) fn of_client(address: IpAddr) -> IpAddr {
    match plain(address) {
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX))),
        four => four,
    }
}

/// The buckets.
#[derive(Debug)]
pub(super) struct Limits {
    config: RateLimitConfig,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    buckets: HashMap<Client, Bucket>,
    /// Of those for whom there was no place.
    others: Bucket,
    swept: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Limits {
    /// `None` when nothing is limited.
    pub(super) fn new(config: &RateLimitConfig) -> Option<Self> {
        let full = Bucket { tokens: f64::from(config.burst), at: Instant::now() };
        let table = Table { buckets: HashMap::new(), others: full, swept: full.at };
        (config.requests_per_second > 0.0).then(|| Self { config: config.clone(), table: Mutex::new(table) })
    }

    /// Whether an address is not limited.
    pub(super) fn exempts(&self, address: IpAddr) -> bool {
        self.config.exempt_networks.iter().any(|network| network.contains(address))
    }

    /// Takes one token.
    ///
    /// # Errors
    /// When there is none: with the time until there is.
    pub(super) fn take(&self, client: Client) -> Result<(), Duration> {
        self.ask(client, Instant::now(), true)
    }

    /// Whether there is a token, which stays.
    ///
    /// # Errors
    /// When there is none: with the time until there is.
    pub(super) fn look(&self, client: Client) -> Result<(), Duration> {
        self.ask(client, Instant::now(), false)
    }

    fn ask(&self, client: Client, now: Instant, takes: bool) -> Result<(), Duration> {
        let RateLimitConfig { requests_per_second: rate, clients_max, .. } = self.config;
        let burst = f64::from(self.config.burst);
        let mut table = self.table.lock();
        if !takes && !table.buckets.contains_key(&client) {
            return Ok(());
        }
        if !table.buckets.contains_key(&client) && table.buckets.len() >= clients_max {
            table.sweep(rate, burst, now);
        }
        let Table { buckets, others, .. } = &mut *table;
        let has_place = buckets.contains_key(&client) || buckets.len() < clients_max;
        let bucket = match has_place {
            true => buckets.entry(client).or_insert(Bucket { tokens: burst, at: now }),
            false => others,
        };
        *bucket = Bucket { tokens: bucket.grown(rate, burst, now), at: now };
        if bucket.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / rate));
        }
        if takes {
            bucket.tokens -= 1.0;
        }
        Ok(())
    }

    /// Clients that have a bucket.
    pub(super) fn clients(&self) -> usize {
        self.table.lock().buckets.len()
    }
}

impl Bucket {
    fn grown(&self, rate: f64, burst: f64, now: Instant) -> f64 {
        (self.tokens + now.saturating_duration_since(self.at).as_secs_f64() * rate).min(burst)
    }
}

impl Table {
    /// Forgets those whose bucket is full: a new one would be the same.
    fn sweep(&mut self, rate: f64, burst: f64, now: Instant) {
        if now.saturating_duration_since(self.swept) < SWEEP_EVERY {
            return;
        }
        self.swept = now;
        self.buckets.retain(|_, bucket| bucket.grown(rate, burst, now) < burst);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn limits(rate: f64, burst: u32, clients_max: usize) -> Limits {
        let config = RateLimitConfig { requests_per_second: rate, burst, clients_max, exempt_networks: Vec::new() };
        Limits::new(&config).unwrap()
    }

    fn client(last: u8) -> Client {
        Client::Address(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn each_client_has_its_burst_and_then_its_rate_and_is_told_how_long_to_wait() {
        let (limits, start) = (limits(2.0, 3, 10), Instant::now());
        let ask = |who: u8, millis: u64| limits.ask(client(who), start + Duration::from_millis(millis), true);
        assert_eq!([ask(1, 0), ask(1, 0), ask(1, 0)], [Ok(()); 3]);
        assert_eq!(ask(1, 0), Err(Duration::from_millis(500)));
        assert_eq!(ask(2, 0), Ok(()), "another client is not touched");
        assert_eq!(ask(1, 400), Err(Duration::from_millis(100)));
        assert_eq!((ask(1, 500), ask(1, 501).is_err()), (Ok(()), true));
        // A long pause gives the burst, not more.
        let after = [(); 4].map(|()| ask(1, 60_000).is_ok());
        assert_eq!(after, [true, true, true, false]);
        // Looking takes nothing.
        assert!(limits.ask(client(1), start + Duration::from_secs(60), false).is_err());
        assert_eq!([(); 9].map(|()| limits.ask(client(9), start, false)), [Ok(()); 9]);
    }

    #[test]
    fn the_table_is_bounded_and_nobody_gains_by_filling_it() {
        let (limits, start) = (limits(1.0, 2, 2), Instant::now());
        let ask = |who: u8, seconds: u64| limits.ask(client(who), start + Duration::from_secs(seconds), true).is_ok();
        assert!(ask(1, 0) && ask(1, 0) && !ask(1, 0) && ask(2, 0));
        // Two have places; all others share one bucket.
        assert!(ask(3, 0) && ask(4, 0) && !ask(5, 0));
        assert!(!ask(1, 0), "who was over the limit stays over it");
        assert_eq!(limits.clients(), 2);
        // Later both are full again and give way.
        assert!(ask(6, 10) && ask(7, 10));
        assert_eq!(limits.clients(), 2);
    }

    #[test]
    fn neighbours_in_a_network_of_64_bits_are_one_client_and_mapped_addresses_are_ipv4() {
        let of = |text: &str| of_client(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
