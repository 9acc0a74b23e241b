//! The numbers of what is declared for the mesh.

use crate::declared::Declared;
use crate::telemetry::{Kind, Metrics};

/// How much is known, and what reading and watching did.
pub(super) fn add(metrics: &mut Metrics, declared: &Declared) {
    let counters = declared.counters();
    let of = declared.clone();
    let help = "Objects declared for the mesh that are known now.";
    metrics.add(Kind::Gauge, ("declared_objects", None), help, move || of.current().len() as f64);
    let help = "Times that what is declared was another.";
    metrics.count("declared_snapshots", help, &counters, |c| &c.published);
    metrics
        .count("declared_file_reads", "Times that files of declared objects were read.", &counters, |c| &c.file_reads);
    let help = "Documents of files, and objects of the cluster, that could not be read.";
    metrics.count("declared_unread", help, &counters, |c| &c.unread);
    let help = "Kinds of objects that may not be read in the cluster, or are known as they were.";
    let of = declared.clone();
    metrics.add(Kind::Gauge, ("declared_kinds_behind", None), help, move || {
        let kinds = of.status().cluster.map(|cluster| cluster.kinds).unwrap_or_default();
        kinds.iter().filter(|kind| kind.state.problem().is_some()).count() as f64
    });
    let cluster = declared.cluster_counters();
    let help = "Requests to the API server for declared objects that failed.";
    metrics.count("declared_cluster_failures", help, &cluster, |c| &c.failures);
    metrics.count("declared_cluster_events", "Changes of declared objects that watches told.", &cluster, |c| &c.events);
    let help = "Lists of declared objects read again because a watch was too old (410).";
    metrics.count("declared_cluster_gone", help, &cluster, |c| &c.gone);
}
