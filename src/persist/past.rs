//! Samples older than memory, as somebody sends them: straight into chunks.
//!
//! In: samples by series. Out: rows of `chunk_raw`, one for each series and two-hour window. Invariant: the same samples
//! once more change nothing. Where two writes begin a window of a series with the same sample, the one with more samples
//! stays, so what belongs together should be sent together.

use super::{WRITE_LIMIT, limited};
use crate::model::Timestamp;
use crate::push::PastSeries;
use crate::series::{CHUNK_WINDOW, encode_chunk};
use crate::store::{Chunk, ChunkTier, Store, StoreError};

/// Writes samples into history. When it returns they are committed, and the next query sees them.
///
/// # Errors
/// When PostgreSQL is away; then nothing is written.
pub async fn write_past(store: &Store, past: Vec<PastSeries>) -> Result<(), StoreError> {
    let cut = tokio::task::spawn_blocking(move || past.iter().flat_map(chunks).collect::<Vec<_>>());
    let chunks = cut.await.map_err(|error| StoreError::Damaged { what: "samples sent", reason: error.to_string() })?;
    limited(WRITE_LIMIT, "write past samples", store.write_chunks(ChunkTier::Raw, chunks)).await
}

fn chunks(of: &PastSeries) -> impl Iterator<Item = Chunk> {
    let window = |at: Timestamp| at.floor_to(CHUNK_WINDOW);
    of.samples.chunk_by(move |a, b| window(a.0) == window(b.0)).map(|samples| {
        let (times, values): (Vec<Timestamp>, Vec<f64>) = samples.iter().copied().unzip();
        Chunk {
            labels: of.labels.clone(),
            from: times[0],
            to: times[times.len() - 1],
            sample_count: u32::try_from(times.len()).unwrap_or(u32::MAX),
            bytes: encode_chunk(&times, &values),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;
    use crate::series::decode_chunk;

    #[test]
    fn each_window_of_two_hours_becomes_a_chunk() {
        let samples: Vec<(Timestamp, f64)> =
            [0, 1, 7_199_999, 7_200_000, 20_000_000].map(|at| (Timestamp::from_millis(at), at as f64)).into();
        let past = PastSeries { labels: Labels::from_pairs([("__name__", "a")]), samples: samples.clone() };
        let cut: Vec<Chunk> = chunks(&past).collect();
        assert_eq!(cut.iter().map(|chunk| chunk.sample_count).collect::<Vec<_>>(), [3, 1, 1]);
        let back = cut.iter().flat_map(|chunk| {
            let (times, values) = decode_chunk(&chunk.bytes).expect("a good chunk");
            times.into_iter().zip(values)
        });
        assert_eq!(back.collect::<Vec<_>>(), samples);
    }
}
