//! The page `/metrics`: what the modules count, read when the page is asked for.
//!
//! In: readers of numbers. Out: Prometheus' text format 0.0.4, which every scraper and `promtool check metrics` read.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; `_total` is added to its name.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// Named readers of numbers that live elsewhere.
#[derive(Default)]
pub struct Metrics {
    readings: Readings,
}

#[derive(Default)]
struct Readings(Vec<Reading>);

struct Reading {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    read: Box<dyn Fn() -> f64 + Send + Sync>,
}

impl std::fmt::Debug for Readings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|reading| reading.name)).finish()
    }
}

impl Metrics {
    /// Adds a number that `read` returns. The name is without the prefix `meshscope_`; its unit comes last.
    pub fn add(
        &mut self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.readings.0.push(Reading { name, help, kind, read: Box::new(read) });
    }

    /// Adds a counter of a module: `field` picks it from what the module shares.
    pub fn count<C: Send + Sync + 'static>(
        &mut self,
        name: &'static str,
        help: &'static str,
        counters: &Arc<C>,
        field: fn(&C) -> &AtomicU64,
    ) {
        let counters = Arc::clone(counters);
        self.add(Kind::Counter, name, help, move || field(&counters).load(Ordering::Relaxed) as f64);
    }

    /// A reader of the page in the text format 0.0.4.
    pub fn into_page(self) -> impl Fn() -> String + Send + Sync + 'static {
        move || {
            let mut text = String::new();
            for Reading { name, help, kind, read } in &self.readings.0 {
                let (kind, ending) = match kind {
                    Kind::Counter => ("counter", "_total"),
                    Kind::Gauge => ("gauge", ""),
                };
                let (name, value) = (format_args!("meshscope_{name}{ending}"), read());
                // Writing to a String does not fail.
                let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name} {value}");
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_the_numbers_as_they_are_now() {
        let counted = Arc::new(AtomicU64::new(3));
        let mut metrics = Metrics::default();
        metrics.count("scrapes", "Scrapes that succeeded", &counted, |counter| counter);
        metrics.add(Kind::Gauge, "head_series", "Series in memory", || 2.5);
        let page = metrics.into_page();
        counted.fetch_add(1, Ordering::Relaxed);
        assert_eq!(
            page(),
            "# HELP meshscope_scrapes_total Scrapes that succeeded.\n# TYPE meshscope_scrapes_total counter\n\
             meshscope_scrapes_total 4\n# HELP meshscope_head_series Series in memory.\n\
             # TYPE meshscope_head_series gauge\nmeshscope_head_series 2.5\n"
        );
    }
}
