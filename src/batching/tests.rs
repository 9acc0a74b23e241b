//! Tests of gathering, and of what senders are told.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const LIMITS: Limits = Limits { items: 4, delay: Duration::from_millis(100), pending: 2 };

type Numbers = Vec<u32>;

/// A batcher of numbers, what it hands on, and what it counts. A batch with 13 in it cannot be encoded.
fn batcher(capacity: usize) -> (Batcher<u32, Numbers>, mpsc::Receiver<Parcel<Numbers>>, Arc<Counters>) {
    let (output, parcels) = mpsc::channel(capacity);
    let counters = Arc::<Counters>::default();
    let encode: Encode<u32, Numbers> = Arc::new(|items| {
        assert!(!items.contains(&13), "unlucky");
        let bytes = 10 * items.len();
        Some((items, bytes))
    });
    (Batcher::new(LIMITS, encode, output, Arc::clone(&counters)), parcels, counters)
}

fn delivery(items: impl IntoIterator<Item = u32>) -> (Delivery<u32>, Waiting) {
    let (receipt, waiting) = Receipt::new();
    (Delivery { items: items.into_iter().collect(), receipt }, waiting)
}

/// Turns the batcher until it has nothing to do for as long as any batch may wait.
async fn settle(batcher: &mut Batcher<u32, Numbers>) {
    while let Ok(true) = tokio::time::timeout(2 * LIMITS.delay, batcher.turn()).await {}
}

#[tokio::test(start_paused = true)]
async fn batches_are_shared_by_deliveries_and_each_hears_when_all_its_batches_are_stored() {
    let (mut batcher, mut parcels, counters) = batcher(8);
    let (first, told_first) = delivery(0..3);
    let (second, told_second) = delivery(3..9);
    batcher.gather(first).await;
    batcher.gather(second).await;
    settle(&mut batcher).await;
    let batches: Vec<Parcel<Numbers>> = std::iter::from_fn(|| parcels.try_recv().ok()).collect();
    let inside: Vec<Numbers> = batches.iter().map(|parcel| parcel.batch.clone()).collect();
    assert_eq!(inside, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8]]);
    assert_eq!(batches.iter().map(|parcel| parcel.receipts.len()).collect::<Vec<_>>(), [2, 1, 1]);
    let mut batches = batches.into_iter();
    batches.next().unwrap().settle(Verdict::Stored);
    assert_eq!(told_first.verdict().await, Verdict::Stored, "its one batch is");
    let mut told_second = Box::pin(told_second.verdict());
    assert!(futures_util::poll!(&mut told_second).is_pending(), "two batches are not");
    batches.for_each(|parcel| parcel.settle(Verdict::Stored));
    assert_eq!(told_second.await, Verdict::Stored);
    assert_eq!((counters.batches.load(Relaxed), counters.batch_bytes.load(Relaxed)), (3, 90));
}

#[tokio::test(start_paused = true)]
async fn the_worst_verdict_counts_and_what_is_dropped_is_lost() {
    for (verdicts, expect) in [
        ([Some(Verdict::Stored), Some(Verdict::Stored)], Verdict::Stored),
        ([Some(Verdict::Refused), Some(Verdict::Stored)], Verdict::Refused),
        ([Some(Verdict::Stored), None], Verdict::Lost),
        ([Some(Verdict::Refused), Some(Verdict::Lost)], Verdict::Lost),
    ] {
        let (mut batcher, mut parcels, _) = batcher(8);
        let (delivery, told) = delivery(0..8);
        batcher.gather(delivery).await;
        settle(&mut batcher).await;
        for verdict in verdicts {
            let parcel = parcels.try_recv().unwrap();
            if let Some(verdict) = verdict {
                parcel.settle(verdict);
            }
        }
        assert_eq!(told.verdict().await, expect, "{verdicts:?}");
    }
    let (nothing, told) = delivery([]);
    batcher(1).0.gather(nothing).await;
    assert_eq!(told.verdict().await, Verdict::Stored, "there was nothing to store");
}

#[tokio::test(start_paused = true)]
async fn a_turn_may_be_dropped_at_any_time() {
    let (mut batcher, mut parcels, _) = batcher(100);
    let mut waiting = Vec::new();
    for number in 0..40 {
        let (delivery, told) = delivery([100 + number]); // none of them is unlucky
        waiting.push(told);
        batcher.gather(delivery).await;
        // Another arm of the caller's `select!` is ready now and then, at any point of a turn.
        for _ in 0..number % 3 {
            let mut turn = Box::pin(batcher.turn());
            let _ = futures_util::poll!(&mut turn);
            drop(turn);
            tokio::task::yield_now().await;
        }
    }
    batcher.finish(Duration::from_secs(1)).await;
    drop(batcher);
    let mut stored = Vec::new();
    while let Some(parcel) = parcels.recv().await {
        stored.extend(parcel.batch.clone());
        parcel.settle(Verdict::Stored);
    }
    assert_eq!(stored, (100..140).collect::<Vec<_>>());
    for told in waiting {
        assert_eq!(told.verdict().await, Verdict::Stored);
    }
}

#[tokio::test(start_paused = true)]
async fn while_nobody_takes_batches_there_is_no_room_and_at_the_end_they_are_counted_and_told() {
    let (mut batcher, parcels, counters) = batcher(1);
    let mut waiting = Vec::new();
    while batcher.has_room() {
        let (delivery, told) = delivery(0..4);
        waiting.push(told);
        batcher.gather(delivery).await;
        settle(&mut batcher).await;
    }
    assert_eq!((waiting.len(), counters.pending_batches.load(Relaxed)), (3, 2), "one is in the channel");
    let began = Instant::now();
    batcher.finish(Duration::from_secs(5)).await;
    assert_eq!((began.elapsed().as_secs(), counters.lost_batches.load(Relaxed)), (5, 2));
    drop(parcels);
    for told in waiting {
        assert_eq!(told.verdict().await, Verdict::Lost);
    }
    let (mut batcher, parcels, _) = self::batcher(1);
    drop(parcels);
    batcher.gather(delivery(0..4).0).await;
    while batcher.turn().await {}
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_encoded_is_refused_for_good_and_keeps_out_nothing_else() {
    let (mut batcher, mut parcels, counters) = batcher(8);
    let ((bad, told_bad), (good, told_good)) = (delivery(12..16), delivery(0..2));
    batcher.gather(bad).await;
    batcher.gather(good).await;
    settle(&mut batcher).await;
    assert_eq!(told_bad.verdict().await, Verdict::Refused);
    let parcel = parcels.try_recv().unwrap();
    assert_eq!(parcel.batch, [0, 1]);
    parcel.settle(Verdict::Stored);
    assert_eq!((told_good.verdict().await, counters.lost_batches.load(Relaxed)), (Verdict::Stored, 1));
}
