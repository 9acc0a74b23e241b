//! A remote that goes on where the process before it stopped.

use super::*;

/// A journal of three entries, three samples of each of two series in one epoch, and what was noted in it.
#[derive(Clone, Default)]
struct Kept {
    entries: Arc<Mutex<Vec<Entry>>>,
    stopped: Option<Stopped>,
    noted: Arc<Mutex<Vec<Standing>>>,
}

impl Kept {
    fn new(stopped: Option<Stopped>) -> Self {
        let head = Head::new(series::Config::default());
        let feed = head.feed(1 << 20);
        let kept = Self { stopped, ..Self::default() };
        for place in 1..4 {
            for at in place * 3..place * 3 + 3 {
                let of = |i: usize| {
                    head.intern(&Labels::from_pairs([(METRIC_NAME, "up".to_owned()), ("i", i.to_string())])).unwrap()
                };
                head.append_at(Timestamp::from_millis(at), &[(of(0), 1.0), (of(1), 2.0)]);
            }
            let batch = feed.take().unwrap();
            kept.entries.lock().push(Entry { place, sample_count: 6, bytes: batch.bytes });
        }
        kept
    }

    fn keeper(&self) -> Keeper {
        let (stopped, entries, noted) = (self.stopped.clone(), self.entries.clone(), self.noted.clone());
        Keeper {
            id_of: |bytes| bytes.len() as i64,
            stopped_at: Arc::new(move |_| Box::pin(std::future::ready(Ok(stopped.clone())))),
            entries: Arc::new(move |after| {
                let page = entries.lock().iter().filter(|entry| entry.place > after).take(2).cloned().collect();
                Box::pin(std::future::ready(Ok(page)))
            }),
            note: Arc::new(move |_, standing| {
                let newest = match &standing {
                    Standing::Batches(ids) => ids.last().copied(),
                    Standing::Entry(_) => None,
                };
                noted.lock().push(standing);
                Box::pin(std::future::ready(Ok(newest)))
            }),
        }
    }
}

/// What each series of the receiver must hold: the times of the journal from `first` on, then that of the new sample.
fn expect(first: i64) -> Vec<i64> {
    (first..12).chain([20]).collect()
}

#[tokio::test]
async fn what_the_process_before_did_not_send_comes_first_and_in_order() {
    let stopped = Stopped { after: 1, read_after: 0, waiting_samples: 12, missed_entries: 3 };
    for (stopped, first) in [(Some(stopped), 6), (None, 20)] {
        let receiver = super::Receiver::start(|_| Reply::Take).await;
        let kept = Kept::new(stopped.clone());
        let rig = Rig::start_with(config(&receiver.url, ""), Some(kept.keeper()));
        rig.append(2, 20..21);
        let count = if stopped.is_some() { 14 } else { 2 };
        rig.until("all are sent", |c| c.sent_samples.load(Relaxed) == count).await;
        let counters = rig.stop().await;
        let times = receiver.by_series();
        let of_series = |name: &str| times.iter().find(|(labels, _)| labels.contains(name)).unwrap().1.clone();
        let whole: Vec<i64> = (first..12).chain([20]).collect();
        let mut got = of_series("i=\"0\"");
        if stopped.is_some() {
            // The new samples have a label `job` more.
            let old = times.iter().find(|(labels, _)| labels.contains("job=\"external\"")).unwrap().1.clone();
            got = [old, vec![20]].concat();
            assert_eq!(counters.missed_entries.load(Relaxed), 3);
            assert_eq!(counters.journal_samples.load(Relaxed), 0);
            assert!(kept.noted.lock().contains(&Standing::Entry(3)), "{:?}", kept.noted.lock());
        }
        assert_eq!(got, whole);
        assert!(matches!(kept.noted.lock().last(), Some(Standing::Batches(ids)) if ids.len() == 1));
    }
}

/// Takes a request as Prometheus takes one of 1.0: not at all when one sample is not newer than the last of its series.
#[derive(Clone, Default)]
struct Strict(Arc<Mutex<BTreeMap<String, Vec<i64>>>>);

impl Strict {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let own = self.clone();
        let take = move |headers: HeaderMap, body: Bytes| {
            let own = own.clone();
            async move {
                let samples = decode(&headers, &body, &Noted::default());
                let mut held = own.0.lock();
                let mut after = held.clone();
                for (labels, at, _) in samples {
                    let times = after.entry(labels.value("i").to_owned()).or_default();
                    if times.last().is_some_and(|last| *last >= at) {
                        return StatusCode::BAD_REQUEST;
                    }
                    times.push(at);
                }
                *held = after;
                StatusCode::NO_CONTENT
            }
        };
        let router = axum::Router::new().route("/", axum::routing::post(take));
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }
}

#[tokio::test]
async fn a_receiver_that_has_a_part_of_it_gets_the_rest_and_nothing_twice() {
    let strict = Strict::default();
    // All of the first entry, and of the second two samples of one series and one of the other.
    *strict.0.lock() = BTreeMap::from([("0".to_owned(), (3..8).collect()), ("1".to_owned(), (3..7).collect())]);
    let kept = Kept::new(Some(Stopped { waiting_samples: 18, ..Stopped::default() }));
    let rig = Rig::start_with(config(&strict.start().await, ""), Some(kept.keeper()));
    rig.append(2, 20..21);
    rig.until("all are sent", |c| c.sent_samples.load(Relaxed) == 11).await;
    let counters = rig.stop().await;
    let held = strict.0.lock().clone();
    assert_eq!(held, BTreeMap::from([("0".to_owned(), expect(3)), ("1".to_owned(), expect(3))]));
    assert_eq!((counters.repeated_samples.load(Relaxed), counters.failed_samples.load(Relaxed)), (9, 0));
}
