//! Recent samples of all series in memory, and the one way to ask any store of series.
//!
//! In: samples from scrapes, rules and spans. Out: [`Queryable`] for PromQL; closed chunks and journal
//! batches for `persist`. Knows nothing of HTTP, PostgreSQL or what a metric means.
//!
//! ```text
//! append ─▶ group (series of one scrape: newest rows) ─▶ frame (sixteen rows, packed) ─▶ export ─▶ chunk
//!    │        ▲ places                                                   │
//!    │      index (symbols, postings)                                  read ─▶ Queryable ─▶ tiered (with history)
//!    └────▶ journal ─▶ (PostgreSQL) ─▶ replay at start
//!               └────▶ feed ─▶ (other stores)
//! ```

mod append;
mod bits;
mod chunk;
mod column;
mod export;
mod feed;
mod frame;
mod group;
mod head;
mod index;
mod journal;
mod label_cache;
mod postings;
mod query;
mod read;
mod replay;
mod stats;
mod symbols;
#[cfg(test)]
mod tests;
mod tiered;

pub use chunk::{ChunkError, decode_chunk, encode_chunk};
pub use export::{CHUNK_WINDOW, ClosedChunk};
pub use feed::Feed;
pub use head::{AppendError, Appended, Config, Counters, Head, Row, SeriesRef};
pub use journal::JournalBatch;
pub use query::{QueryError, Queryable, Select, SelectHint, Selection, SeriesSamples};
pub use replay::{JournalReader, ReplayError, Told};
pub use stats::{Cardinality, HeadStats};
pub use tiered::Tiered;
