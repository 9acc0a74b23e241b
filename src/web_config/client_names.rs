//! The subject alternative names of a client's certificate (RFC 5280, 4.2.1.6): DNS names, addresses, mail addresses, URIs.
//!
//! In: DER. Out: texts as Go's `crypto/x509` writes them. Invariant: bytes that are no certificate give no names; nothing
//! is read past an element's length.

use std::net::{Ipv4Addr, Ipv6Addr};

/// `2.5.29.17`, the extension's identifier.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// `[3] EXPLICIT Extensions` of a `TBSCertificate`.
const EXTENSIONS: u8 = 0xa3;
const MAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const ADDRESS: u8 = 0x87;

/// All names of a certificate; none when it is not one.
pub(super) fn of(certificate: &[u8]) -> Vec<String> {
    extension(certificate).map(names).unwrap_or_default()
}

/// The names that the extension lists.
fn extension(certificate: &[u8]) -> Option<&[u8]> {
    let certificate = only(certificate, SEQUENCE)?;
    let (_, to_be_signed, _) = element(certificate)?;
    let extensions = elements(to_be_signed).find(|(tag, _)| *tag == EXTENSIONS)?.1;
    let is_names = |content: &[u8]| elements(content).next() == Some((OBJECT_IDENTIFIER, SUBJECT_ALT_NAME));
    let found = elements(only(extensions, SEQUENCE)?).find(|(_, content)| is_names(content))?.1;
    let value = elements(found).find(|(tag, _)| *tag == OCTET_STRING)?.1;
    only(value, SEQUENCE)
}

fn names(list: &[u8]) -> Vec<String> {
    elements(list).filter_map(|(tag, content)| name(tag, content)).collect()
}

fn name(tag: u8, content: &[u8]) -> Option<String> {
    match tag {
        MAIL | DNS | URI => std::str::from_utf8(content).ok().filter(|text| text.is_ascii()).map(str::to_owned),
        ADDRESS => match content.len() {
            4 => <[u8; 4]>::try_from(content).ok().map(|bytes| Ipv4Addr::from(bytes).to_string()),
            16 => <[u8; 16]>::try_from(content).ok().map(|bytes| Ipv6Addr::from(bytes).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// The content of the one element with this tag that stands first.
fn only(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    element(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, _)| content)
}

fn elements(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, content, after) = element(rest)?;
        rest = after;
        Some((tag, content))
    })
}

/// Tag, content, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn certificate() -> Vec<u8> {
        use rcgen::{CertificateParams, KeyPair, SanType};
        let mut params = CertificateParams::new(vec!["ci.example".to_owned()]).expect("a name");
        params.subject_alt_names.push(SanType::IpAddress("10.1.2.3".parse().expect("an address")));
        params.subject_alt_names.push(SanType::IpAddress("fd00::1".parse().expect("an address")));
        params.subject_alt_names.push(SanType::Rfc822Name("a@b.example".try_into().expect("ascii")));
        params.subject_alt_names.push(SanType::URI("spiffe://mesh/ns/a/sa/b".try_into().expect("ascii")));
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn all_kinds_of_names_are_read() {
        let expect = ["ci.example", "10.1.2.3", "fd00::1", "a@b.example", "spiffe://mesh/ns/a/sa/b"];
        assert_eq!(of(&certificate()), expect);
    }

    #[test]
    fn what_is_no_certificate_has_no_names() {
        let whole = certificate();
        for length in 0..whole.len() {
            let _ = of(&whole[..length]);
        }
        assert!(of(b"").is_empty() && of(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]).is_empty());
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = of(&bytes);
        }
    }
}
