//! Addresses of our own pages at an alert's time.
//!
//! In: the alert's labels, what was found. Out: annotations whose names end with `_url`.

use std::time::Duration;

use super::explain::Places;
use super::subject::Subject;
use crate::model::span::hex;
use crate::model::{Labels, Timestamp};
use crate::units::PromDuration;

/// Shortest range of a page, so that what led to the alert is in sight.
const RANGE_LEAST: Duration = Duration::from_secs(15 * 60);

/// What all addresses share.
pub(super) struct Links<'a> {
    pub(super) external_url: &'a str,
    /// The end of the range that pages show.
    pub(super) at: Timestamp,
    pub(super) window: Duration,
}

impl Links<'_> {
    /// The addresses for one alert.
    pub(super) fn of(
        &self,
        labels: &Labels,
        subject: Option<&Subject>,
        places: &Places,
    ) -> Vec<(&'static str, String)> {
        let at = self.at.as_millis().div_euclid(1000).to_string();
        let range = PromDuration::from(self.window.max(RANGE_LEAST)).to_string();
        let at_time = [("range", range.as_str()), ("at", at.as_str())];
        let page = |path: &str, parameters: &[(&str, &str)]| self.page(path, parameters);
        let mut found = Vec::new();
        if let Some(edge) = &places.edge {
            found.push(("meshscope_edge_url", page("graph", &[at_time[0], at_time[1], ("select", edge)])));
        }
        if let Some(trace) = places.traces.first() {
            found.push(("meshscope_trace_url", format!("{}/traces/{}", self.external_url, hex(trace))));
        }
        if let Some(service) = &places.span_service {
            let errors = if places.traces_failed { "1" } else { "" };
            let parameters = [at_time[0], at_time[1], ("service", &**service), ("errors", errors)];
            found.push(("meshscope_traces_url", page("traces", &parameters)));
        }
        if let Some(subject) = subject {
            let namespace = subject.namespace().unwrap_or_default();
            found.push(("meshscope_graph_url", page("graph", &[at_time[0], at_time[1], ("namespace", namespace)])));
        }
        let alert = format!("{}/alerts/{:016x}", self.external_url, labels.fingerprint());
        found.push((super::ALERT_URL, alert));
        found
    }

    /// One page; parameters without a value are left out.
    fn page(&self, path: &str, parameters: &[(&str, &str)]) -> String {
        let said = parameters.iter().filter(|(_, value)| !value.is_empty());
        let url = reqwest::Url::parse_with_params("http://x/", said);
        let query = url.as_ref().ok().and_then(reqwest::Url::query).unwrap_or_default();
        format!("{}/{path}?{query}", self.external_url)
    }
}
