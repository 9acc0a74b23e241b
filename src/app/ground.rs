//! What the parts of one role stand on: clock, database, memory, the engine; and the parts that are made of little else.
//!
//! In: a [`Site`]. Out: [`Ground`], shared by all parts until the role changes. Nothing here runs by itself.

use std::sync::Arc;

use anyhow::Context as _;

use super::roles::Site;
use super::{elsewhere, memory};
use crate::clock::Clock;
use crate::config::Config;
use crate::context::{self, Context};
use crate::rollup::Rollup;
use crate::series::{Head, Queryable, Tiered};
use crate::store::{RetentionConfig, Store};
use crate::{audit, declared, kubernetes, mesh, notify, persist, promql, push, traces, upstream};

/// What is made first and shared by the parts of one role.
#[derive(Clone)]
pub(super) struct Ground {
    pub(super) clock: Clock,
    pub(super) store: Store,
    pub(super) head: Head,
    pub(super) rollup: Rollup,
    /// What is stored here.
    pub(super) own: Arc<dyn Queryable>,
    /// The same with the engine elsewhere, when there is one.
    pub(super) series: Arc<dyn Queryable>,
    pub(super) upstream: Option<upstream::Upstream>,
    pub(super) engine: Arc<promql::Engine>,
    pub(super) external_url: String,
}

impl Ground {
    pub(super) fn new(site: &Site) -> Self {
        let Site { config, store, guard, .. } = site;
        let (clock, store, address, is_https) =
            (site.clock, store.clone(), site.sockets.addresses[0], guard.encrypts());
        let head = Head::new(config.series.clone());
        if config.series.memory_limit.is_none() {
            head.safe_mode().set_limit(memory::default_limit());
        }
        let history: Arc<dyn Queryable> = Arc::new(persist::History::new(store.clone()));
        let url = config.web.external_url.clone().unwrap_or_else(|| {
            let scheme = if is_https { "https" } else { "http" };
            format!("{scheme}://{address}")
        });
        let own: Arc<dyn Queryable> = Arc::new(Tiered::new(head.clone(), history));
        let (series, upstream) = elsewhere::beside(config, &own, clock);
        Self {
            clock,
            store,
            rollup: Rollup::new(config.rollup.clone()),
            own,
            series,
            upstream,
            head,
            engine: Arc::new(promql::Engine::new(config.promql.clone())),
            external_url: url.trim_end_matches('/').to_owned(),
        }
    }

    /// What explains alerts when they are told.
    pub(super) fn context(&self, config: &Config, live: traces::Live, changes: persist::ChangeBook) -> Context {
        let inputs = context::Inputs {
            changes: Arc::new(move |from| changes.recent(from)),
            rollup: self.rollup.clone(),
            live,
            head: self.head.clone(),
            health: config.graph_health.clone(),
            external_url: self.external_url.clone(),
        };
        Context::new(config.alert_context.clone(), inputs)
    }

    /// What compares the declared mesh with its traffic.
    pub(super) fn auditor(
        &self,
        config: &Config,
        declared: &declared::Declared,
        archive: &persist::Archive,
    ) -> audit::Watch {
        let inputs = audit::Inputs {
            declared: config.declared.is_given().then(|| {
                let declared = declared.clone();
                Arc::new(move || sources(&declared)) as audit::CurrentSources
            }),
            engine: Arc::clone(&self.engine),
            series: Arc::clone(&self.series),
            past: Some(past(archive.clone())),
            head: self.head.clone(),
            clock: self.clock,
        };
        let suppressions = config.audit.suppress.iter().map(Into::into).collect();
        let declared::Config { root_namespace, cluster_domain, .. } = config.declared.clone();
        let options = audit::Options { suppressions, root_namespace, cluster_domain };
        audit::Watch::new(config.audit_watch.clone(), options, inputs)
    }

    /// What reads what is declared, and where it is found.
    pub(super) fn declared(&self, config: &Config) -> (declared::Reader, declared::Declared) {
        let (api_server, kubeconfig_file) = (config.mesh.api_server.clone(), config.mesh.kubeconfig_file.clone());
        let cluster = kubernetes::ClusterConfig { api_server, kubeconfig_file, ..kubernetes::ClusterConfig::default() };
        declared::Reader::new(config.declared.clone(), cluster, config.outgoing.discovery.clone(), self.clock)
    }

    /// What takes samples that others send; those older than memory go straight into chunks.
    pub(super) fn intake(&self, config: &push::Config, retention: &RetentionConfig) -> push::Intake {
        let backfill = persist::Backfill {
            store: self.store.clone(),
            retention: retention.clone(),
            head: Some(self.head.clone()),
        };
        let clock = self.clock;
        let past: push::PastWriter = Arc::new(move |series| {
            let backfill = backfill.clone();
            Box::pin(async move {
                let series = series;
                let done = backfill.write(clock.now(), series).await.map_err(|error| error.to_string())?;
                if done.too_old > 0 {
                    tracing::warn!(samples = done.too_old, "samples sent were older than every retention: left out");
                }
                Ok(())
            })
        });
        let (head, rollup) = (self.head.clone(), self.rollup.clone());
        push::Intake::new(config.clone(), head, rollup, self.clock, Some(past))
    }

    /// How memory was.
    pub(super) async fn before(&self, config: &Config) -> anyhow::Result<persist::Before> {
        let settings = format!("{} {:?}", env!("CARGO_PKG_VERSION"), config.jobs);
        let has_same_settings = self.store.exchange_scrape_settings(&settings).await;
        let has_same_settings = has_same_settings.context("compare the scrape settings")?;
        Ok(persist::Before { keep: config.rollup.keep.get(), has_same_settings })
    }

    /// Brings back what was there before the start.
    pub(super) async fn restore(
        &self,
        config: &Config,
    ) -> anyhow::Result<(persist::Restored, persist::OutboxRestored)> {
        let now = self.clock.now();
        let before = self.before(config).await?;
        let restored = persist::restore(&self.store, &self.head, (&self.rollup, before), now, |_| {}).await;
        let restored = restored.context("restore samples from the journal")?;
        if restored.progress.samples > 0 {
            let (samples, took) = (restored.progress.samples, restored.took);
            tracing::info!(samples, "restored {samples} samples in {took:.1?}");
        }
        let outbox = persist::restore_outbox(&self.store, now).await.context("read the outbox")?;
        Ok((restored, outbox))
    }
}

/// Where notifications get what the mesh says of their alerts, as soon as this process is sure to lead.
pub(super) fn annotator(context: Context, standing: persist::Standing) -> notify::Annotator {
    Arc::new(move |alerts, now| {
        let (context, standing) = (context.clone(), standing.clone());
        Box::pin(async move {
            standing.may_tell().await;
            context.annotate(alerts, now).await
        })
    })
}

/// Who called whom in a long time, by the edges that are kept for the graph.
fn past(archive: persist::Archive) -> audit::PastSource {
    Arc::new(move |from, to| {
        let archive = archive.clone();
        Box::pin(async move {
            let range = archive.edge_sums(&[from, to], to).await;
            match range.warning {
                None => Ok(audit::PastEdges { edges: range.edges, first: range.first }),
                Some(reason) => Err(reason),
            }
        })
    })
}

/// What is declared now; where files and a cluster are read both, also what the files say.
fn sources(declared: &declared::Declared) -> audit::Sources {
    let (seen, config) = (declared.seen(), declared.config());
    let files = (config.cluster && !config.files.is_empty()).then(|| audit::Files {
        snapshot: Arc::clone(&seen.files),
        known: mesh::KINDS
            .iter()
            .map(|info| info.kind)
            .filter(|kind| seen.is_whole(declared::Origin::Cluster, *kind))
            .collect(),
    });
    audit::Sources { snapshot: Arc::clone(&seen.snapshot), files }
}
