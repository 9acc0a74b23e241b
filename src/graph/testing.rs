//! Edge minutes for the tests of graphs and of what is drawn and told of them.

use crate::model::workload::{EdgeKey, MeshKind, Outcome, Protocol, Reporter, Security, Service, Workload};
use crate::model::{EdgeMinute, Timestamp};

/// Calls over HTTP in an Istio mesh as the caller's proxy reports them, of a service without a name.
pub(crate) fn calls(source: Workload, destination: Workload) -> EdgeKey {
    EdgeKey {
        mesh: MeshKind::Istio,
        reporter: Reporter::Source,
        protocol: Protocol::Http,
        source,
        destination,
        service: Service::default(),
        source_principal: None,
        destination_principal: None,
        security: Security::Unknown,
    }
}

/// A minute in which so many requests were answered with these codes.
pub(crate) fn answered(at: Timestamp, edge: EdgeKey, answers: &[(&str, f64)]) -> EdgeMinute {
    let outcome = |code: &str| Outcome { code: code.into(), grpc_status: "".into(), flags: "".into() };
    let requests = answers.iter().map(|(code, count)| (outcome(code), *count)).collect();
    EdgeMinute { requests, ..EdgeMinute::empty(at, edge) }
}
