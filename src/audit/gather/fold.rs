//! Puts answers into an [`Observed`].

mod linkerd;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::questions::{Question, Statistic, Trait};
use crate::audit::observed::{Calls, Denied, End, Latency, Observed, Proxy, RouteCalls, Side, Spell, Teller, Upstream};
use crate::model::Timestamp;
use crate::model::workload::MeshKind;
use linkerd::RouteKey;

/// One sample of an answer.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

impl Row {
    /// A label; `unknown` and `-` are what proxies write for nothing.
    pub(super) fn text(&self, name: &str) -> String {
        let value = self.labels.get(name).map_or("", String::as_str);
        if value == "unknown" || value == "-" { String::new() } else { value.to_owned() }
    }

    fn side(&self) -> Option<Side> {
        match self.labels.get("reporter")?.as_str() {
            "source" | "waypoint" => Some(Side::Client),
            "destination" => Some(Side::Server),
            _ => None,
        }
    }
}

type Parts = (Side, End, End, String, String, Option<u16>, Option<u8>, String, String);

/// What was answered so far.
pub(super) struct Fold {
    observed: Observed,
    /// Places of calls, for their recent part.
    places: HashMap<String, usize>,
    /// Places of requests to backends.
    backends: HashMap<String, usize>,
    /// Requests that routes of Linkerd steered, and attempts of those that profiles did.
    routes: BTreeMap<RouteKey, (RouteCalls, f64)>,
    upstreams: BTreeMap<(String, String, String), Upstream>,
    latencies: BTreeMap<(Side, String, String, String), (f64, f64)>,
    spells: BTreeMap<(String, String), (f64, f64)>,
    targets: (Option<f64>, f64),
}

impl Fold {
    pub(super) fn new(window: Duration, recent: Duration) -> Self {
        Self {
            observed: Observed::of(window, recent),
            places: HashMap::new(),
            backends: HashMap::new(),
            routes: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            latencies: BTreeMap::new(),
            spells: BTreeMap::new(),
            targets: (None, 0.0),
        }
    }

    pub(super) fn gap(&mut self, reason: String) {
        self.observed.gaps.push(reason);
    }

    pub(super) fn take(&mut self, question: &Question, rows: Vec<Row>) {
        for row in rows.iter().filter(|row| row.value.is_finite()) {
            self.row(question, row);
        }
    }

    fn row(&mut self, question: &Question, row: &Row) {
        let whole = &mut self.observed.whole;
        match *question {
            Question::Requests | Question::RecentRequests | Question::Connections => self.calls(question, row),
            Question::Quantile50 | Question::Quantile99 => self.latency(question, row),
            Question::FirstSeen | Question::LastSeen => {
                let key = (row.text("destination_service"), row.text("destination_version"));
                let spell = self.spells.entry(key).or_insert((0.0, 0.0));
                if *question == Question::FirstSeen { spell.0 = row.value } else { spell.1 = row.value }
            }
            // Milliseconds of a time are exact in a double.
            Question::Now => self.observed.at = Some(Timestamp::from_millis((row.value * 1e3).round() as i64)),
            Question::Covered => self.observed.covered |= row.value > 0.0,
            Question::Upstream(statistic) => self.upstream(statistic, row),
            Question::Proxy(what) => self.proxy(what, row),
            Question::ControlPlane => drop(whole.control_planes.insert(row.text("tag"))),
            Question::Root => whole.root_seconds = Some(row.value),
            Question::Rejects => whole.rejects = Some(row.value),
            Question::Convergence => whole.convergence_p99 = Some(row.value),
            Question::Targets => self.targets.0 = Some(row.value),
            Question::TargetsDown => self.targets.1 = row.value,
            Question::RequestSeries => whole.request_series = Some(row.value),
            Question::Missing(label) => drop(whole.missing_labels.insert(label.to_owned(), row.value)),
            Question::Linkerd | Question::RecentLinkerd => self.linkerd(question, row),
            Question::Backends | Question::RecentBackends => self.backend(question, row),
            Question::LinkerdDenied => self.linkerd_denied(row),
            Question::LinkerdPorts => self.linkerd_port(row),
            Question::LinkerdRoutes(what) => self.linkerd_route(what, row),
            Question::Denied => self.denied(row),
            Question::Records => whole.records = Some(row.value),
            Question::Roots => drop(whole.roots.insert(row.text("service"), row.value)),
            Question::LabelSeries(ref name) => whole.labels.entry(name.clone()).or_default().series = row.value,
            Question::LabelValues(ref name) => whole.labels.entry(name.clone()).or_default().values = row.value,
            Question::LabelWithout(ref name) => whole.labels.entry(name.clone()).or_default().without = row.value,
            Question::Spans => {
                let spans = whole.spans.entry(row.text("service")).or_default();
                match row.text("span_kind").as_str() {
                    "SPAN_KIND_SERVER" => spans.0 += row.value,
                    "SPAN_KIND_CLIENT" => spans.1 += row.value,
                    _ => {}
                }
            }
        }
    }

    fn calls(&mut self, question: &Question, row: &Row) {
        let Some(side) = row.side() else { return };
        let key = format!("{:?} {:?}", *question == Question::Connections, row.labels);
        if *question == Question::RecentRequests {
            if let Some(&at) = self.places.get(&key) {
                self.observed.calls[at].recent = row.value;
            }
            return;
        }
        let (side, from, to, host, protocol, code, grpc, flags, security) = parts(side, question, row);
        self.places.insert(key, self.observed.calls.len());
        let count = row.value;
        self.observed.calls.push(Calls {
            mesh: MeshKind::Istio,
            side,
            from,
            to,
            host,
            protocol,
            code,
            grpc,
            flags,
            security,
            count,
            recent: 0.0,
        });
    }

    /// Requests that Istio's policies denied, as access logs tell.
    fn denied(&mut self, row: &Row) {
        let end = |which: &str| End {
            namespace: row.text(&format!("{which}_workload_namespace")),
            workload: row.text(&format!("{which}_workload")),
            ..End::default()
        };
        self.observed.denied.push(Denied {
            teller: Teller::AccessLogs,
            from: end("source"),
            to: end("destination"),
            policy: row.text("policy"),
            rule: row.text("rule").parse().ok(),
            reason: row.text("reason"),
            count: row.value,
        });
    }

    fn latency(&mut self, question: &Question, row: &Row) {
        let Some(side) = row.side() else { return };
        let text = |name: &str| row.text(name);
        let key = (side, text("source_workload_namespace"), text("source_workload"), text("destination_service"));
        let both = self.latencies.entry(key).or_insert((0.0, 0.0));
        if *question == Question::Quantile50 { both.0 = row.value } else { both.1 = row.value }
    }

    fn upstream(&mut self, statistic: Statistic, row: &Row) {
        let cluster = row.text("cluster_name");
        // outbound|PORT|SUBSET|HOST; older proxies and some scrapes write `;` for `|`.
        let mut parts = cluster.split(['|', ';']).skip(2);
        let (Some(subset), Some(host)) = (parts.next(), parts.next()) else { return };
        let key = (row.text("namespace"), row.text("pod"), cluster.clone());
        let (namespace, pod, _) = key.clone();
        let one = self.upstreams.entry(key).or_insert_with(|| Upstream {
            namespace,
            pod,
            host: host.to_owned(),
            subset: subset.to_owned(),
            ..Upstream::default()
        });
        let place = match statistic {
            Statistic::ConnectionsPeak => &mut one.connections_peak,
            Statistic::RequestsPeak => &mut one.requests_peak,
            Statistic::PendingPeak => &mut one.pending_peak,
            Statistic::PendingOverflow => &mut one.pending_overflow,
            Statistic::ConnectionOverflow => &mut one.connection_overflow,
            Statistic::Ejections => &mut one.ejections,
            Statistic::Retries => &mut one.retries,
        };
        *place = Some(row.value);
    }

    fn proxy(&mut self, what: Trait, row: &Row) {
        let key = (row.text("namespace"), row.text("pod"));
        let proxy: &mut Proxy = self.observed.proxies.entry(key).or_default();
        let cpu = row.text("resource") == "cpu";
        let memory = row.text("resource") == "memory";
        let value = Some(row.value);
        match what {
            Trait::Version => proxy.version = Some(row.text("tag")),
            Trait::Concurrency => proxy.concurrency = value,
            Trait::Certificate if row.text("resource_name") == "ROOTCA" => proxy.root_seconds = value,
            Trait::Certificate => {
                proxy.certificate_seconds = Some(proxy.certificate_seconds.map_or(row.value, |own| own.min(row.value)));
            }
            Trait::Cpu => proxy.cpu = value,
            Trait::Memory => proxy.memory = value,
            Trait::Throttled => proxy.throttled = value,
            Trait::Request if cpu => proxy.cpu_request = value,
            Trait::Request if memory => proxy.memory_request = value,
            Trait::Limit if cpu => proxy.cpu_limit = value,
            Trait::Limit if memory => proxy.memory_limit = value,
            Trait::Request | Trait::Limit => {}
            Trait::Denied => proxy.denied = value,
        }
    }

    pub(super) fn done(self) -> Observed {
        let mut observed = self.observed;
        observed.routes = self.routes.into_values().map(|(one, attempts)| linkerd::finished(one, attempts)).collect();
        observed.upstreams = self.upstreams.into_values().collect();
        let latency = |((side, namespace, workload, host), (p50_ms, p99_ms))| Latency {
            side,
            from: (namespace, workload),
            host,
            p50_ms,
            p99_ms,
        };
        observed.latencies = self.latencies.into_iter().map(latency).collect();
        let spell = |((host, version), (first_ago, last_ago))| Spell { host, version, first_ago, last_ago };
        observed.spells = self.spells.into_iter().map(spell).collect();
        observed.whole.targets = self.targets.0.map(|all| (all, self.targets.1));
        observed.index();
        observed
    }
}

fn parts(side: Side, question: &Question, row: &Row) -> Parts {
    let text = |name: &str| row.text(name);
    let end = |which: &str, version: String| End {
        namespace: text(&format!("{which}_workload_namespace")),
        workload: text(&format!("{which}_workload")),
        principal: text(&format!("{which}_principal")).trim_start_matches("spiffe://").to_owned(),
        version,
    };
    let version = match text("destination_version") {
        own if own.is_empty() => text("destination_canonical_revision"),
        own => own,
    };
    let is_tcp = *question == Question::Connections;
    let protocol = if is_tcp { "tcp".to_owned() } else { text("request_protocol") };
    // A series without the label says nothing of the status.
    let code = text("response_code").parse().ok().filter(|_| !is_tcp);
    let host = row.labels.get("destination_service").cloned().unwrap_or_default();
    (
        side,
        end("source", text("source_version")),
        end("destination", version),
        host,
        protocol,
        code,
        text("grpc_response_status").parse().ok(),
        text("response_flags"),
        text("connection_security_policy"),
    )
}
