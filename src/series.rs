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
mod block;
mod cardinality;
mod chunk;
mod column;
mod exemplars;
mod export;
mod families;
mod feed;
mod frame;
mod group;
mod head;
mod index;
mod journal;
mod label_cache;
mod label_rules;
mod past;
mod postings;
mod query;
mod read;
mod replay;
mod safe_mode;
mod stats;
mod symbols;
#[cfg(test)]
mod tests;
mod thin;
mod tiered;

pub use block::{Block, Member, MemberName, decode_block, encode_block, merge_blocks};
pub use cardinality::{CardinalityReport, LabelShare, REPORT_LIMIT, Share};
pub use chunk::{ChunkError, decode_chunk, encode_chunk};
pub use exemplars::{Exemplar, ExemplarCounters, ExemplarError, Exemplars, SeriesExemplars};
pub use export::{CHUNK_WINDOW, ClosedBlock};
pub use feed::Feed;
pub use head::{AppendError, Appended, Config, Counters, Head, Row, SeriesRef};
pub(crate) use index::BlockRef;
pub use journal::JournalBatch;
pub use label_rules::{LabelLists, LabelRules};
pub use past::PastWindows;
pub use query::{
    Evaluated, Evaluation, Family, FamilyNames, QueryError, Queryable, Select, SelectHint, Selection, SeriesSamples,
    WholeQuery,
};
pub use replay::{JournalPart, JournalReader, ReplayError, Rereading, Told};
pub use safe_mode::{Needs, SafeMode, SafeModeChange, SafeModeState};
pub use stats::{Cardinality, HeadStats};
pub use thin::{THINNED_STEP, is_counter_name, thin, thin_block};
pub use tiered::Tiered;
pub(crate) use tiered::merge;
