//! The page `/metrics`: what the modules count, read when the page is asked for.
//!
//! In: readers of plain numbers. Out: Prometheus text format 0.0.4, which every scraper and `promtool check metrics` read.
//! Invariant: a family is written once, whatever order its points were added in.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; its name ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// A label of one point; `None` for a family of a single point.
pub type Label = Option<(&'static str, &'static str)>;

/// Named readers of numbers that live elsewhere.
#[derive(Default)]
pub struct Metrics {
    families: Vec<Family>,
    before: Vec<Box<dyn Fn() + Send + Sync>>,
}

struct Family {
    name: String,
    help: &'static str,
    kind: Kind,
    points: Vec<(Label, Box<dyn Fn() -> f64 + Send + Sync>)>,
    lists: Vec<(&'static str, ReadList)>,
}

type ReadList = Box<dyn Fn() -> Vec<(String, f64)> + Send + Sync>;

impl Metrics {
    /// Adds a number that `read` returns. The name is without the prefix `meshscope_` and without `_total`; its unit comes
    /// last. Points of one name make one family, which keeps the help of the first.
    pub fn add(
        &mut self,
        kind: Kind,
        (name, label): (&'static str, Label),
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.family(kind, name, help).points.push((label, Box::new(read)));
    }

    /// As [`Metrics::add`], for numbers of things that come and go: each is a point whose label `label` says which it is.
    pub fn add_each(
        &mut self,
        kind: Kind,
        (name, label): (&'static str, &'static str),
        help: &'static str,
        read: impl Fn() -> Vec<(String, f64)> + Send + Sync + 'static,
    ) {
        self.family(kind, name, help).lists.push((label, Box::new(read)));
    }

    fn family(&mut self, kind: Kind, name: &str, help: &'static str) -> &mut Family {
        let suffix = if kind == Kind::Counter { "_total" } else { "" };
        let name = format!("meshscope_{name}{suffix}");
        let at = self.families.iter().position(|family| family.name == name).unwrap_or_else(|| {
            self.families.push(Family { name, help, kind, points: Vec::new(), lists: Vec::new() });
            self.families.len() - 1
        });
        &mut self.families[at]
    }

    /// Does `work` before each page: for numbers that are cheaper to read together.
    pub fn before_each_page(&mut self, work: impl Fn() + Send + Sync + 'static) {
        self.before.push(Box::new(work));
    }

    /// Adds a counter of a module: `field` picks it from what the module shares.
    pub fn count<C: Send + Sync + 'static>(
        &mut self,
        name: &'static str,
        help: &'static str,
        counters: &Arc<C>,
        field: fn(&C) -> &AtomicU64,
    ) {
        self.count_by((name, None), help, counters, field);
    }

    /// As [`Metrics::count`], as one point of a family.
    pub fn count_by<C: Send + Sync + 'static>(
        &mut self,
        point: (&'static str, Label),
        help: &'static str,
        counters: &Arc<C>,
        field: fn(&C) -> &AtomicU64,
    ) {
        let counters = Arc::clone(counters);
        self.add(Kind::Counter, point, help, move || field(&counters).load(Ordering::Relaxed) as f64);
    }

    /// A reader of the page.
    pub fn into_page(self) -> impl Fn() -> String + Send + Sync + 'static {
        move || {
            self.before.iter().for_each(|work| work());
            let mut text = String::new();
            for family in &self.families {
                // Writing to a String does not fail.
                let _ = family.write(&mut text);
            }
            text
        }
    }
}

impl Family {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Self { name, help, kind, points, lists } = self;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n")?;
        for (label, read) in points {
            match label {
                Some((label, value)) => writeln!(text, "{name}{{{label}=\"{value}\"}} {}", read())?,
                None => writeln!(text, "{name} {}", read())?,
            }
        }
        for (label, read) in lists {
            for (value, number) in read() {
                let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
                writeln!(text, "{name}{{{label}=\"{value}\"}} {number}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_the_numbers_as_they_are_now_family_by_family() {
        let counted = Arc::new(AtomicU64::new(3));
        let mut metrics = Metrics::default();
        metrics.count("scrapes", "Scrapes done.", &counted, |counter| counter);
        metrics.count_by(("rows", Some(("part", "a"))), "Rows.", &counted, |counter| counter);
        metrics.add(Kind::Gauge, ("head_series", None), "Series in memory.", || 2.5);
        metrics.count_by(("rows", Some(("part", "b"))), "", &counted, |counter| counter);
        let each = || vec![("x\"y".to_owned(), 1.0), ("z".to_owned(), 2.0)];
        metrics.add_each(Kind::Counter, ("sent", "to"), "Sent.", each);
        let page = metrics.into_page();
        counted.fetch_add(1, Ordering::Relaxed);
        assert_eq!(
            page(),
            "# HELP meshscope_scrapes_total Scrapes done.\n# TYPE meshscope_scrapes_total counter\n\
             meshscope_scrapes_total 4\n\
             # HELP meshscope_rows_total Rows.\n# TYPE meshscope_rows_total counter\n\
             meshscope_rows_total{part=\"a\"} 4\nmeshscope_rows_total{part=\"b\"} 4\n\
             # HELP meshscope_head_series Series in memory.\n# TYPE meshscope_head_series gauge\n\
             meshscope_head_series 2.5\n\
             # HELP meshscope_sent_total Sent.\n# TYPE meshscope_sent_total counter\n\
             meshscope_sent_total{to=\"x\\\"y\"} 1\nmeshscope_sent_total{to=\"z\"} 2\n"
        );
    }
}
