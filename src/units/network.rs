//! Networks as configuration writes them: an address, or an address and the length of its prefix (CIDR, RFC 4632).
//!
//! Invariant: an IPv6 address that stands for an IPv4 address is compared as that IPv4 address, so that no other way of
//! writing an address leads around a list.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// A network: `10.0.0.0/8`, `fd00::/8`, `192.0.2.7` (which is `192.0.2.7/32`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// Why a network could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid network: {text:?} ({reason})")]
pub struct NetworkError {
    text: String,
    reason: String,
}

impl Network {
    /// Whether the address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, plain(address)) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.prefix_bits);
                own.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.prefix_bits);
                own.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }

    /// Whether it is one address.
    pub fn is_one_address(&self) -> bool {
        self.prefix_bits == if self.address.is_ipv4() { 32 } else { 128 }
    }
}

/// The IPv4 address that an IPv6 address stands for, if it does: mapped (`::ffff:a.b.c.d`, RFC 4291), compatible
/// (`::a.b.c.d`), translated (`64:ff9b::a.b.c.d`, RFC 6052), 6to4 (`2002:…`, RFC 3056).
pub fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    let bits = six.to_bits();
    let [a, b, ..] = six.segments();
    // `::` and `::1` are addresses of their own.
    let is_compatible = bits >> 32 == 0 && bits > 1;
    let last = Ipv4Addr::from_bits((bits & u128::from(u32::MAX)) as u32);
    match six.to_ipv4_mapped() {
        Some(four) => IpAddr::V4(four),
        None if is_compatible => IpAddr::V4(last),
        None if bits >> 32 == Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0).to_bits() >> 32 => IpAddr::V4(last),
        None if a == 0x2002 => IpAddr::V4(Ipv4Addr::from_bits((u32::from(b) << 16) | u32::from(six.segments()[2]))),
        None => address,
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = |reason: &str| NetworkError { text: text.to_owned(), reason: reason.to_owned() };
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr =
            address.trim().parse().map_err(|_| wrong("write it like `10.0.0.0/8`, `fd00::/8` or `192.0.2.7`"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let is_digits = |bits: &str| !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
        let prefix_bits = match prefix.map(str::trim) {
            None => most,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|number| *number <= most && is_digits(bits))
                .ok_or_else(|| wrong(&format!("the length of the prefix is a number up to {most}")))?,
        };
        // An IPv4 address in the clothes of IPv6 never comes up, because addresses are compared plainly.
        match plain(address) {
            IpAddr::V4(_) if address.is_ipv6() && prefix_bits >= 96 => {
                Ok(Self { address: plain(address), prefix_bits: prefix_bits - 96 })
            }
            _ => Ok(Self { address, prefix_bits }),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_one_address() {
            true => write!(f, "{}", self.address),
            false => write!(f, "{}/{}", self.address, self.prefix_bits),
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_address_is_found_in_its_networks_however_it_is_written() {
        let check = |network: &str, address: &str, expect: bool| {
            let found = network.parse::<Network>().unwrap().contains(address.parse().unwrap());
            assert_eq!(found, expect, "{address} in {network}");
        };
        check("10.0.0.0/8", "10.255.1.2", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("10.1.2.3/8", "10.9.9.9", true); // the host's bits do not count
        check("0.0.0.0/0", "203.0.113.9", true);
        check("::/0", "2001:db8::1", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("192.0.2.7", "192.0.2.7", true);
        check("192.0.2.7", "192.0.2.8", false);
        check("fd00::/8", "fdff::1", true);
        check("fe80::/10", "fec0::1", false);
        // Other ways to write an IPv4 address.
        check("169.254.169.254", "::ffff:169.254.169.254", true);
        check("169.254.169.254", "::169.254.169.254", true);
        check("169.254.169.254", "64:ff9b::a9fe:a9fe", true);
        check("169.254.169.254", "2002:a9fe:a9fe::1", true);
        check("::ffff:10.0.0.0/104", "10.4.4.4", true);
        check("::1", "::1", true);
        check("0.0.0.0/8", "::1", false);
    }

    #[test]
    fn what_is_no_network_is_refused_with_the_reason() {
        for text in ["", "ten", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8"] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.starts_with("not a valid network: ") && error.contains(&format!("{text:?}")), "{error}");
        }
        assert_eq!("10.0.0.0/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
        assert_eq!("fd00::1/128".parse::<Network>().unwrap().to_string(), "fd00::1");
    }
}
