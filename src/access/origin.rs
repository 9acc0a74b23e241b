//! Whether a browser asks on behalf of a page of another site.

use http::Uri;
use http::header::{self, HeaderMap, HeaderName};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the request comes from a page of another site.
///
/// Browsers tell the relation in `Sec-Fetch-Site`, to sites with TLS and on the same machine; else they tell the page's
/// origin, which must be the host that is asked. What carries neither is no browser.
pub fn is_cross_site(headers: &HeaderMap, uri: &Uri) -> bool {
    match text(headers, FETCH_SITE) {
        Some("same-origin" | "none") => return false,
        Some(_) => return true,
        None => {}
    }
    let Some(origin) = text(headers, header::ORIGIN) else { return false };
    let of_origin = origin.split_once("://").map(|(_, authority)| authority);
    !matches!((of_origin, host(headers, uri)), (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host))
}

/// Whether a browser asks under a name that leads here and is not known to: a page whose own name was made to lead to our
/// address (DNS rebinding) is of the same origin. Addresses, `localhost` and names without a dot cannot be made to.
pub(super) fn is_rebound(headers: &HeaderMap, uri: &Uri, known_host: Option<&str>) -> bool {
    if !headers.contains_key(FETCH_SITE) && !headers.contains_key(header::ORIGIN) {
        return false;
    }
    let Some(host) = host(headers, uri) else { return true };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    let is_ours = name.parse::<std::net::IpAddr>().is_ok()
        || name == "localhost"
        || name.ends_with(".localhost")
        // Nobody can own a name without a dot.
        || !name.contains('.')
        || known_host.is_some_and(|known| known.eq_ignore_ascii_case(&name));
    !is_ours
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    text(headers, header::HOST).or_else(|| uri.authority().map(|authority| authority.as_str()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn tells_other_sites_from_our_own_pages_and_from_programs() {
        let check = |pairs: &[(&'static str, &'static str)], expect: bool| {
            assert_eq!(is_cross_site(&headers(pairs), &Uri::from_static("/-/reload")), expect, "{pairs:?}");
        };
        check(&[("host", "mesh:7070")], false);
        check(&[("host", "mesh:7070"), ("origin", "http://mesh:7070")], false);
        check(&[("host", "mesh"), ("origin", "https://MESH")], false);
        check(&[("host", "mesh:7070"), ("origin", "http://mesh:8080")], true);
        check(&[("host", "mesh:7070"), ("origin", "http://evil.example")], true);
        check(&[("host", "mesh:7070"), ("origin", "null")], true);
        check(&[("host", "mesh:7070"), ("origin", "http://mesh:7070"), ("sec-fetch-site", "cross-site")], true);
        check(&[("host", "mesh:7070"), ("sec-fetch-site", "same-site")], true);
        check(&[("host", "inside"), ("origin", "http://outside"), ("sec-fetch-site", "same-origin")], false);
        check(&[("host", "mesh:7070"), ("sec-fetch-site", "none")], false);
    }

    #[test]
    fn a_name_that_was_made_to_lead_here_is_no_name_of_ours() {
        let check = |host: &'static str, known: Option<&str>, expect: bool| {
            let asked = headers(&[("host", host), ("sec-fetch-site", "same-origin")]);
            assert_eq!(is_rebound(&asked, &Uri::from_static("/"), known), expect, "{host}");
        };
        for host in ["127.0.0.1:7070", "[::1]:7070", "[::1]", "localhost", "LOCALHOST:7070", "a.localhost:1"] {
            check(host, None, false);
        }
        check("meshscope:7070", None, false);
        check("evil.example:7070", None, true);
        check("evil.example", Some("mesh.example"), true);
        check("127.0.0.1.evil.example:7070", None, true);
        check("mesh.example:443", Some("mesh.example"), false);
        check("mesh.example.", Some("mesh.example"), false);
        // Programs are not made to ask by pages.
        assert!(!is_rebound(&headers(&[("host", "evil.example")]), &Uri::from_static("/"), None));
    }
}
