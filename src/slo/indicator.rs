//! What counts as an event and which events are bad, as PromQL over five minutes.
//!
//! In: an objective as written. Out: [`Indicator`]. Invariant: its expressions parse, and give one sample for each
//! combination of its group labels. Metrics and labels: Istio's standard metrics, ztunnel's, linkerd2-proxy's.

mod latency;
mod queries;

use super::config::{AvailabilityConfig, Excluded, IndicatorConfig, Mesh, SloConfig, View};
use super::selector::{Part, ServiceSelector, quoted};

/// What the server is to blame for: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const GRPC_ERRORS: [u8; 6] = [2, 4, 12, 13, 14, 15];
/// What Istio calls destinations that are no service.
const NO_SERVICE: &str = "unknown|PassthroughCluster|BlackHoleCluster|InboundPassthroughCluster.*";

/// What counts, ready for rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Indicator {
    /// `availability`, `latency`, `connections`, `events` or `error ratio`.
    pub kind: &'static str,
    /// What it is about, as written: `payments/*`; empty for PromQL of the user's own.
    pub about: String,
    /// Which events are bad, in words.
    pub bad: String,
    pub(super) ratio: Ratio,
    /// Labels that tell its services apart.
    pub(super) group: Vec<String>,
}

/// The expressions of an indicator.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ratio {
    /// Events are counted.
    Counted {
        /// Events per second.
        total: String,
        /// Of these the bad ones.
        errors: String,
        /// Whether a service without any series of bad events has none. Not so for latency, where the series of good ones
        /// may be missing.
        absent_is_zero: bool,
    },
    /// Only the share is known.
    Share {
        /// From 0 to 1.
        share: String,
    },
}

/// What is selected of a mesh's metrics: matchers, and labels to group by.
struct Selected {
    matchers: Vec<String>,
    group: Vec<String>,
    /// As people write it.
    about: String,
    /// Of routes Linkerd has metrics of their own.
    is_route: bool,
}

impl Indicator {
    /// Reads it from an objective.
    ///
    /// # Errors
    /// What is missing, given twice, or not to be had from that mesh's metrics.
    pub(super) fn new(written: &SloConfig) -> Result<Self, String> {
        let IndicatorConfig { availability, latency, connections, events, error_ratio } = &written.indicator;
        let given = [
            ("availability", availability.is_some()),
            ("latency", latency.is_some()),
            ("connections", connections.is_some()),
            ("events", events.is_some()),
            ("error_ratio", error_ratio.is_some()),
        ];
        let given: Vec<&str> = given.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect();
        if given.len() > 1 {
            return Err(format!("an objective has one indicator, not {}; write two objectives", given.join(" and ")));
        }
        if let Some(events) = events {
            no_selector(written, "events")?;
            return queries::events(events);
        }
        if let Some(query) = error_ratio {
            no_selector(written, "error_ratio")?;
            return queries::error_ratio(query);
        }
        let selected = Selected::of(written)?;
        match (latency, connections) {
            (Some(latency), _) => latency::indicator(latency, written, selected),
            (_, Some(_)) => opened_connections(written, selected),
            _ => requests(availability.as_ref().unwrap_or(&AvailabilityConfig::default()), written, selected),
        }
    }

    /// The labels that tell its services apart.
    pub fn group_labels(&self) -> Vec<String> {
        self.group.clone()
    }
}

fn no_selector(written: &SloConfig, indicator: &str) -> Result<(), String> {
    let SloConfig { service, edge, route, mesh, view, route_label, .. } = written;
    let selectors = [("service", service.is_some()), ("edge", edge.is_some()), ("route", route.is_some())];
    let others = [("mesh", *mesh != Mesh::Istio), ("view", *view != View::Client)];
    let label = [("route_label", route_label.is_some())];
    match selectors.into_iter().chain(others).chain(label).find(|(_, given)| *given) {
        Some((key, _)) => {
            Err(format!("`{key}` says nothing to the indicator {indicator}, whose PromQL selects; leave it out"))
        }
        None => Ok(()),
    }
}

impl Selected {
    fn of(written: &SloConfig) -> Result<Self, String> {
        let SloConfig { service, edge, route, mesh, view, route_label, .. } = written;
        let given = [service.is_some(), edge.is_some(), route.is_some()].into_iter().filter(|given| *given).count();
        if given != 1 {
            let what = if given == 0 { "nothing" } else { "more than one thing" };
            let mend = "give one of `service: payments/*`, `edge: shop/web -> payments/*` and `route: payments/cart/*`";
            return Err(format!("it is about {what}: {mend}"));
        }
        if (route.is_none() || *mesh == Mesh::Linkerd) && route_label.is_some() {
            return Err("`route_label` is for a `route` of Istio only".to_owned());
        }
        if *mesh == Mesh::Linkerd {
            return linkerd(written);
        }
        let mut selected = Self::new(is_report(*mesh, *view)?);
        match (service, edge, route) {
            (Some(service), _, _) => selected.istio_service(service),
            (_, Some(edge), _) => {
                let labels = ["source_workload_namespace", "source_workload"];
                selected.add(labels, [&edge.source.namespace, &edge.source.name]);
                selected.about = format!("{} -> ", edge.source.text());
                selected.istio_service(&edge.destination);
            }
            (_, _, Some(route)) => {
                selected.istio_service(&route.service);
                let label = route_label.as_deref().unwrap_or("request_operation");
                if label.is_empty() || !label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                    return Err(format!("route_label: {label:?} is not a valid label name"));
                }
                selected.add([label], [&route.route]);
                selected.about = format!("{}/{}", selected.about, route.route.text());
            }
            _ => {}
        }
        Ok(selected)
    }

    fn new(report: &str) -> Self {
        Self { matchers: vec![report.to_owned()], group: Vec::new(), about: String::new(), is_route: false }
    }

    fn add<const N: usize>(&mut self, labels: [&str; N], parts: [&Part; N]) {
        for (label, part) in labels.into_iter().zip(parts) {
            self.matchers.push(part.matcher(label));
            self.group.push(label.to_owned());
        }
    }

    fn istio_service(&mut self, service: &ServiceSelector) {
        let ServiceSelector { namespace, name } = service;
        self.add(["destination_service_namespace", "destination_service_name"], [namespace, name]);
        if name.has_star() {
            self.matchers.push(format!("destination_service_name!~{}", quoted(NO_SERVICE)));
        }
        self.about.push_str(&service.text());
    }

    /// `metric{matchers, more}`.
    fn series(&self, metric: &str, more: &[String]) -> String {
        let matchers: Vec<&str> = self.matchers.iter().chain(more).map(String::as_str).collect();
        format!("{metric}{{{}}}", matchers.join(","))
    }

    /// `sum by (group) (inner)`.
    fn sum(&self, inner: &str) -> String {
        format!("sum by ({}) ({inner})", self.group.join(", "))
    }

    fn counted(self, kind: &'static str, bad: String, (total, errors): (String, String)) -> Indicator {
        let Self { group, about, .. } = self;
        Indicator { kind, about, bad, ratio: Ratio::Counted { total, errors, absent_is_zero: true }, group }
    }
}

/// Whose report counts. The two sides of a request are never added; a waypoint is the only one to report where it stands.
fn is_report(mesh: Mesh, view: View) -> Result<&'static str, String> {
    match (mesh, view) {
        (Mesh::Istio, View::Client) => Ok("reporter=~\"source|waypoint\""),
        (Mesh::Istio, View::Server) => Ok("reporter=\"destination\""),
        (Mesh::Ambient, View::Client) => Ok("reporter=\"waypoint\""),
        (Mesh::Ambient, View::Server) => Err("a waypoint reports once, for both sides: leave `view` out".to_owned()),
        (Mesh::Linkerd, View::Client) => Ok("direction=\"outbound\""),
        (Mesh::Linkerd, View::Server) => Ok("direction=\"inbound\""),
    }
}

fn linkerd(written: &SloConfig) -> Result<Selected, String> {
    let mut selected = Selected::new(is_report(Mesh::Linkerd, written.view)?);
    let only_client = |what: &str| match written.view {
        View::Server => Err(format!("Linkerd's called side does not say which {what}; leave `view` out")),
        View::Client => Ok(()),
    };
    if let Some(service) = &written.service {
        let labels = match written.view {
            View::Client => ["dst_namespace", "dst_service"],
            // The called side knows its own workload and no service.
            View::Server => ["namespace", "deployment"],
        };
        selected.add(labels, [&service.namespace, &service.name]);
        selected.about = service.text();
    }
    if let Some(edge) = &written.edge {
        only_client("workload calls")?;
        let (from, to) = (&edge.source, &edge.destination);
        selected.add(["namespace", "deployment"], [&from.namespace, &from.name]);
        selected.add(["dst_namespace", "dst_service"], [&to.namespace, &to.name]);
        selected.about = format!("{} -> {}", from.text(), to.text());
    }
    if let Some(route) = &written.route {
        only_client("route was taken")?;
        // The metrics of routes have no direction: they are of the caller.
        selected.matchers.clear();
        let parts = [&route.service.namespace, &route.service.name, &route.route];
        selected.add(["parent_namespace", "parent_name", "route_name"], parts);
        selected.about = format!("{}/{}", route.service.text(), route.route.text());
        selected.is_route = true;
    }
    Ok(selected)
}

/// A matcher that leaves out what is not to count; Linkerd's metrics do not say.
fn excluding(exclude: Option<&Vec<Excluded>>, mesh: Mesh) -> Result<Vec<String>, String> {
    if mesh == Mesh::Linkerd {
        return match exclude {
            Some(list) if !list.is_empty() => {
                Err("Linkerd's metrics do not tell injected faults and callers that hung up apart: leave `exclude` out"
                    .to_owned())
            }
            _ => Ok(Vec::new()),
        };
    }
    let all = vec![Excluded::InjectedFaults, Excluded::ClientCancelled];
    let flags: Vec<&str> = (exclude.unwrap_or(&all).iter())
        .flat_map(|one| match one {
            Excluded::InjectedFaults => &["DI", "FI"][..],
            Excluded::ClientCancelled => &["DC"][..],
        })
        .copied()
        .collect();
    Ok(match flags.is_empty() {
        true => Vec::new(),
        false => vec![format!("response_flags!~\"(.*,)?({})(,.*)?\"", flags.join("|"))],
    })
}

/// Requests that fail.
fn requests(config: &AvailabilityConfig, written: &SloConfig, selected: Selected) -> Result<Indicator, String> {
    let kept = excluding(config.exclude.as_ref(), written.mesh)?;
    let codes = config.error_codes.as_deref().map(codes).transpose()?;
    let statuses = statuses(config.error_grpc_statuses.as_deref())?;
    let bad = |codes: &str, statuses: &str| match (codes, statuses) {
        ("", statuses) => format!("gRPC status {}", statuses.replace('|', ", ")),
        (codes, "") => format!("response code {}", codes.replace('|', ", ").replace("..", "xx")),
        (codes, statuses) => {
            let codes = codes.replace('|', ", ").replace("..", "xx");
            format!("response code {codes}, or gRPC status {}", statuses.replace('|', ", "))
        }
    };
    let is_classified = config.error_codes.is_none() && config.error_grpc_statuses.is_none();
    let (metric, code, status) = match (written.mesh, selected.is_route) {
        (Mesh::Linkerd, true) => ("outbound_http_route_request_statuses_total", "http_status", None),
        (Mesh::Linkerd, false) => ("response_total", "status_code", Some("grpc_status")),
        _ => ("istio_requests_total", "response_code", Some("grpc_response_status")),
    };
    if status.is_none() && config.error_grpc_statuses.is_some() {
        return Err("Linkerd's metric of HTTP routes has no gRPC status: leave `error_grpc_statuses` out".to_owned());
    }
    let rate = |more: Vec<String>| format!("rate({}[5m])", selected.series(metric, &more));
    let with = |matcher: String| kept.iter().cloned().chain([matcher]).collect::<Vec<_>>();
    let total = selected.sum(&rate(kept.clone()));
    if written.mesh == Mesh::Linkerd && is_classified && !selected.is_route {
        let errors = selected.sum(&rate(with("classification=\"failure\"".to_owned())));
        return Ok(selected.counted(
            "availability",
            "classified as a failure by the proxy".to_owned(),
            (total, errors),
        ));
    }
    let codes = codes.unwrap_or_else(|| "5..|0".to_owned());
    let statuses = if status.is_some() { statuses } else { String::new() };
    let mut failed: Vec<String> = Vec::new();
    if !codes.is_empty() {
        failed.push(rate(with(format!("{code}=~{}", quoted(&codes)))));
    }
    if let Some(status) = status.filter(|_| !statuses.is_empty()) {
        failed.push(rate(with(format!("{status}=~{}", quoted(&statuses)))));
    }
    if selected.is_route && config.error_codes.is_none() {
        failed.push(rate(with("error!=\"\"".to_owned())));
    }
    if failed.is_empty() {
        return Err("no code and no status is an error, so nothing ever fails".to_owned());
    }
    let errors = selected.sum(&failed.join(" or "));
    Ok(selected.counted("availability", bad(&codes, &statuses), (total, errors)))
}

/// Connections that cannot be opened, as ztunnel of the caller's node counts them.
fn opened_connections(written: &SloConfig, mut selected: Selected) -> Result<Indicator, String> {
    if written.mesh != Mesh::Ambient {
        let mend = "only ztunnel counts connections that fail: use `mesh: ambient`, or availability for requests";
        return Err(format!("the indicator connections: {mend}"));
    }
    if written.route.is_some() {
        return Err("connections have no route".to_owned());
    }
    // Connections pass no waypoint; the caller's ztunnel reports as the source.
    selected.matchers[0] = "reporter=\"source\"".to_owned();
    let rate = |metric: &str| selected.sum(&format!("rate({}[5m])", selected.series(metric, &[])));
    let (opened, errors) = (rate("istio_tcp_connections_opened_total"), rate("istio_tcp_connections_failed_total"));
    // One of the two may be missing where nothing ever failed, or nothing ever worked.
    let group = selected.group.join(", ");
    let total = format!("({opened} + on ({group}) {errors}) or {opened} or {errors}");
    Ok(selected.counted("connections", "the connection could not be opened".to_owned(), (total, errors)))
}

/// `5xx`, `503` and `0` as a regular expression.
fn codes(codes: &[String]) -> Result<String, String> {
    let pieces = codes.iter().map(|code| {
        let code = code.to_ascii_lowercase();
        match code.as_bytes() {
            b"0" => Ok(code),
            [b'1'..=b'5', b'x', b'x'] => Ok(code.replace('x', ".")),
            [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => Ok(code),
            _ => Err(format!("error_codes: {code:?} is no response code; write 503, 5xx, or 0 for no response")),
        }
    });
    Ok(pieces.collect::<Result<Vec<_>, _>>()?.join("|"))
}

fn statuses(statuses: Option<&[u8]>) -> Result<String, String> {
    let statuses = statuses.unwrap_or(&GRPC_ERRORS);
    match statuses.iter().find(|status| !(1..=16).contains(*status)) {
        Some(0) => Err("error_grpc_statuses: 0 is OK and no error".to_owned()),
        Some(status) => Err(format!("error_grpc_statuses: {status} is no gRPC status; they are 1 to 16")),
        None => Ok(statuses.iter().map(ToString::to_string).collect::<Vec<_>>().join("|")),
    }
}

#[cfg(test)]
mod tests;
