//! Names and values of labels in PostgreSQL are those of the label sets that the same question finds.

use std::collections::BTreeSet;

use meshscope::model::{MatchOp, Matcher, Timestamp};
use meshscope::persist::History;
use meshscope::series::Queryable;

use crate::postgres;
use crate::samples::{DAY, HOUR};
use crate::store_tables::{chunk, labels, matcher, noon, write_all};

#[tokio::test]
async fn names_and_values_of_labels_are_those_of_the_series_found() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let sets = [
        (noon(), vec![("__name__", "up"), ("job", "a"), ("zone", "x")]),
        (noon(), vec![("__name__", "up"), ("job", "b"), ("pod", "b-1")]),
        (noon() + HOUR * 2, vec![("__name__", "up"), ("job", "b"), ("pod", "b-2"), ("quote\"", "\\ \u{1F980}")]),
        (noon() + HOUR * 2, vec![("__name__", "lat_bucket"), ("job", "a"), ("le", "0.5"), ("code", "200")]),
        (noon() + HOUR * 4, vec![("__name__", "lat_bucket"), ("job", "a"), ("le", "+Inf"), ("code", "200")]),
        (noon() + DAY * 3, vec![("__name__", "late"), ("job", "c"), ("pod", "c-1")]),
        (noon(), vec![("__name__", "bare")]),
    ];
    for (from, pairs) in &sets {
        let labels = labels(pairs);
        write_all(&store, &[(labels.clone(), chunk(&labels, *from, 60, b"1"))]).await;
    }
    let questions: [&[Matcher]; 12] = [
        &[],
        &[Matcher::equal("__name__", "up")],
        &[Matcher::equal("__name__", "lat_bucket")],
        &[Matcher::equal("__name__", "nowhere")],
        &[Matcher::equal("job", "b")],
        &[Matcher::equal("job", "")],
        &[Matcher::equal("le", "+Inf")],
        &[matcher(MatchOp::Regex, "job", "a|c")],
        &[matcher(MatchOp::NotEqual, "pod", "b-1"), Matcher::equal("job", "b")],
        &[matcher(MatchOp::Regex, "__name__", "u.|bare"), matcher(MatchOp::NotRegex, "job", "a")],
        &[Matcher::equal("__name__", "up"), Matcher::equal("job", "a")],
        &[matcher(MatchOp::Regex, "le", ".*5"), Matcher::equal("job", "a")],
    ];
    let ranges = [
        (Timestamp::MIN, Timestamp::MAX),
        (noon(), noon() + HOUR),
        (noon() + HOUR * 3, noon() + HOUR * 5),
        (noon() + DAY, noon() + DAY * 9),
        (noon() - DAY * 9, noon() - DAY * 8),
    ];
    let mut answered = 0;
    for matchers in questions {
        for range in ranges {
            let series = store.stored_series(matchers, range).await.expect("series");
            let expect: BTreeSet<String> = series.iter().flatten().map(|(name, _)| name.to_owned()).collect();
            let names = store.stored_label_names(matchers, range).await.expect("names");
            assert_eq!(names, expect, "names of {matchers:?} in {range:?}");
            for name in ["job", "pod", "zone", "quote\"", "code", "le", "__name__", "none"] {
                let expect: BTreeSet<String> =
                    series.iter().filter_map(|labels| labels.get(name).map(str::to_owned)).collect();
                let values = store.stored_label_values(name, matchers, range).await.expect("values");
                assert_eq!(values, expect, "{name} of {matchers:?} in {range:?}");
                answered += values.len();
            }
        }
    }
    assert!(answered > 100, "{answered} values: the questions must find something");
    // As queries ask, over several lists of matchers.
    let history = History::new(store);
    let either = vec![vec![Matcher::equal("job", "a")], vec![Matcher::equal("job", "c")]];
    let values = history.label_values("job".to_owned(), either.clone(), Timestamp::MIN, Timestamp::MAX).await;
    assert_eq!(values.expect("values"), ["a", "c"]);
    let names = history.label_names(either, noon(), noon() + HOUR).await.expect("names");
    assert_eq!(names, ["__name__", "job", "zone"]);
}
