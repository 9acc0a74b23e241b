//! The journal of PostgreSQL as remote write sees it: `forward` does not know `store`.

use std::sync::Arc;

use crate::forward::{Entry, Keeper, Standing, Stopped};
use crate::store::{Store, StoreError, journal_id};

/// Entries read at once.
const PAGE: u32 = 16;

/// What keeps places in the entries up to `until`, the last that was written before this process.
pub(super) fn keeper(store: &Store, until: i64) -> Keeper {
    let say = |error: StoreError| error.to_string();
    let (places, pages, notes) = (store.clone(), store.clone(), store.clone());
    Keeper {
        id_of: journal_id,
        stopped_at: Arc::new(move |name| {
            let store = places.clone();
            Box::pin(async move {
                let place = store.journal_place(&name, until).await.map_err(say)?;
                Ok(place.map(|place| Stopped {
                    after: place.seq,
                    read_after: place.read_after,
                    waiting_samples: place.waiting_samples,
                    missed_entries: place.missed_entries,
                }))
            })
        }),
        entries: Arc::new(move |after| {
            let store = pages.clone();
            Box::pin(async move {
                let page = store.journal_page(after, PAGE).await.map_err(say)?;
                let old = page.into_iter().take_while(|row| row.seq <= until);
                let entry = |row: crate::store::JournalEntry| Entry {
                    place: row.seq,
                    sample_count: row.entry.sample_count,
                    bytes: row.entry.bytes,
                };
                Ok(old.map(entry).collect())
            })
        }),
        note: Arc::new(move |name, standing| {
            let store = notes.clone();
            Box::pin(async move {
                match standing {
                    Standing::Entry(seq) => store.note_journal_entry(&name, seq).await.map(|()| None).map_err(say),
                    Standing::Batches(ids) => store.note_journal_batch(&name, &ids).await.map_err(say),
                }
            })
        }),
    }
}
