//! The queries of Istio's calls: rate, errors, latency, bytes, mutual TLS.
//!
//! In: which calls, as label matchers. Out: PromQL. Rules of counting: rates, never raw counters; one reporter at a time,
//! never the sum of both; mutual TLS only from the called side, for the caller's proxy does not know it.

/// Failed: 5xx or no response; a gRPC call carries its failure under a 200.
const HTTP_FAILED: &str = r#"response_code=~"5..|0""#;
const GRPC_FAILED: &str = r#"grpc_response_status=~"2|4|12|13|14|15""#;

/// The calls that these label matchers select.
pub(super) struct Calls {
    /// Which report counts.
    reporter: &'static str,
    /// Matchers without that of the reporter.
    matchers: &'static str,
}

impl Calls {
    /// As the viewer wants to see them.
    pub(super) const fn chosen(matchers: &'static str) -> Self {
        Self { reporter: r#"reporter=~"$reporter""#, matchers }
    }

    /// Where the matchers themselves say whose report counts.
    pub(super) const fn only(matchers: &'static str) -> Self {
        Self { reporter: "", matchers }
    }

    /// As their callers see them.
    pub(super) const fn of_clients(matchers: &'static str) -> Self {
        Self { reporter: r#"reporter=~"source|waypoint""#, matchers }
    }

    /// As the called see them: the only ones that know about mutual TLS.
    pub(super) const fn of_servers(matchers: &'static str) -> Self {
        Self { reporter: r#"reporter=~"destination|waypoint""#, matchers }
    }

    /// A rate of a counter, where `also` matches, by these labels.
    pub(super) fn rate(&self, counter: &str, also: &str, by: &str) -> String {
        format!("{} ({})", sum_by(by), self.plain_rate(counter, also))
    }

    fn plain_rate(&self, counter: &str, also: &str) -> String {
        let matchers: Vec<&str> =
            [self.reporter, self.matchers, also].into_iter().filter(|matcher| !matcher.is_empty()).collect();
        format!("rate({counter}{{{}}}[$__rate_interval])", matchers.join(", "))
    }

    /// Calls a second.
    pub(super) fn requests(&self, by: &str) -> String {
        self.rate("istio_requests_total", "", by)
    }

    /// Failed calls a second: both kinds of failure, each series once.
    pub(super) fn failed(&self, by: &str) -> String {
        let of = |failed| self.plain_rate("istio_requests_total", failed);
        format!("{} ({} or {})", sum_by(by), of(HTTP_FAILED), of(GRPC_FAILED))
    }

    /// Failed calls as a share of all; 0, not nothing, where there is traffic and no failure.
    pub(super) fn error_share(&self, by: &str) -> String {
        let (failed, requests) = (self.failed(by), self.requests(by));
        format!("({failed} or 0 * {requests}) / {requests}")
    }

    /// A quantile of a histogram, by these labels.
    pub(super) fn quantile_of(&self, histogram: &str, quantile: &str, by: &str) -> String {
        let by = if by.is_empty() { "le".to_owned() } else { format!("le, {by}") };
        format!("histogram_quantile({quantile}, {})", self.rate(&format!("{histogram}_bucket"), "", &by))
    }

    /// A quantile of the duration in milliseconds.
    pub(super) fn quantile(&self, quantile: &str, by: &str) -> String {
        self.quantile_of("istio_request_duration_milliseconds", quantile, by)
    }

    /// Calls over mutual TLS as a share of all.
    pub(super) fn mtls_share(&self, by: &str) -> String {
        let secured = self.rate("istio_requests_total", r#"connection_security_policy="mutual_tls""#, by);
        let all = self.requests(by);
        format!("({secured} or 0 * {all}) / {all}")
    }

    /// Calls with a response flag.
    pub(super) fn flagged(&self, flags: &str, by: &str) -> String {
        self.rate("istio_requests_total", &format!(r#"response_flags=~"(.*,)?({flags})(,.*)?""#), by)
    }
}

fn sum_by(labels: &str) -> String {
    if labels.is_empty() { "sum".to_owned() } else { format!("sum by ({labels})") }
}

/// The nodes and edges of a node graph panel, from a query by `caller` and `called`.
pub(super) fn graph(calls: &str, caller: &str, called: &str) -> [String; 2] {
    let labelled =
        |expr: String, name: &str, from: &str| format!(r#"label_replace({expr}, "{name}", "$1", "{from}", "(.*)")"#);
    let nodes = |side: &str| format!("sum by (id) ({})", labelled(format!("sum by ({side}) ({calls})"), "id", side));
    let edges = labelled(labelled(format!("({calls})"), "source", caller), "target", called);
    [
        format!("{} or 0 * {}", nodes(called), nodes(caller)),
        format!(r#"label_join({edges}, "id", " -> ", "{caller}", "{called}")"#),
    ]
}
