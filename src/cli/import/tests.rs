//! Imports of small files.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn file(name: &str, page: &str) -> PathBuf {
    let file = std::env::temp_dir().join(format!("meshscope-import-{}-{name}", std::process::id()));
    std::fs::write(&file, page).unwrap();
    file
}

#[tokio::test]
async fn a_mistake_is_named_with_its_line() {
    let check_page = async |name: &str, page: &str, expect: &str| {
        let file = file(name, page);
        let error = check(&file).await.unwrap_err().to_string();
        assert!(error.contains(expect) && error.ends_with("nothing of it was sent"), "{page}: {error}");
        std::fs::remove_file(file).unwrap();
    };
    check_page("time", "a 1 1600000000\nb 2\n# EOF\n", "line 2: the sample has no timestamp: `b 2`").await;
    check_page("value", "a 1 1600000000\nb x 1600000000\n# EOF\n", "line 2: invalid value `x`").await;
    check_page("end", "a 1 1600000000\n", "data does not end with # EOF").await;
    check_page("twice", "a{x=\"1\",x=\"2\"} 1 1600000000\n# EOF\n", "line 1: label name `x` is not unique").await;
    check_page("name", "{x=\"1\"} 1 1600000000\n# EOF\n", "line 1: the series has no metric name").await;
}

/// The pieces of a page: samples of each and the line after it.
fn pieces(name: &str, page: &str, reading: Reading) -> (Vec<(usize, usize)>, Result<(), Stop>) {
    let file = file(name, page);
    let (give, mut pieces) = mpsc::channel(100);
    let made = make_pieces(&mut Source::open(&file).unwrap(), reading, &give);
    std::fs::remove_file(file).unwrap();
    let mut found = Vec::new();
    while let Ok(piece) = pieces.try_recv() {
        found.push((piece.survey.samples, piece.next_line));
    }
    (found, made)
}

#[test]
fn pieces_say_where_to_go_on() {
    let lines: String = (0..25_000).map(|i| format!("a {i} {}\n", 1_600_000_000 + i)).collect();
    let page = format!("# TYPE a gauge\n{lines}# EOF\n");
    let all = Reading { from_line: 1, nan_is_stale: false };
    let (found, made) = pieces("whole", &page, all);
    assert!(made.is_ok());
    assert_eq!(found, [(10_000, 10_002), (10_000, 20_002), (5_000, 20_002)]);
    let (found, _) = pieces("rest", &page, Reading { from_line: 20_002, ..all });
    assert_eq!(found.iter().map(|(samples, _)| samples).sum::<usize>(), 5_000);
    // Of a pipe with a mistake all that stands before it is sent.
    let (found, made) = pieces("broken", &page.replace("a 10500 ", "a x "), all);
    assert_eq!(found, [(10_000, 10_002), (500, 10_502)]);
    assert!(matches!(made, Err(Stop::Mistake(error)) if error.line == 10_502));
}

#[test]
fn the_result_tells_times_and_speed() {
    let mut survey = Survey::default();
    [60_500, 0, 30].into_iter().for_each(|ms| survey.count(Timestamp::from_millis(1_600_000_000_000 + ms)));
    let report = Report {
        survey,
        sent: Sent { stored: 2, problems: vec!["too old sample".into()] },
        took: Duration::from_secs(2),
    };
    let text = table(Path::new("a.om"), &report);
    assert!(text.starts_with("a.om: 2 of 3 samples stored, from 2020-09-13T12:26:40"), "{text}");
    assert!(text.contains("in 2.0 s (2 samples/s)") && text.contains("raise storage.out_of_order_window"), "{text}");
    assert_eq!(json(Path::new("a.om"), &report)["samples"], 3);
}
