//! Which numbers of which part stand on the page `/metrics`.

mod access;
mod access_logs;
mod declared;
mod memory;
mod sent_on;
mod upstream;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::access::Gate;
use crate::clock::Clock;
use crate::declared::Declared;
use crate::http_client::Reaches;
use crate::model::Timestamp;
use crate::persist::{PartStatus, Role, Standing};
use crate::rollup::Rollup;
use crate::series::{self, Head, HeadStats};
use crate::store::{Health, Store};
use crate::telemetry::{Kind, Label, Metrics};
use crate::upstream::Upstream;
use crate::web_config::Guard;
use crate::{context, discovery, forward, notify, otlp, promql, push, rules, scrape, traces};

/// What the parts count.
pub(super) struct Parts {
    pub(super) scrape: Arc<scrape::Counters>,
    pub(super) scrape_status: scrape::Status,
    pub(super) discovery: Arc<discovery::Counters>,
    pub(super) otlp: Arc<otlp::Counters>,
    pub(super) push: Arc<push::Counters>,
    pub(super) promql: Arc<promql::Counters>,
    pub(super) traces: Arc<traces::Counters>,
    pub(super) access_logs: Arc<crate::access_logs::Counters>,
    pub(super) rules: Arc<rules::Counters>,
    pub(super) notify: Arc<notify::Counters>,
    pub(super) context: Arc<context::Counters>,
    pub(super) declared: Declared,
    pub(super) alertmanagers: notify::AlertmanagerStatus,
    pub(super) remotes: forward::Status,
    pub(super) persist: Vec<Arc<PartStatus>>,
    pub(super) head: Head,
    pub(super) rollup: Rollup,
    pub(super) upstream: Option<Upstream>,
    pub(super) live: traces::Live,
    pub(super) live_logs: crate::access_logs::Live,
    pub(super) store: Store,
    pub(super) guards: Vec<Guard>,
    pub(super) gate: Gate,
    pub(super) outgoing: Reaches,
    pub(super) started_at: Timestamp,
    pub(super) standing: Standing,
    pub(super) clock: Clock,
}

impl Parts {
    /// The page of all of them.
    pub(super) fn page(self) -> impl Fn() -> String + Send + Sync + 'static {
        let mut metrics = Metrics::default();
        let Self { scrape, scrape_status, discovery, otlp, push, promql, traces, rules, notify, persist, .. } = &self;
        add_process(&mut metrics, &self.store, self.started_at);
        add_replica(&mut metrics, &self.standing);
        add_clock(&mut metrics, self.clock);
        add_scrape(&mut metrics, scrape, scrape_status);
        add_discovery(&mut metrics, discovery);
        add_otlp(&mut metrics, otlp);
        add_push(&mut metrics, push);
        add_promql(&mut metrics, promql);
        add_traces(&mut metrics, traces);
        access_logs::add(&mut metrics, &self.access_logs, otlp);
        add_rules(&mut metrics, rules);
        add_notify(&mut metrics, notify);
        add_context(&mut metrics, &self.context);
        declared::add(&mut metrics, &self.declared);
        sent_on::add_alertmanagers(&mut metrics, &self.alertmanagers);
        sent_on::add_remotes(&mut metrics, &self.remotes);
        add_persist(&mut metrics, persist);
        let sizes = add_head(&mut metrics, &self.head);
        add_rollup(&mut metrics, &self.rollup);
        memory::add(&mut metrics, &self, sizes);
        if let Some(of) = &self.upstream {
            upstream::add(&mut metrics, of);
        }
        access::add(&mut metrics, &self.guards);
        access::add_gate(&mut metrics, &self.gate);
        access::add_outgoing(&mut metrics, &self.outgoing);
        metrics.into_page()
    }
}

/// What counts in a process that scrapes a share.
pub(super) struct ShardParts {
    pub(super) scrape: Arc<scrape::Counters>,
    pub(super) scrape_status: scrape::Status,
    pub(super) discovery: Arc<discovery::Counters>,
    pub(super) remotes: forward::Status,
    pub(super) head: Head,
    pub(super) guards: Vec<Guard>,
    pub(super) gate: Gate,
    pub(super) outgoing: Reaches,
    pub(super) clock: Clock,
}

impl ShardParts {
    /// The page of all of them.
    pub(super) fn page(self) -> impl Fn() -> String + Send + Sync + 'static {
        let mut metrics = Metrics::default();
        let version: Label = Some(("version", env!("CARGO_PKG_VERSION")));
        metrics.add(Kind::Gauge, ("build_info", version), "Always 1; which version runs.", || 1.0);
        add_clock(&mut metrics, self.clock);
        add_scrape(&mut metrics, &self.scrape, &self.scrape_status);
        add_discovery(&mut metrics, &self.discovery);
        sent_on::add_remotes(&mut metrics, &self.remotes);
        add_head(&mut metrics, &self.head);
        access::add(&mut metrics, &self.guards);
        access::add_gate(&mut metrics, &self.gate);
        access::add_outgoing(&mut metrics, &self.outgoing);
        metrics.into_page()
    }
}

fn add_process(metrics: &mut Metrics, store: &Store, started_at: Timestamp) {
    let version: Label = Some(("version", env!("CARGO_PKG_VERSION")));
    metrics.add(Kind::Gauge, ("build_info", version), "Always 1; which version runs.", || 1.0);
    let started = started_at.as_millis() as f64 / 1000.0;
    metrics.add(Kind::Gauge, ("start_time_seconds", None), "When this process started, Unix time.", move || started);
    let health = store.health();
    let is_there = move || f64::from(u8::from(matches!(*health.borrow(), Health::Available)));
    metrics.add(Kind::Gauge, ("database_available", None), "1 while PostgreSQL answers, else 0.", is_there);
    let help = "Chunks that could not be read when they were to be replaced; they are in the table chunk_damaged.";
    let of = store.clone();
    metrics.add(Kind::Counter, ("damaged_chunks", None), help, move || of.damaged_chunks() as f64);
    let (help, of) = ("Chunks that queries could not read and answered without.", store.clone());
    metrics.add(Kind::Counter, ("unreadable_chunks", None), help, move || of.unreadable_chunks() as f64);
}

fn add_replica(metrics: &mut Metrics, standing: &Standing) {
    let of = standing.clone();
    let leads = move || f64::from(u8::from(of.view().role == Role::Leader));
    metrics.add(Kind::Gauge, ("leader", None), "1 while this process writes and tells people, 0 on a standby.", leads);
    let (help, of) = ("Replicas on the database that were there within half a minute.", standing.clone());
    metrics.add(Kind::Gauge, ("replicas", None), help, move || of.view().replicas.len() as f64);
    let (help, of) = ("Changes of the leader that this process saw.", standing.clone());
    metrics.add(Kind::Counter, ("leader_changes", None), help, move || of.view().changes as f64);
}

fn add_clock(metrics: &mut Metrics, clock: Clock) {
    let help = "How often the system's clock was seen to jump: it was set, or the machine slept.";
    metrics.add(Kind::Counter, ("clock_jumps", None), help, move || clock.jumps() as f64);
    let help = "By how much our time is ahead of the system's clock, which was set back.";
    metrics.add(Kind::Gauge, ("clock_ahead_seconds", None), help, move || clock.ahead().as_secs_f64());
}

fn add_scrape(metrics: &mut Metrics, counters: &Arc<scrape::Counters>, status: &scrape::Status) {
    for (label, health) in
        [("up", scrape::Health::Up), ("down", scrape::Health::Down), ("unknown", scrape::Health::Unknown)]
    {
        let status = status.clone();
        let count = move || status.targets().iter().filter(|target| target.health == health).count() as f64;
        metrics.add(Kind::Gauge, ("scrape_targets", Some(("health", label))), "Targets by health.", count);
    }
    metrics.count("scrapes", "Scrapes done.", counters, |c| &c.scrapes);
    metrics.count("scrape_failures", "Scrapes that failed.", counters, |c| &c.failures);
    metrics.count("scrape_missed_slots", "Scrapes that did not begin in time.", counters, |c| &c.missed_slots);
    metrics.count("scrape_page_bytes", "Bytes of pages after decompression.", counters, |c| &c.page_bytes);
    metrics.count("scrape_samples", "Samples stored, with stale markers and reports.", counters, |c| &c.samples);
    metrics.count("scrape_stale_markers", "Stale markers written.", counters, |c| &c.stale_markers);
    metrics.count("scrape_exemplars", "Exemplars read, stored or not.", counters, |c| &c.exemplars);
    let help = "Series that label rules name and that were stored whole: what is no counter cannot be added up.";
    metrics.count("scrape_label_rules_not_applied", help, counters, |c| &c.label_rules_not_applied);
    metrics.count("scrape_loop_restarts", "Target loops that crashed and began anew.", counters, |c| &c.restarts);
    let help = "Samples refused, by reason.";
    let mut refused = |reason: &'static str, field: fn(&scrape::Counters) -> &AtomicU64| {
        metrics.count_by(("scrape_refused_samples", Some(("reason", reason))), help, counters, field);
    };
    refused("duplicate", |c| &c.duplicates);
    refused("out_of_order", |c| &c.out_of_order);
    refused("too_far_ahead", |c| &c.too_far_ahead);
    refused("series_limit", |c| &c.series_limit);
}

fn add_discovery(metrics: &mut Metrics, counters: &Arc<discovery::Counters>) {
    let help = "Reads of target lists that failed, by source.";
    let point = |source| ("discovery_failures", Some(("source", source)));
    metrics.count_by(point("file"), help, counters, |c| &c.file_failures);
    metrics.count_by(point("http"), help, counters, |c| &c.http_failures);
    metrics.count("discovery_updates", "Sets of targets published.", counters, |c| &c.updates);
    let cluster = &counters.kubernetes;
    metrics.count("kubernetes_lists", "Lists of a cluster's objects read whole.", cluster, |c| &c.lists);
    metrics.count("kubernetes_watches", "Watches begun.", cluster, |c| &c.watches);
    metrics.count("kubernetes_events", "Changes of objects that watches told.", cluster, |c| &c.events);
    metrics.count("kubernetes_gone", "Lists read again because a watch was too old (410).", cluster, |c| &c.gone);
    metrics.count("kubernetes_failures", "Requests to API servers that failed.", cluster, |c| &c.failures);
    metrics.count("kubernetes_unread_objects", "Objects that could not be decoded.", cluster, |c| &c.unread);
}

fn add_otlp(metrics: &mut Metrics, counters: &Arc<otlp::Counters>) {
    let help = "Requests received, by transport.";
    let point = |transport| ("otlp_requests", Some(("transport", transport)));
    metrics.count_by(point("grpc"), help, counters, |c| &c.grpc_requests);
    metrics.count_by(point("http"), help, counters, |c| &c.http_requests);
    let help = "Requests that were not taken, by reason.";
    let point = |reason| ("otlp_refused_requests", Some(("reason", reason)));
    metrics.count_by(point("queue_full"), help, counters, |c| &c.refused_requests);
    metrics.count_by(point("not_stored"), help, counters, |c| &c.unstored_requests);
    metrics.count_by(point("malformed"), help, counters, |c| &c.malformed_requests);
    metrics.count_by(point("too_large"), help, counters, |c| &c.oversized_requests);
    metrics.count_by(point("unsupported"), help, counters, |c| &c.unsupported_requests);
    let help = "Requests that came again, and were answered by what became of them the first time.";
    metrics.count("otlp_repeated_requests", help, counters, |c| &c.repeated_requests);
    metrics.count("otlp_accepted_spans", "Spans accepted.", counters, |c| &c.accepted_spans);
    metrics.count("otlp_refused_spans", "Spans of requests refused to be sent again.", counters, |c| &c.refused_spans);
    for reason in otlp::Rejection::ALL {
        let (counters, label) = (Arc::clone(counters), Some(("reason", reason.as_str())));
        let read = move || counters.rejected_spans(reason) as f64;
        metrics.add(Kind::Counter, ("otlp_rejected_spans", label), "Spans not taken, by reason.", read);
    }
    for what in otlp::Trim::ALL {
        let (counters, label) = (Arc::clone(counters), Some(("what", what.as_str())));
        let read = move || counters.trimmed(what) as f64;
        metrics.add(Kind::Counter, ("otlp_trimmed", label), "What was cut or mended on accepted spans.", read);
    }
}

fn add_push(metrics: &mut Metrics, counters: &Arc<push::Counters>) {
    let help = "Requests with samples, by protocol.";
    let point = |protocol| ("push_requests", Some(("protocol", protocol)));
    metrics.count_by(point("remote_write"), help, counters, |c| &c.remote_write_requests);
    metrics.count_by(point("otlp"), help, counters, |c| &c.otlp_requests);
    metrics.count("push_refused_requests", "Requests with samples that could not be read.", counters, |c| {
        &c.refused_requests
    });
    metrics.count("push_samples", "Samples that were sent and stored.", counters, |c| &c.samples);
    metrics.count("push_past_samples", "Of these the ones older than memory.", counters, |c| &c.past_samples);
    let help = "What was sent and not stored, by what and why.";
    let point = |what| ("push_refused", Some(("what", what)));
    metrics.count_by(point("sample_time"), help, counters, |c| &c.refused_samples);
    metrics.count_by(point("series"), help, counters, |c| &c.refused_series);
    metrics.count_by(point("native_histogram"), help, counters, |c| &c.native_histograms);
    metrics.count_by(point("otlp_point"), help, counters, |c| &c.refused_points);
}

fn add_promql(metrics: &mut Metrics, counters: &Arc<promql::Counters>) {
    metrics.count("promql_queries", "Queries that were evaluated to their end, those of rules too.", counters, |c| {
        &c.ended
    });
    let help = "Queries that ended early, by why.";
    let point = |reason| ("promql_queries_stopped", Some(("reason", reason)));
    metrics.count_by(point("canceled"), help, counters, |c| &c.canceled);
    metrics.count_by(point("timeout"), help, counters, |c| &c.timed_out);
    metrics.count_by(point("samples"), help, counters, |c| &c.too_large);
}

fn add_traces(metrics: &mut Metrics, counters: &Arc<traces::Counters>) {
    metrics.count("traces_spans", "Spans taken from the queue.", counters, |c| &c.spans);
    let help = "Of these the ones that had come before: sent again, and counted once.";
    metrics.count("traces_repeated_spans", help, counters, |c| &c.repeated_spans);
    metrics.count("traces_batches", "Batches of spans made for the store.", counters, |c| &c.batching.batches);
    metrics.count("traces_batch_bytes", "Bytes of those batches.", counters, |c| &c.batching.batch_bytes);
    metrics.count("traces_lost_batches", "Batches lost because the store was away.", counters, |c| {
        &c.batching.lost_batches
    });
    metrics.count("traces_pairs", "Calls of which both sides were seen, or that need one.", counters, |c| &c.pairs);
    metrics.count("traces_expired_edges", "Sides of calls whose other never came.", counters, |c| &c.expired_edges);
    metrics.count("traces_edges_out_of_window", "Calls too old or new for the graph.", counters, |c| {
        &c.edges_out_of_window
    });
    metrics
        .count("traces_refused_samples", "Derived samples that memory did not take.", counters, |c| &c.refused_samples);
    let help = "Spans and calls not counted in derived series, by where.";
    let point = |from| ("traces_dropped", Some(("from", from)));
    metrics.count_by(point("span_metrics"), help, counters, |c| &c.span_metrics_dropped);
    metrics.count_by(point("service_graph"), help, counters, |c| &c.service_graph_dropped);
    metrics.count_by(point("pairing"), help, counters, |c| &c.dropped_spans);
    let gauge = |field: fn(&traces::Counters) -> &AtomicU64| {
        let counters = Arc::clone(counters);
        move || field(&counters).load(Ordering::Relaxed) as f64
    };
    let waiting = gauge(|c| &c.batching.pending_batches);
    metrics.add(Kind::Gauge, ("traces_pending_batches", None), "Batches waiting for the store.", waiting);
    let waiting = gauge(|c| &c.waiting_sides);
    metrics.add(Kind::Gauge, ("traces_waiting_sides", None), "Sides of calls waiting for the other.", waiting);
}

fn add_rules(metrics: &mut Metrics, counters: &Arc<rules::Counters>) {
    metrics.count("rule_evaluations", "Rules evaluated.", counters, |c| &c.evaluations);
    metrics.count("rule_evaluation_failures", "Evaluations that failed.", counters, |c| &c.evaluation_failures);
    metrics.count("rule_group_iterations", "Rounds of groups that were due.", counters, |c| &c.iterations);
    metrics.count("rule_group_iterations_missed", "Of these the missed ones.", counters, |c| &c.iterations_missed);
    metrics.count("rule_group_restarts", "Groups that crashed and began anew.", counters, |c| &c.group_restarts);
    metrics.count("rule_template_failures", "Texts that could not be expanded.", counters, |c| &c.template_failures);
    metrics.count("rule_alerts_sent", "Alerts handed to notifications.", counters, |c| &c.alerts_sent);
    metrics.count("rule_alerts_not_taken", "Alerts that found no room; sent again.", counters, |c| &c.alerts_not_taken);
    metrics.count("rule_transitions_dropped", "Changes of alert states lost to the history.", counters, |c| {
        &c.transitions_dropped
    });
}

fn add_notify(metrics: &mut Metrics, counters: &Arc<notify::Counters>) {
    let help = "Notifications, by how they ended.";
    let point = |outcome| ("notifications", Some(("outcome", outcome)));
    metrics.count_by(point("delivered"), help, counters, |c| &c.delivered);
    metrics.count_by(point("failed"), help, counters, |c| &c.failed);
    metrics.count("notification_retries", "Tries that failed and were repeated.", counters, |c| &c.retried);
    metrics.count(
        "notification_template_failures",
        "Notifications whose template failed; nobody heard.",
        counters,
        |c| &c.templates_failed,
    );
    metrics.count("posted_alerts", "Alerts that other servers posted.", counters, |c| &c.posted);
    metrics.count("posted_alerts_refused", "Posted alerts that were not valid.", counters, |c| &c.posted_refused);
    metrics.count("notifications_unrecorded", "Notifications sent without an outbox row.", counters, |c| &c.unrecorded);
}

fn add_context(metrics: &mut Metrics, counters: &Arc<context::Counters>) {
    metrics.count("alert_context_added", "Alerts told with what the mesh says of them.", counters, |c| &c.added);
    let help = "Alerts told without the context they ask for.";
    let point = |reason| ("alert_context_left_out", Some(("reason", reason)));
    metrics.count_by(point("time_limit"), help, counters, |c| &c.too_late);
    metrics.count_by(point("alerts_limit"), help, counters, |c| &c.too_many);
}

fn add_persist(metrics: &mut Metrics, parts: &[Arc<PartStatus>]) {
    for part in parts {
        let label: Label = Some(("part", part.name));
        let help = "Items written to PostgreSQL: samples, chunks, edge minutes, spans, changes, records, rounds.";
        metrics.count_by(("persist_written_items", label), help, part, |p| &p.written);
        let help = "Writes to PostgreSQL that failed and are tried again.";
        metrics.count_by(("persist_failures", label), help, part, |p| &p.failures);
        let help = "Items that PostgreSQL refused for good.";
        metrics.count_by(("persist_dropped_items", label), help, part, |p| &p.dropped);
        let part = Arc::clone(part);
        let pending = move || part.pending.load(Ordering::Relaxed) as f64;
        metrics.add(Kind::Gauge, ("persist_pending_items", label), "Items that wait to be written.", pending);
    }
}

/// Of the memory tier. What it returns is measured anew for each page.
fn add_head(metrics: &mut Metrics, head: &Head) -> Arc<Mutex<HeadStats>> {
    // The sizes are the work of one walk over all series.
    let sizes = Arc::new(Mutex::new(HeadStats::default()));
    metrics.before_each_page({
        let (head, sizes) = (head.clone(), Arc::clone(&sizes));
        move || *sizes.lock() = head.stats()
    });
    let mut gauge = |name, help, read: fn(&HeadStats) -> f64| {
        let sizes = Arc::clone(&sizes);
        metrics.add(Kind::Gauge, (name, None), help, move || read(&sizes.lock()));
    };
    gauge("head_series", "Series in memory.", |s| s.series as f64);
    gauge("head_samples", "Samples in memory.", |s| s.samples as f64);
    gauge("head_bytes", "Bytes of samples, series and index in memory.", |s| s.bytes as f64);
    gauge("journal_waiting_bytes", "Bytes that wait for the journal.", |s| s.journal_bytes as f64);
    let memory = |read: fn(series::SafeModeState) -> f64| {
        let head = head.clone();
        move || read(head.safe_mode().state())
    };
    let is_short = memory(|state| f64::from(u8::from(state.since.is_some())));
    metrics.add(Kind::Gauge, ("safe_mode", None), "1 while memory is short, else 0.", is_short);
    let (used, limit) = (memory(|state| state.used_bytes as f64), memory(|state| state.limit_bytes as f64));
    metrics.add(Kind::Gauge, ("memory_used_bytes", None), "Memory of this process alone.", used);
    metrics.add(Kind::Gauge, ("memory_limit_bytes", None), "Above it safe mode begins; 0: never.", limit);
    let rate = {
        let head = head.clone();
        move || head.new_series_per_minute()
    };
    metrics.add(Kind::Gauge, ("head_new_series_per_minute", None), "New series, of the last five minutes.", rate);
    let safe_mode = |field: fn(&series::SafeMode) -> &AtomicU64| {
        let head = head.clone();
        move || field(head.safe_mode()).load(Ordering::Relaxed) as f64
    };
    let dropped = safe_mode(|mode| &mode.dropped_samples);
    let help = "Samples not stored because memory was short.";
    metrics.add(Kind::Counter, ("safe_mode_dropped_samples", None), help, dropped);
    let entered = safe_mode(|mode| &mode.entered);
    metrics.add(Kind::Counter, ("safe_mode_entered", None), "How often safe mode began.", entered);
    let mut counter = |name, label, help, field: fn(&series::Counters) -> &AtomicU64| {
        let head = head.clone();
        let read = move || field(head.counters()).load(Ordering::Relaxed) as f64;
        metrics.add(Kind::Counter, (name, label), help, read);
    };
    counter("head_accepted_samples", None, "Samples stored in memory.", |c| &c.samples_accepted);
    counter("head_expired_samples", None, "Samples that left the window of memory in order.", |c| &c.samples_expired);
    counter("head_created_series", None, "Series made.", |c| &c.series_created);
    counter("head_removed_series", None, "Series forgotten, without samples.", |c| &c.series_removed);
    counter("head_refused_series", None, "Series refused because of the limit.", |c| &c.series_refused);
    counter("journal_dropped_batches", None, "Batches PostgreSQL did not take in time.", |c| {
        &c.journal_dropped_batches
    });
    counter("journal_dropped_samples", None, "Samples in those batches.", |c| &c.journal_dropped_samples);
    let exemplars = head.clone();
    let kept = move || exemplars.exemplars().len() as f64;
    metrics.add(Kind::Gauge, ("head_exemplars", None), "Exemplars in memory.", kept);
    let help = "Exemplars that were read, by what became of them.";
    let mut exemplars = |outcome, field: fn(&series::ExemplarCounters) -> &AtomicU64| {
        let head = head.clone();
        let read = move || field(head.exemplars().counters()).load(Ordering::Relaxed) as f64;
        metrics.add(Kind::Counter, ("exemplars", Some(("outcome", outcome))), help, read);
    };
    exemplars("accepted", |c| &c.accepted);
    exemplars("duplicate", |c| &c.duplicates);
    exemplars("out_of_order", |c| &c.out_of_order);
    exemplars("labels_too_long", |c| &c.labels_too_long);
    let mut counter = |name, label, help, field: fn(&series::Counters) -> &AtomicU64| {
        let head = head.clone();
        let read = move || field(head.counters()).load(Ordering::Relaxed) as f64;
        metrics.add(Kind::Counter, (name, label), help, read);
    };
    let help = "Samples that memory did not take, by reason.";
    let by = |reason| Some(("reason", reason));
    counter("head_refused_samples", by("duplicate"), help, |c| &c.samples_duplicate);
    counter("head_refused_samples", by("conflicting"), help, |c| &c.samples_conflicting);
    counter("head_refused_samples", by("out_of_order"), help, |c| &c.samples_out_of_order);
    sizes
}

fn add_rollup(metrics: &mut Metrics, rollup: &Rollup) {
    let reading = |read: fn(&crate::rollup::Size) -> usize| {
        let rollup = rollup.clone();
        move || read(&rollup.size()) as f64
    };
    metrics.add(Kind::Gauge, ("rollup_edges", None), "Edges counted in memory.", reading(|size| size.edges));
    metrics.add(Kind::Gauge, ("rollup_slots", None), "Series that count for edges.", reading(|size| size.slots));
    let counters = rollup.counters();
    metrics.count("rollup_samples", "Samples counted for edges.", counters, |c| &c.samples);
    metrics.count("rollup_resets", "Counter resets seen.", counters, |c| &c.resets);
    metrics.count("rollup_missed_increments", "Increments outside the minutes held.", counters, |c| &c.minutes_missed);
    let dropped = "Minutes of edges dropped before PostgreSQL took them.";
    metrics.count("rollup_unwritten_dropped", dropped, counters, |c| &c.unwritten_dropped);
    metrics.count("rollup_outcomes_folded", "Outcomes folded into their class.", counters, |c| &c.outcomes_folded);
    let help = "Samples, edges and histograms that were not counted, by reason.";
    let point = |reason| ("rollup_refused", Some(("reason", reason)));
    metrics.count_by(point("no_counter_value"), help, counters, |c| &c.samples_ignored);
    metrics.count_by(point("edge_limit"), help, counters, |c| &c.edges_refused);
    metrics.count_by(point("bucket_layouts"), help, counters, |c| &c.histograms_refused);
}
