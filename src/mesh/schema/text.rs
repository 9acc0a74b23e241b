//! Rules for texts: names, hosts, addresses, durations, URLs, patterns. Each gives the complaint, if it has one.

use std::net::IpAddr;
use std::time::Duration;

use crate::model::GRPC_STATUSES;

/// Longest name that DNS takes, in bytes.
const HOST_BYTES_MAX: usize = 255;
/// Longest label of such a name.
const LABEL_BYTES_MAX: usize = 63;

fn said(wrong: bool, message: &str) -> Option<String> {
    wrong.then(|| message.to_owned())
}

pub(super) fn any(_: &str) -> Option<String> {
    None
}

pub(super) fn filled(text: &str) -> Option<String> {
    said(text.is_empty(), "must be at least 1 chars long")
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !text.is_empty()
        && text.len() <= LABEL_BYTES_MAX
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_dns(text: &str) -> bool {
    text.len() <= HOST_BYTES_MAX && text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
}

/// `metadata.name`: lower case; names of RBAC and of objects made by controllers may hold more.
pub(super) fn object_name(text: &str) -> Option<String> {
    let fits = |byte: u8| !byte.is_ascii_uppercase() && (byte.is_ascii_graphic() && byte != b'/' && byte != b'%');
    said(
        text.is_empty() || text.len() > 253 || !text.bytes().all(fits),
        "must be a name in lower case of at most 253 characters, without spaces or slashes",
    )
}

/// A qualified name: an optional DNS prefix, a slash, and 63 letters, digits, `-`, `_`, `.`.
pub(super) fn label_key(text: &str) -> Option<String> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let wrong = prefix.is_some_and(|prefix| !is_dns(prefix)) || name.is_empty() || label_value(name).is_some();
    said(wrong, "is no label key (an optional DNS prefix and a slash, then at most 63 letters, digits, '-', '_', '.')")
}

pub(super) fn label_value(text: &str) -> Option<String> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let edge = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    let fits = text.len() <= LABEL_BYTES_MAX && text.bytes().all(inner);
    let fits = fits && edge(text.bytes().next()) && edge(text.bytes().last());
    said(!fits, "must have at most 63 letters, digits, '-', '_', '.', and begin and end with a letter or digit")
}

/// The value of a selector: a star there stands for itself, so it selects nothing.
pub(super) fn selector_value(text: &str) -> Option<String> {
    said(text.contains('*'), "wildcard is not supported in selector: no workload has this label value")
}

pub(super) fn selector_key(text: &str) -> Option<String> {
    said(text.contains('*'), "wildcard is not supported in selector").or_else(|| filled(text))
}

/// A host, short or full, without a star.
pub(super) fn host(text: &str) -> Option<String> {
    said(!is_dns(text), "is no host name (letters, digits and '-' between dots)")
}

/// A host, `*`, `*.host`, or an address.
pub(super) fn wildcard_host(text: &str) -> Option<String> {
    let rest = text.strip_prefix("*.").unwrap_or(text);
    let fits = text == "*" || rest.parse::<IpAddr>().is_ok() || is_dns(rest) || is_dns(rest.trim_start_matches("*-"));
    said(!fits, "is neither a host name nor one that begins with \"*.\"")
}

/// A host of a ServiceEntry: a lone star would take every name there is.
pub(super) fn entry_host(text: &str) -> Option<String> {
    said(text == "*", "hostname cannot be wildcard: it would take every name there is").or_else(|| wildcard_host(text))
}

/// `host` or `namespace/host`; the namespace may be `.`, `*` or (of a Sidecar) `~`.
pub(super) fn scoped_host(text: &str) -> Option<String> {
    let (namespace, host) = text.split_once('/').unwrap_or((".", text));
    let fits = matches!(namespace, "." | "*" | "~") || is_label(namespace);
    said(!fits, "does not name a namespace before the slash (a name, \".\" or \"*\")").or_else(|| wildcard_host(host))
}

/// `namespace/host`, both needed.
pub(super) fn sidecar_host(text: &str) -> Option<String> {
    said(!text.contains('/'), "must be of the form namespace/host").or_else(|| scoped_host(text))
}

pub(super) fn export_to(text: &str) -> Option<String> {
    said(
        !(matches!(text, "." | "*" | "~") || is_label(text)),
        "is neither the name of a namespace nor \".\", \"*\" or \"~\"",
    )
}

/// An address or a range, `10.0.0.0/8`.
pub(super) fn address_or_range(text: &str) -> Option<String> {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let fits = match (address.parse::<IpAddr>(), length.map(str::parse::<u8>)) {
        (Ok(_), None) => true,
        (Ok(IpAddr::V4(_)), Some(Ok(length))) => length <= 32,
        (Ok(IpAddr::V6(_)), Some(Ok(length))) => length <= 128,
        _ => false,
    };
    said(!fits, "is no IP address or range of them (10.1.2.3, 10.0.0.0/8)")
}

/// The address of a workload: IP, host, or a Unix socket that is no folder.
pub(super) fn workload_address(text: &str) -> Option<String> {
    match text.strip_prefix("unix://") {
        Some(path) if path.ends_with('/') => Some("UDS may not be a dir: name the socket".to_owned()),
        Some(path) => said(
            !path.starts_with(['/', '@']),
            "must be an absolute path of a Unix socket, or \"@\" and an abstract name",
        ),
        None => said(text.parse::<IpAddr>().is_err() && !is_dns(text), "is neither an IP address nor a host name"),
    }
}

pub(super) fn port_name(text: &str) -> Option<String> {
    said(!is_label(text), "must be a name of letters, digits and '-'")
}

pub(super) fn port_key(text: &str) -> Option<String> {
    let number = text.parse::<u32>().unwrap_or(0);
    said(!(1..=65535).contains(&number), "is no port: port must be between 1-65535")
}

pub(super) fn port_text(text: &str) -> Option<String> {
    port_key(text)
}

pub(super) fn header_name(text: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    said(text.is_empty() || !text.bytes().all(fits), "is no name of an HTTP header")
}

/// Headers that claims are copied to: letters, digits, `-` and `_` only.
pub(super) fn plain_header(text: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    said(text.is_empty() || !text.bytes().all(fits), "should match '^[-_A-Za-z0-9]+$': it is no name of an HTTP header")
}

/// A pattern as RE2 reads it, which Envoy uses.
pub(super) fn pattern(text: &str) -> Option<String> {
    let why = regex::Regex::new(text).err()?.to_string();
    let why = why.lines().next_back().unwrap_or_default().trim_start_matches("error: ");
    Some(format!("is no regular expression that Envoy can read: {why}"))
}

pub(super) fn http_url(text: &str) -> Option<String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        None => Some("url must have scheme http:// or https://".to_owned()),
        Some(rest) => said(rest.is_empty() || rest.starts_with('/') || rest.contains(' '), "names no host"),
    }
}

pub(super) fn wasm_url(text: &str) -> Option<String> {
    let known = ["http", "https", "oci", "file"];
    match text.split_once("://") {
        Some((scheme, _)) if known.contains(&scheme) => None,
        None if !text.is_empty() && !text.contains(['%', ' ', '#']) => None,
        _ => Some("url must have schema one of http, https, file, oci".to_owned()),
    }
}

pub(super) fn sha256(text: &str) -> Option<String> {
    let fits = text.is_empty() || (text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    said(!fits, "should match '(^$|^[a-f0-9]{64}$)': it is no SHA-256 in hex")
}

/// The API group of a target.
pub(super) fn group(text: &str) -> Option<String> {
    said(
        !text.is_empty() && !text.split('.').all(|part| is_label(part) && !part.contains('_')),
        "should match the form of an API group (gateway.networking.k8s.io)",
    )
}

/// A protocol of a port, as istiod knows them, whatever their case.
pub(super) fn protocol(text: &str) -> Option<String> {
    const KNOWN: &[&str] = &[
        "",
        "HTTP",
        "HTTPS",
        "GRPC",
        "HTTP2",
        "MONGO",
        "TCP",
        "TLS",
        "UDP",
        "GRPC-WEB",
        "MYSQL",
        "REDIS",
        "HBONE",
        "HTTP_PROXY",
        "DOUBLEHBONE",
        "HTTP-PROXY",
    ];
    said(
        !KNOWN.contains(&text.to_uppercase().as_str()),
        "is no protocol that istiod knows (HTTP, HTTPS, HTTP2, GRPC, TCP, TLS, MONGO, MYSQL, REDIS)",
    )
}

/// A condition of an authorization policy (`security.ValidateAttribute`).
pub(super) fn condition_key(text: &str) -> Option<String> {
    const PLAIN: &[&str] = &[
        "source.ip",
        "remote.ip",
        "source.namespace",
        "source.principal",
        "source.serviceAccount",
        "source.trustDomain",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "destination.ip",
        "destination.port",
        "connection.sni",
    ];
    let keyed = |prefix: &str| {
        text.strip_prefix(prefix).is_some_and(|rest| rest.len() > 2 && rest.starts_with('[') && rest.ends_with(']'))
    };
    let fits = PLAIN.contains(&text)
        || keyed("request.headers")
        || keyed("request.auth.claims")
        || text.starts_with("experimental.envoy.filters.");
    said(
        !fits,
        "is no attribute that a condition can ask for (source.ip, request.headers[name], request.auth.claims[name], …)",
    )
}

/// A Go duration (`1h30m`, `0.5s`) of at least `least_ms`; the complaint.
pub(super) fn duration(text: &str, least_ms: u64) -> Option<String> {
    match go_duration(text) {
        None => Some(format!("must be a duration such as \"5s\" or \"1h30m\", not {text:?}")),
        Some(length) if length < Duration::from_millis(least_ms) => {
            Some(format!("must be greater than or equal to {least_ms}ms, not {text:?}"))
        }
        Some(_) => None,
    }
}

/// Reads Go's durations, those below zero left out.
pub(super) fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).filter(|at| *at > 0)?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = after;
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

/// Names of headers that may be set: also `:authority` and the like.
pub(super) fn header_or_pseudo(text: &str) -> Option<String> {
    header_name(text.strip_prefix(':').unwrap_or(text))
}

pub(super) fn method_or_star(text: &str) -> Option<String> {
    said(!(text == "*" || METHODS.contains(&text)), "is no HTTP method (in upper case)")
}

/// Methods that HTTP knows.
pub(super) const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// The policies of Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`, and status codes.
pub(super) fn retry_on(text: &str) -> Option<String> {
    const KNOWN: &[&str] = &[
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "envoy-ratelimited",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    ];
    let wrong =
        |word: &&str| !(KNOWN.contains(word) || word.parse::<u16>().is_ok_and(|status| (100..600).contains(&status)));
    let word = text.split(',').map(str::trim).filter(|word| !word.is_empty()).find(wrong)?;
    Some(format!("{word:?} is neither a retry policy of Envoy nor a status"))
}

/// Names and numbers of gRPC statuses.
pub(super) fn grpc_status(text: &str) -> Option<String> {
    let number = text.parse::<u8>().is_ok_and(|number| number <= 16);
    said(!number && !GRPC_STATUSES.contains(&text), "is no gRPC status (UNAVAILABLE, NOT_FOUND, …)")
}

/// An address or range of a ServiceEntry. Leading zeros of a group, which a cluster lets pass, are taken.
pub(super) fn loose_address(text: &str) -> Option<String> {
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    let long = |group: &str| group.len() == 4 && group.starts_with('0') || group.len() <= 4;
    if address.contains(':') && address.split(':').all(long) {
        let bare: Vec<&str> = address
            .split(':')
            .map(|group| if group.len() > 1 { group.trim_start_matches('0') } else { group })
            .collect();
        let bare = bare.join(":");
        let written = if length.is_empty() { bare } else { format!("{bare}/{length}") };
        return address_or_range(&written);
    }
    address_or_range(text)
}

/// As [`selector_value`], in the words of the newer kinds.
pub(super) fn match_label_value(text: &str) -> Option<String> {
    said(text.contains('*'), "wildcard not allowed in label value match: no workload has this label value")
}

/// A key set, inline.
pub(super) fn jwks(text: &str) -> Option<String> {
    let read = serde_json::from_str::<serde_json::Value>(text);
    let keys = read
        .is_ok_and(|value| value.get("keys").is_some_and(serde_json::Value::is_array) || value.get("kty").is_some());
    said(!text.is_empty() && !keys, "is no JSON Web Key Set")
}

/// A path of a policy: a prefix, a suffix, or a template with `{*}` and `{**}`.
pub(super) fn policy_path(text: &str) -> Option<String> {
    if text.is_empty() {
        return filled(text);
    }
    if !text.contains(['{', '}']) {
        return None;
    }
    let parts: Vec<&str> = text.split('/').collect();
    let wrong = |part: &&str| part.contains(['{', '}', '*']) && !matches!(*part, "{*}" | "{**}");
    let rests = parts.iter().filter(|part| **part == "{**}").count();
    said(
        rests > 1 || parts.iter().any(wrong),
        "is no path template: between slashes stand a name, {*} or (once) {**}, and no other star",
    )
}

/// A host of a route: no address, and a star only as the first label.
pub(super) fn route_host(text: &str) -> Option<String> {
    let rest = text.strip_prefix("*.").unwrap_or(text);
    said(!is_dns(rest) || rest.parse::<IpAddr>().is_ok(), "is no host name (an address and a lone \"*\" are not taken)")
}

pub(super) fn slashed(text: &str) -> Option<String> {
    said(!text.starts_with('/') && !text.starts_with(['^', '.', '(', '[']), "must begin with a slash")
}
