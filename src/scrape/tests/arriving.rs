//! Pages in pieces: what is read does not depend on how a page is cut, and only what is not whole is held.

use super::*;
use crate::scrape::arrival::Arrival;
use crate::scrape::exposition::Format;
use crate::scrape::fetch::ScrapeError;
use crate::scrape::ingest::{Counts, Scrape};
use crate::scrape::page_memory::PageMemory;
use crate::scrape::reading::Encoding;
use crate::scrape::workspace::Workspace;

/// How a page comes.
struct Coming<'a> {
    body: &'a [u8],
    how: (Encoding, bool),
    piece_bytes: usize,
}

impl Harness {
    /// Takes the page piece by piece; gives the most bytes that were held.
    fn receive(&mut self, seconds: i64, coming: &Coming<'_>) -> (Counts, Result<(), ScrapeError>, usize) {
        let at = Timestamp::from_millis(START + 3_600_000 + seconds * 1000);
        let (target, shared) = (Arc::clone(&self.target), Arc::clone(&self.one.shared));
        let (state, mut work, mut held) = (self.one.state_for_tests(), Workspace::default(), 0);
        let mut memory = shared.page_memory.reserve();
        state.begin(&target, &shared.sinks, &mut work);
        state.open_page(coming.how.0, at);
        let mut arrival = Arrival::new((&target, &shared.sinks), coming.how, &mut memory, &mut work);
        let mut fetched = Ok(());
        for piece in coming.body.chunks(coming.piece_bytes) {
            fetched = fetched.and_then(|()| arrival.take(piece, state, &mut work));
            held = held.max(work.page.len());
        }
        let fetched = fetched.and_then(|()| arrival.end(state, &mut work));
        let scrape = Scrape { at, fetched, started: tokio::time::Instant::now(), memory };
        let (counts, result) = state.finish(&target, &shared.sinks, scrape, &mut work);
        (counts, result, held)
    }
}

const LINES: Encoding = Encoding::Lines(Format::Text);

#[tokio::test]
async fn a_page_says_the_same_however_it_is_cut() {
    let text = "# HELP a Äh\n# TYPE a counter\n\n  a_total{x=\"y\"} 5 \na_total{x=\"two\nlines\"} 6\n# a comment\nb 2 1700003600000\nb_x 1";
    let broken = "a 1\n# TYPE b gauge\nb{x=\"y\"} 2\nb{x=\"z\"} two\nb 4\n";
    let openmetrics = "# TYPE a counter\na_total{x=\"y\"} 5 # {trace_id=\"t\"} 1\nb 2\n# EOF\n";
    let (open, after_end) = (openmetrics.replace("# EOF\n", ""), openmetrics.to_owned() + "\n");
    for (page, format, error) in [
        (text, Format::Text, ""),
        (broken, Format::Text, "line 4: invalid value `two`: `b{x=\"z\"} two`"),
        ("a{x=\"y} 1\nb 2\n", Format::Text, "line 1: text without closing quote"),
        (openmetrics, Format::OpenMetrics, ""),
        (&open, Format::OpenMetrics, "line 4: data does not end with # EOF"),
        (&after_end, Format::OpenMetrics, "unexpected data after # EOF"),
    ] {
        let mut expected = None;
        for gzip in [false, true] {
            let body = if gzip { gzipped(page.as_bytes()) } else { page.as_bytes().to_vec() };
            for piece_bytes in [usize::MAX, 1, 2, 3, 5, 16, 31] {
                let coming = Coming { body: &body, how: (Encoding::Lines(format), gzip), piece_bytes };
                let mut harness = Harness::new("").await;
                let (counts, result, _) = harness.receive(0, &coming);
                let said = result.err().map(|error| error.to_string()).unwrap_or_default();
                assert!(said.starts_with(error) || said.contains(error), "{page} by {piece_bytes}: {said}");
                assert_eq!(said.is_empty(), error.is_empty(), "{page} by {piece_bytes}: {said}");
                let mut found = (counts, harness.stored().await, harness.counters().exemplars.load(Ordering::Relaxed));
                found.1.retain(|(name, _)| name != "scrape_duration_seconds");
                found.2 *= u64::from(error.is_empty());
                let expected = expected.get_or_insert_with(|| found.clone());
                assert_eq!(found, *expected, "{page} by {piece_bytes}, gzip {gzip}");
            }
        }
    }
}

#[tokio::test]
async fn known_series_need_no_more_memory_than_a_line() {
    let page =
        |value: usize| (0..1500).map(|i| format!("a{{path=\"/some/path/{i:08}\"}} {value}\n")).collect::<String>();
    let mut harness = Harness::new("").await;
    Arc::get_mut(&mut harness.one.shared).unwrap().page_memory = PageMemory::new(0);
    for (seconds, gzip) in [(0, false), (15, false), (30, true)] {
        let page = page(7).repeat(30); // of 1.7 MB; the first of each series counts
        let body = if gzip { gzipped(page.as_bytes()) } else { page.into_bytes() };
        let (counts, result, held) =
            harness.receive(seconds, &Coming { body: &body, how: (LINES, gzip), piece_bytes: 16 << 10 });
        assert!(result.is_ok() && counts.kept == 45_000, "{result:?}");
        assert!(held < 64, "{held} bytes held");
    }
    assert_eq!(harness.of("a{path=\"/some/path/00001499\"}").await, "7@0 7@15 7@30");
}

#[tokio::test]
async fn very_many_new_series_wait_for_the_end_of_their_page() {
    let page: String = (0..10_000).map(|i| format!("a{{path=\"/some/path/{i:08}\"}} 1\n")).collect();
    let coming = Coming { body: page.as_bytes(), how: (LINES, false), piece_bytes: 16 << 10 };
    // A page without an end: nothing of it is stored, and what it brought into the index is bounded.
    let mut cut = Harness::new("  body_size_limit: 300KB\n").await;
    let (counts, result, held) = cut.receive(0, &coming);
    assert!(matches!(result, Err(ScrapeError::BodyTooLarge { .. })), "{result:?}");
    assert!(held > 100 << 10 && counts.scraped == 0);
    let series = cut.one.shared.sinks.head.stats().series;
    assert!(series < 2100, "{series}");
    assert_eq!(cut.pages().await, []);
    // Whole, it is taken.
    let mut whole = Harness::new("").await;
    for seconds in [0, 15] {
        let (counts, result, held) = whole.receive(seconds, &coming);
        assert!(result.is_ok() && counts.kept == 10_000, "{result:?}");
        assert_eq!(held > 100 << 10, seconds == 0, "{held} bytes held at {seconds}");
    }
    assert_eq!(whole.of("a{path=\"/some/path/00009999\"}").await, "1@0 1@15");
}

/// A target that counts its connections; each may ask as often as it likes.
#[tokio::test]
async fn scrapes_of_a_target_share_one_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, connections) = (listener.local_addr().unwrap().to_string(), Arc::new(Mutex::new(0)));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            *count.lock() += 1;
            tokio::spawn(async move {
                let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\na 1\n";
                while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    let mut harness = Harness::at(&address, "").await;
    for i in 0..20 {
        assert_eq!(harness.scrape(i * 15).await.last_error, None);
    }
    assert_eq!(*connections.lock(), 1);
}
