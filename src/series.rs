//! Recent samples of all series in memory, and the one way to ask any store of series.
//!
//! In: samples from scrapes, remote write, OTLP and rules. Out: [`Queryable`] for PromQL; closed chunks and journal
//! batches for `persist`. Knows nothing of HTTP, PostgreSQL or what a metric means.

mod head;
mod query;

pub use head::{AppendError, Appended, Config, Head, Row, SeriesRef};
pub use query::{QueryError, Queryable, Select, SelectHint, Selection, SeriesSamples};
