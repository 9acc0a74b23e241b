//! Response flags in words, and what an outcome amounts to.
//!
//! Facts: reference/mesh.md §3.2 (envoy `stream_info/utility.h`, ztunnel `metrics.rs`), §3.10 (Linkerd).

use crate::model::workload::Outcome;

/// One flag and what to say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// As the proxy writes it.
    pub flag: &'static str,
    /// What happened, for people.
    pub words: &'static str,
    /// The caller's proxy answered by itself: the request never reached the called workload.
    pub never_sent: bool,
}

const fn flag(flag: &'static str, words: &'static str) -> Flag {
    Flag { flag, words, never_sent: false }
}

const fn never_sent(flag: &'static str, words: &'static str) -> Flag {
    Flag { flag, words, never_sent: true }
}

/// All flags with words for them.
pub const FLAGS: &[Flag] = &[
    flag("DC", "caller hung up"),
    never_sent("UH", "no healthy upstream (all ejected?)"),
    flag("UT", "upstream request timeout"),
    never_sent("UF", "upstream connect failure (mTLS mismatch, refused)"),
    flag("UC", "upstream closed connection"),
    never_sent("UO", "overflow: circuit breaker limit"),
    flag("URX", "retry/TCP connect attempts used up"),
    never_sent("NR", "no route (wrong host/port, STRICT reject)"),
    never_sent("NC", "cluster not found (subset missing)"),
    flag("DI", "injected delay"),
    never_sent("FI", "injected abort"),
    never_sent("RL", "rate limited"),
    never_sent("RLSE", "limiter error"),
    never_sent("UAEX", "ext-authz denied"),
    flag("LH", "local health fail"),
    flag("LR", "local reset"),
    flag("UR", "remote reset"),
    flag("SI", "stream idle timeout"),
    never_sent("IH", "invalid header"),
    flag("DPE", "downstream protocol error"),
    flag("UPE", "upstream protocol error"),
    flag("UMSDR", "max stream duration"),
    flag("DT", "duration timeout"),
    never_sent("RFCF", "filter config missing"),
    never_sent("NFCF", "filter config missing"),
    never_sent("OM", "overload"),
    never_sent("DF", "DNS fail"),
    never_sent("DO", "drop overload"),
    never_sent("DENY", "denied by policy"),
    never_sent("CONNECT", "connect failure"),
    never_sent("TLS_FAILURE", "TLS failure"),
    never_sent("H2_HANDSHAKE_FAILURE", "HTTP/2 handshake failure"),
    never_sent("NETWORK_POLICY", "connect failure, perhaps a NetworkPolicy blocks HBONE port 15008"),
    never_sent("IDENTITY_ERROR", "no certificate for the identity"),
    never_sent("CERT_REVOKED", "certificate revoked"),
    flag("failure", "failure by the service's own classification"),
    flag("success", "success by the service's own classification"),
];

/// The flags of a comma-joined text, `-` and empty ones left out.
pub fn split(flags: &str) -> impl Iterator<Item = &str> {
    flags.split(',').map(str::trim).filter(|flag| !flag.is_empty() && *flag != "-")
}

/// The flags in words; those without words as they are. `None` when there is no flag.
pub fn words(flags: &str) -> Option<String> {
    let words: Vec<&str> = split(flags)
        .map(|flag| FLAGS.iter().find(|known| known.flag == flag).map_or(flag, |known| known.words))
        .collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// What an outcome amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Answered.
    Success,
    /// 4xx, or a caller that hung up: the caller's doing.
    ClientError,
    /// 5xx.
    ServerError,
    /// A gRPC status other than OK.
    GrpcError,
    /// No answer at all (code 0).
    NoResponse,
}

impl Class {
    /// Whether it counts in the error ratio.
    pub fn is_error(self) -> bool {
        matches!(self, Self::ServerError | Self::GrpcError | Self::NoResponse)
    }

    /// Name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::GrpcError => "gRPC error",
            Self::NoResponse => "no response",
        }
    }
}

/// What a request's outcome amounts to. A failed gRPC call has code 200 and its failure in the gRPC status.
pub fn class_of(outcome: &Outcome, hangups_are_errors: bool) -> Class {
    let Outcome { code, grpc_status, flags } = outcome;
    match &**flags {
        "success" => return Class::Success,
        "failure" => return Class::ServerError,
        _ => {}
    }
    match code.bytes().next() {
        Some(b'5') => Class::ServerError,
        Some(b'4') => Class::ClientError,
        Some(b'0' | b'-') if !hangups_are_errors && split(flags).eq(["DC"]) => Class::ClientError,
        Some(b'0' | b'-') => Class::NoResponse,
        _ if !matches!(&**grpc_status, "" | "0") => Class::GrpcError,
        // No code at all: a span of no HTTP call, or the label was taken off. Then only the flags can tell.
        None if is_never_sent(outcome) => Class::NoResponse,
        _ => Class::Success,
    }
}

/// Whether a fault was injected on purpose.
pub fn is_injected(outcome: &Outcome) -> bool {
    split(&outcome.flags).any(|flag| matches!(flag, "DI" | "FI"))
}

/// Whether the request was answered by the caller's own proxy and never reached the called workload.
pub fn is_never_sent(outcome: &Outcome) -> bool {
    split(&outcome.flags).any(|flag| FLAGS.iter().any(|known| known.flag == flag && known.never_sent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_code_then_grpc_status_then_the_meshs_own_word() {
        let check = |code: &str, grpc: &str, flags: &str, class: Class| {
            let outcome = Outcome { code: code.into(), grpc_status: grpc.into(), flags: flags.into() };
            assert_eq!(class_of(&outcome, false), class, "{outcome:?}");
        };
        check("200", "", "-", Class::Success);
        check("200", "0", "-", Class::Success);
        check("200", "14", "-", Class::GrpcError);
        check("503", "14", "UF", Class::ServerError);
        check("5xx", "", "-", Class::ServerError);
        check("404", "", "-", Class::ClientError);
        check("301", "", "", Class::Success);
        check("0", "", "UF,URX", Class::NoResponse);
        check("0", "", "DC", Class::ClientError);
        check("0", "", "DC,UT", Class::NoResponse);
        check("-", "", "", Class::NoResponse);
        check("", "", "", Class::Success);
        check("", "", "UH", Class::NoResponse);
        check("", "13", "", Class::GrpcError);
        check("404", "", "failure", Class::ServerError);
        check("500", "", "success", Class::Success);
        check("é", "", "", Class::Success);
        let hangup = Outcome { code: "0".into(), grpc_status: "".into(), flags: "DC".into() };
        assert_eq!(class_of(&hangup, true), Class::NoResponse);
    }

    #[test]
    fn words_explain_each_flag_and_keep_unknown_ones() {
        assert_eq!(words("-"), None);
        assert_eq!(words(""), None);
        assert_eq!(
            words("UF,URX").as_deref(),
            Some("upstream connect failure (mTLS mismatch, refused), retry/TCP connect attempts used up")
        );
        assert_eq!(words("ZZ").as_deref(), Some("ZZ"));
    }
}
