//! The page `/metrics`: what the modules count, read when the page is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

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

    /// A reader of the page in OpenMetrics text.
    pub fn into_page(self) -> impl Fn() -> String + Send + Sync + 'static {
        let mut registry = Registry::with_prefix("meshscope");
        registry.register_collector(Box::new(self.readings));
        move || {
            let mut text = String::new();
            // Writing to a String does not fail.
            let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
            text
        }
    }
}

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for Reading { name, help, kind, read } in &self.0 {
            match kind {
                Kind::Counter => {
                    let counter = ConstCounter::new(read());
                    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
                }
                Kind::Gauge => {
                    let gauge = ConstGauge::new(read());
                    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
                }
            }
        }
        Ok(())
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
            "# HELP meshscope_scrapes Scrapes that succeeded\n# TYPE meshscope_scrapes counter\nmeshscope_scrapes_total 4.0\n\
             # HELP meshscope_head_series Series in memory\n# TYPE meshscope_head_series gauge\nmeshscope_head_series 2.5\n# EOF\n"
        );
    }
}
