//! From response code details, flags and failures to one reason of the closed list.
//!
//! Facts: reference/mesh.md §3.2 and §3.6; envoy `envoy/stream_info/stream_info.h` (`ResponseCodeDetailValues`), and the
//! details that its filters write. Pure. Invariant: what is unknown is [`Reason::Other`], never an error.

use crate::model::access_log::Reason;

/// What a record says of its end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct End<'a> {
    pub(super) code: u16,
    pub(super) grpc_status: Option<u16>,
    pub(super) flags: &'a str,
    pub(super) details: &'a str,
    pub(super) termination: &'a str,
    pub(super) transport: &'a str,
}

/// A policy that denied a request, as Istio names its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Denial<'a> {
    pub(super) namespace: &'a str,
    pub(super) policy: &'a str,
    pub(super) rule: Option<u16>,
}

const RBAC: &str = "rbac_access_denied_matched_policy[";

/// Details that stand for one reason, whole or as their beginning.
const BY_DETAILS: &[(&str, Reason)] = &[
    ("filter_chain_not_found", Reason::FilterChainNotFound),
    ("route_not_found", Reason::RouteNotFound),
    ("route_configuration_not_found", Reason::RouteNotFound),
    ("cluster_not_found", Reason::ClusterNotFound),
    ("no_healthy_upstream", Reason::NoHealthyUpstream),
    ("upstream_response_timeout", Reason::RequestTimeout),
    ("response_timeout", Reason::RequestTimeout),
    ("request_overall_timeout", Reason::RequestTimeout),
    ("request_header_timeout", Reason::BadRequest),
    ("upstream_per_try_timeout", Reason::TryTimeout),
    ("upstream_per_try_idle_timeout", Reason::TryTimeout),
    ("stream_idle_timeout", Reason::IdleTimeout),
    ("max_duration_timeout", Reason::DurationTimeout),
    ("upstream_max_stream_duration_reached", Reason::DurationTimeout),
    ("duration_timeout", Reason::DurationTimeout),
    ("fault_filter_abort", Reason::FaultAbort),
    ("ext_authz_denied", Reason::ExtAuthzDenied),
    ("ext_authz_error", Reason::ExtAuthzError),
    ("ext_authz", Reason::ExtAuthzDenied),
    ("jwt_authn_access_denied", Reason::JwtDenied),
    ("request_rate_limited", Reason::RateLimited),
    ("local_rate_limited", Reason::RateLimited),
    ("rate_limiter_error", Reason::RateLimitError),
    ("direct_response", Reason::DirectResponse),
    ("maintenance_mode", Reason::Overload),
    ("overload", Reason::Overload),
    ("reached_concurrency_limit", Reason::Overload),
    ("denied_by_admission_control", Reason::Overload),
    ("request_payload_too_large", Reason::TooLarge),
    ("request_headers_too_large", Reason::TooLarge),
    ("response_payload_too_large", Reason::TooLarge),
    ("http1.headers_too_large", Reason::TooLarge),
    ("http2.too_many_headers", Reason::TooLarge),
    ("downstream_remote_disconnect", Reason::CallerGone),
    ("downstream_local_disconnect", Reason::LocalReset),
    ("http2.remote_reset", Reason::CallerGone),
    ("http3.remote_reset", Reason::CallerGone),
    ("http1.", Reason::BadRequest),
    ("http2.", Reason::BadRequest),
    ("http3.", Reason::BadRequest),
    ("low_version", Reason::BadRequest),
    ("missing_host_header", Reason::BadRequest),
    ("missing_path_rejected", Reason::BadRequest),
    ("absolute_path_rejected", Reason::BadRequest),
    ("path_normalization_failed", Reason::BadRequest),
    ("upgrade_failed", Reason::BadRequest),
    ("invalid_", Reason::BadRequest),
    ("dns_resolution_failure", Reason::DnsFailure),
    ("dns_cache_pending_requests_overflow", Reason::Overflow),
    ("upstream_reset_before_response_started", Reason::UpstreamReset),
    ("upstream_reset_after_response_started", Reason::UpstreamReset),
];

/// What is in the braces of `upstream_reset_before_response_started{…}`, as `http/codec_helper` names resets; it changed
/// from words with blanks to words with underscores.
const BY_RESET: &[(&str, Reason)] = &[
    ("overflow", Reason::Overflow),
    ("connection_timeout", Reason::ConnectTimeout),
    ("connection_failure", Reason::ConnectFailed),
    ("remote_connection_failure", Reason::ConnectFailed),
    ("local_connection_failure", Reason::ConnectFailed),
    ("protocol_error", Reason::UpstreamProtocol),
    ("connection_termination", Reason::UpstreamReset),
    ("remote_reset", Reason::UpstreamReset),
    ("remote_refused_stream_reset", Reason::UpstreamReset),
    ("local_reset", Reason::LocalReset),
];

/// One flag, one reason; the first in this order that a record has counts.
const BY_FLAG: &[(&str, Reason)] = &[
    ("UAEX", Reason::ExtAuthzDenied),
    ("RL", Reason::RateLimited),
    ("RLSE", Reason::RateLimitError),
    ("FI", Reason::FaultAbort),
    ("NR", Reason::RouteNotFound),
    ("NC", Reason::ClusterNotFound),
    ("UH", Reason::NoHealthyUpstream),
    ("UO", Reason::Overflow),
    ("UT", Reason::RequestTimeout),
    ("DF", Reason::DnsFailure),
    ("OM", Reason::Overload),
    ("DO", Reason::Overload),
    ("UPE", Reason::UpstreamProtocol),
    ("DPE", Reason::BadRequest),
    ("IH", Reason::BadRequest),
    ("SI", Reason::IdleTimeout),
    ("DT", Reason::DurationTimeout),
    ("UMSDR", Reason::DurationTimeout),
    ("NFCF", Reason::FilterConfig),
    ("RFCF", Reason::FilterConfig),
    ("URX", Reason::RetriesUsedUp),
    ("UF", Reason::ConnectFailed),
    ("UC", Reason::UpstreamReset),
    ("UR", Reason::UpstreamReset),
    ("LR", Reason::LocalReset),
    ("LH", Reason::NoHealthyUpstream),
    ("DC", Reason::CallerGone),
    ("DI", Reason::FaultDelay),
];

/// The policy that denied, when a policy did.
pub(super) fn denial<'a>(end: &End<'a>) -> Option<Denial<'a>> {
    let inside = rbac(end)?;
    let (namespace, rest) = inside.strip_prefix("ns[")?.split_once("]-policy[")?;
    let (policy, rest) = rest.split_once(']')?;
    let rule = rest.strip_prefix("-rule[").and_then(|rest| rest.split(']').next()).and_then(|rule| rule.parse().ok());
    Some(Denial { namespace, policy, rule })
}

/// What is behind the bracket; of a connection (network RBAC) it stands in the termination details.
fn rbac<'a>(end: &End<'a>) -> Option<&'a str> {
    [end.details, end.termination].into_iter().find_map(|text| text.strip_prefix(RBAC))
}

/// What became of a request.
pub(super) fn reason(end: &End<'_>) -> Reason {
    let End { code, grpc_status, flags, details, termination, transport } = *end;
    if let Some(inside) = rbac(end) {
        return if inside.starts_with("none") { Reason::RbacNotAllowed } else { Reason::RbacDenied };
    }
    let has = |wanted: &str| flags.split(',').any(|flag| flag.trim() == wanted);
    let reset = details.split_once('{').map_or("", |(_, inside)| inside);
    // The failure of the transport says more than the flags that follow from it. It stays on the record of a request that
    // a retry saved, and says nothing then.
    let failure = [transport, reset].into_iter().find_map(transport_reason);
    if let Some(failure) = failure.filter(|_| !details.starts_with("via_upstream")) {
        return failure;
    }
    if details.starts_with("via_upstream") {
        return match code {
            _ if has("URX") => Reason::RetriesUsedUp,
            500.. => Reason::Upstream5xx,
            400.. => Reason::Upstream4xx,
            _ if grpc_status.is_some_and(|status| status != 0) => Reason::GrpcError,
            _ if has("DI") => Reason::FaultDelay,
            _ => Reason::Answered,
        };
    }
    let by = |table: &[(&str, Reason)], text: &str| {
        table.iter().find(|(start, _)| !text.is_empty() && text.starts_with(start)).map(|(_, reason)| *reason)
    };
    if details.starts_with("upstream_reset")
        && let Some(reason) = by(BY_RESET, reset)
    {
        return reason;
    }
    let by_flag = || BY_FLAG.iter().find(|(flag, _)| has(flag)).map(|(_, reason)| *reason);
    if let Some(reason) = by(BY_DETAILS, details).or_else(|| by(BY_DETAILS, termination)).or_else(by_flag) {
        return reason;
    }
    match code {
        0 => Reason::Closed,
        // No details at all: a format without them. The code alone cannot tell who answered.
        _ if details.is_empty() && code >= 500 => Reason::Upstream5xx,
        _ if details.is_empty() && code >= 400 => Reason::Upstream4xx,
        _ if details.is_empty() => Reason::Answered,
        _ => Reason::Other,
    }
}

/// What a failed connection failed with (`upstream_transport_failure_reason`).
fn transport_reason(text: &str) -> Option<Reason> {
    let holds = |part: &str| {
        let (text, part) = (text.as_bytes(), part.as_bytes());
        text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
    };
    match () {
        () if text.is_empty() => None,
        () if holds("certificate_verify_failed") || holds("certificate verify failed") || holds("verify cert") => {
            Some(Reason::TlsCertificate)
        }
        () if holds("TLS_error") || holds("TLS error") || holds("SSL routines") || holds("ssl_routines") => {
            Some(Reason::TlsHandshake)
        }
        // 111 is ECONNREFUSED on Linux.
        () if holds("connection refused") || holds("connection_refused") || ends_with_111(text) => {
            Some(Reason::ConnectRefused)
        }
        () => None,
    }
}

fn ends_with_111(text: &str) -> bool {
    let text = text.trim_end_matches('}');
    text.strip_suffix("111").is_some_and(|rest| rest.ends_with("connect_error:_") || rest.ends_with("connect error: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: u16, flags: &str, details: &str, reason: Reason) {
        let end = End { code, flags, details, ..End::default() };
        assert_eq!(super::reason(&end), reason, "{end:?}");
    }

    #[test]
    fn details_become_reasons() {
        check(200, "", "via_upstream", Reason::Answered);
        check(503, "", "via_upstream", Reason::Upstream5xx);
        check(404, "", "via_upstream", Reason::Upstream4xx);
        check(503, "URX", "via_upstream", Reason::RetriesUsedUp);
        check(200, "DI", "via_upstream", Reason::FaultDelay);
        check(403, "", "rbac_access_denied_matched_policy[none]", Reason::RbacNotAllowed);
        check(403, "", "rbac_access_denied_matched_policy[ns[a]-policy[b]-rule[0]]", Reason::RbacDenied);
        check(0, "NR", "filter_chain_not_found", Reason::FilterChainNotFound);
        check(404, "NR", "route_not_found", Reason::RouteNotFound);
        check(503, "NC", "cluster_not_found", Reason::ClusterNotFound);
        check(503, "UH", "no_healthy_upstream", Reason::NoHealthyUpstream);
        check(503, "UO", "upstream_reset_before_response_started{overflow}", Reason::Overflow);
        check(504, "UT", "upstream_response_timeout", Reason::RequestTimeout);
        check(504, "UT", "response_timeout", Reason::RequestTimeout);
        check(504, "UT", "upstream_per_try_timeout", Reason::TryTimeout);
        check(500, "FI", "fault_filter_abort", Reason::FaultAbort);
        check(403, "UAEX", "ext_authz_denied", Reason::ExtAuthzDenied);
        check(401, "", "jwt_authn_access_denied{Jwt_is_missing}", Reason::JwtDenied);
        check(301, "", "direct_response", Reason::DirectResponse);
        check(429, "", "local_rate_limited", Reason::RateLimited);
        check(0, "DC", "downstream_remote_disconnect", Reason::CallerGone);
        check(503, "UF", "upstream_reset_before_response_started{connection_timeout}", Reason::ConnectTimeout);
        check(503, "UC", "upstream_reset_before_response_started{connection_termination}", Reason::UpstreamReset);
        check(
            503,
            "UF,URX",
            "upstream_reset_before_response_started{remote_connection_failure}",
            Reason::ConnectFailed,
        );
        check(418, "", "my_filter_says_so", Reason::Other);
        check(400, "DPE", "http1.codec_error", Reason::BadRequest);
    }

    #[test]
    fn without_details_flags_and_then_the_code_tell() {
        check(503, "UF,URX", "", Reason::RetriesUsedUp);
        check(503, "UH", "", Reason::NoHealthyUpstream);
        check(0, "", "", Reason::Closed);
        check(200, "", "", Reason::Answered);
        check(500, "", "", Reason::Upstream5xx);
        check(404, "ZZ", "", Reason::Upstream4xx);
    }

    #[test]
    fn a_failed_handshake_tells_more_than_its_flags() {
        let verify = "TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end";
        for (details, transport, reason) in [
            ("", verify, Reason::TlsCertificate),
            (
                "upstream_reset_before_response_started{remote_connection_failure,TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end}",
                "",
                Reason::TlsCertificate,
            ),
            (
                "",
                "TLS error: 268436501:SSL routines:OPENSSL_internal:SSLV3_ALERT_CERTIFICATE_EXPIRED",
                Reason::TlsHandshake,
            ),
            ("", "delayed connect error: 111", Reason::ConnectRefused),
            (
                "upstream_reset_before_response_started{remote_connection_failure,delayed_connect_error:_111}",
                "",
                Reason::ConnectRefused,
            ),
            (
                "upstream_reset_before_response_started{remote_connection_failure,delayed_connect_error:_Connection_refused}",
                "",
                Reason::ConnectRefused,
            ),
            ("via_upstream", verify, Reason::Answered),
        ] {
            let code = if details == "via_upstream" { 200 } else { 503 };
            let end = End { code, flags: "UF", details, transport, ..End::default() };
            assert_eq!(super::reason(&end), reason, "{details} {transport}");
        }
    }

    #[test]
    fn names_the_policy_and_the_rule_that_denied() {
        let of = |details| denial(&End { code: 403, details, ..End::default() });
        assert_eq!(
            of("rbac_access_denied_matched_policy[ns[shop]-policy[deny-all]-rule[3]]"),
            Some(Denial { namespace: "shop", policy: "deny-all", rule: Some(3) })
        );
        assert_eq!(of("rbac_access_denied_matched_policy[none]"), None);
        assert_eq!(of("rbac_access_denied_matched_policy[ns[shop]"), None);
        let termination = "rbac_access_denied_matched_policy[ns[a]-policy[b]-rule[0]]";
        let tcp = End { termination, ..End::default() };
        assert_eq!((reason(&tcp), denial(&tcp).map(|d| d.policy)), (Reason::RbacDenied, Some("b")));
    }

    #[test]
    fn every_flag_with_words_has_a_reason_of_its_own_where_it_is_envoys() {
        for flag in ["UH", "UF", "UT", "NR", "NC", "UO", "URX", "DC", "UC", "UAEX", "RL", "DI", "FI", "LR", "UR", "SI"]
        {
            check_flag(flag);
        }
    }

    fn check_flag(flag: &str) {
        let end = End { code: 503, flags: flag, ..End::default() };
        assert!(!matches!(super::reason(&end), Reason::Other | Reason::Upstream5xx), "{flag}");
    }
}
