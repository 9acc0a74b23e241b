//! The checks, by what they look at. A check without a case in `tests/it/audit/` fails the build.

mod annotations;
mod authentication;
mod authorization;
mod dashboards;
mod destinations;
mod drift;
mod entries;
mod filters;
mod gateway_api;
mod gateways;
mod injection;
mod kiali_ambient;
mod kiali_context;
mod kiali_generic;
mod linkerd;
mod matches;
mod monitoring;
mod precedence;
mod reading;
mod references;
mod routes;
mod rule_objects;
mod schema;
mod selection;
mod services;
mod taken_with_warning;
mod telemetry;
mod webhooks;
mod workloads;

use super::{Found, Scene};
use crate::model::Severity;

/// One check.
#[derive(Debug)]
pub struct Check {
    /// `MSnnnn`, never reused. MS00 reading, MS01 references, MS02 routes, gateways and service entries, MS03
    /// destination rules, MS04 authentication, MS05 authorization, MS06 telemetry, proxies and filters, MS07 Kubernetes
    /// objects and injection, MS08 Gateway API and Linkerd, MS09 what precedence loses and drift, MS10 schemas, MS20 traffic,
    /// MS30 rules and dashboards.
    pub code: &'static str,
    /// How bad its findings are, unless one says otherwise.
    pub severity: Severity,
    /// What it finds, in a few words.
    pub title: &'static str,
    /// Codes of other tools for the same: `IST0101` (istioctl analyze), `KIA1101` (Kiali).
    pub also: &'static [&'static str],
    /// Looks.
    pub run: fn(&Scene<'_>, &mut Found<'_>),
}

impl Check {
    pub(super) const fn new(
        code: &'static str,
        severity: Severity,
        title: &'static str,
        also: &'static [&'static str],
        run: fn(&Scene<'_>, &mut Found<'_>),
    ) -> Self {
        Self { code, severity, title, also, run }
    }
}

/// All checks: of what is declared, then of that against traffic.
pub fn all() -> impl Iterator<Item = &'static Check> {
    CHECKS.iter().chain(super::traffic::CHECKS).copied().flatten()
}

/// The checks of what is declared.
const CHECKS: &[&[Check]] = &[
    reading::CHECKS,
    references::CHECKS,
    routes::CHECKS,
    matches::CHECKS,
    gateways::CHECKS,
    destinations::CHECKS,
    entries::CHECKS,
    selection::CHECKS,
    telemetry::CHECKS,
    filters::CHECKS,
    taken_with_warning::CHECKS,
    services::CHECKS,
    injection::CHECKS,
    webhooks::CHECKS,
    workloads::CHECKS,
    annotations::CHECKS,
    precedence::CHECKS,
    drift::CHECKS,
    monitoring::CHECKS,
    dashboards::CHECKS,
    schema::CHECKS,
    rule_objects::CHECKS,
    authentication::CHECKS,
    authorization::CHECKS,
    gateway_api::CHECKS,
    linkerd::CHECKS,
    kiali_generic::CHECKS,
    kiali_ambient::CHECKS,
];
