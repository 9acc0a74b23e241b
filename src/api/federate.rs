//! `/federate`: the newest sample of the series that are asked for, as a page that another Prometheus scrapes.
//!
//! In: `match[]` selectors. Out: text 0.0.4, or 1.0.0 for who asks for it, with the rules of Prometheus 3.5
//! (`web/federate.go`): all types are untyped, external labels are added where the series has no such label, series
//! that have ended are left out. Protobuf is not offered; whoever prefers it takes text too.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::State;
use super::error::plain;
use super::params::{Params, parse_matchers};
use crate::gotemplate::shortest;
use crate::model::{Labels, METRIC_NAME, Timestamp, is_stale};
use crate::series::{QueryError, Select};

/// The newest sample of each series, sorted by metric name, then by labels.
type Newest = BTreeMap<(String, Labels), (Timestamp, f64)>;

/// The page.
pub(super) async fn federate(Shared(state): Shared<State>, headers: HeaderMap, params: Params) -> Response {
    let selectors = params.all("match[]").into_iter().map(parse_matchers).collect::<Result<Vec<_>, _>>();
    let selectors = match selectors {
        Ok(selectors) => selectors,
        Err(error) => return plain(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let now = state.clock.now();
    let from = Timestamp::from_millis(now.as_millis() - state.engine.config().lookback_delta.as_millis());
    let mut newest = Newest::new();
    for matchers in selectors {
        let sample_limit = state.engine.config().max_samples;
        let selected = state.series.select(Select { sample_limit, ..Select::new(matchers, from, now) }).await;
        let series = match selected {
            Ok(selection) => selection.series,
            Err(error @ QueryError::Unavailable { .. }) => {
                return plain(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
            }
            Err(error) => return plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        };
        for one in series {
            let (Some(at), Some(value)) = (one.times.last(), one.values.last()) else { continue };
            let name = one.labels.value(METRIC_NAME).to_owned();
            if !is_stale(*value) && !name.is_empty() {
                newest.insert((name, one.labels), (*at, *value));
            }
        }
    }
    let format = Format::of(&headers);
    let page = page(&newest, &(state.external_labels)(), format);
    ([(header::CONTENT_TYPE, format.content_type())], page).into_response()
}

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    /// Text 1.0.0 and not 0.0.4.
    is_version_1: bool,
    /// Names may be any text; else what is not legal of old becomes an underscore.
    allows_utf8: bool,
}

impl Format {
    /// What the asker likes best: of the text formats in `Accept` the one with the greatest `q`.
    fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut found: Vec<(f64, &str, &str)> = Vec::new();
        for part in accept.split(',') {
            let mut words = part.split(';').map(str::trim);
            if words.next() != Some("text/plain") {
                continue;
            }
            let (mut weight, mut version, mut escaping) = (1.0, "", "");
            for (name, value) in words.filter_map(|word| word.split_once('=')) {
                match name.trim() {
                    "q" => weight = value.trim().parse().unwrap_or(0.0),
                    "version" => version = value.trim(),
                    "escaping" => escaping = value.trim(),
                    _ => {}
                }
            }
            if matches!(version, "" | "0.0.4" | "1.0.0") {
                found.push((weight, version, escaping));
            }
        }
        // The first of equals, as they stand.
        let best = found.into_iter().reduce(|best, other| if other.0 > best.0 { other } else { best });
        let (_, version, escaping) = best.unwrap_or_default();
        Self { is_version_1: version == "1.0.0", allows_utf8: escaping == "allow-utf-8" }
    }

    fn content_type(self) -> String {
        let version = if self.is_version_1 { "1.0.0" } else { "0.0.4" };
        let escaping = if self.allows_utf8 { "allow-utf-8" } else { "underscores" };
        format!("text/plain; version={version}; charset=utf-8; escaping={escaping}")
    }

    /// A name as it is written, and whether it stands in quotes.
    fn name(self, name: &str, is_metric: bool) -> (String, bool) {
        let legal = |(at, c): (usize, char)| {
            c.is_ascii_alphabetic() || c == '_' || (is_metric && c == ':') || (at > 0 && c.is_ascii_digit())
        };
        match (name.char_indices().all(legal), self.allows_utf8) {
            (true, _) => (name.to_owned(), false),
            (false, true) => (format!("\"{}\"", escaped(name)), true),
            (false, false) => (name.char_indices().map(|one| if legal(one) { one.1 } else { '_' }).collect(), false),
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('\n', r"\n").replace('"', r#"\""#)
}

fn page(newest: &Newest, external: &Labels, format: Format) -> String {
    // As Prometheus: an absent `instance` is said to be empty, lest the asker puts its own there.
    let mut added: BTreeMap<&str, &str> = external.iter().collect();
    added.entry("instance").or_insert("");
    let mut page = String::new();
    let mut last = None;
    for ((name, labels), (at, value)) in newest {
        let (written, is_quoted) = format.name(name, true);
        if last != Some(name) {
            let _ = writeln!(page, "# TYPE {written} untyped");
            last = Some(name);
        }
        let own = labels.iter().filter(|(name, value)| *name != METRIC_NAME && !value.is_empty());
        let others =
            added.iter().filter(|(name, _)| labels.value(name).is_empty()).map(|(name, value)| (*name, *value));
        let pairs = own.chain(others).map(|(name, value)| {
            let (name, _) = format.name(name, false);
            format!("{name}=\"{}\"", escaped(value))
        });
        let inside: Vec<String> = is_quoted.then(|| written.clone()).into_iter().chain(pairs).collect();
        let name = if is_quoted { "" } else { written.as_str() };
        let _ = writeln!(page, "{name}{{{}}} {} {}", inside.join(","), shortest(*value), at.as_millis());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(accept: &str) -> Format {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().expect("a header"));
        Format::of(&headers)
    }

    #[test]
    fn the_asker_chooses_the_format() {
        let scraper = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                       text/plain;version=0.0.4;q=0.3,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.2";
        for (accept, version_1, utf8) in [
            (scraper, true, true),
            ("*/*", false, false),
            ("text/plain", false, false),
            ("text/plain;version=0.0.4;escaping=allow-utf-8", false, true),
            ("text/plain;version=9", false, false),
            (";;=,", false, false),
        ] {
            assert_eq!(format(accept), Format { is_version_1: version_1, allows_utf8: utf8 }, "{accept}");
        }
        let plain = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
        assert_eq!(format("*/*").content_type(), plain);
    }

    #[test]
    fn writes_what_a_scraper_reads() {
        let mut newest = Newest::new();
        for (labels, value) in [
            (vec![("__name__", "up"), ("job", "a\"\\\n")], 1e6),
            (vec![("__name__", "up"), ("dc", "own"), ("instance", "i")], f64::NAN),
            (vec![("__name__", "my.name"), ("a.b", "x")], f64::INFINITY),
        ] {
            let labels = Labels::from_pairs(labels);
            newest.insert((labels.value(METRIC_NAME).to_owned(), labels), (Timestamp::from_millis(1500), value));
        }
        let external = Labels::from_pairs([("dc", "eu")]);
        let expect = "# TYPE my_name untyped\nmy_name{a_b=\"x\",dc=\"eu\",instance=\"\"} +Inf 1500\n# TYPE up untyped\n\
                      up{dc=\"own\",instance=\"i\"} NaN 1500\n\
                      up{job=\"a\\\"\\\\\\n\",dc=\"eu\",instance=\"\"} 1e+06 1500\n";
        assert_eq!(page(&newest, &external, format("*/*")), expect);
        let utf8 = page(&newest, &external, format("text/plain;version=1.0.0;escaping=allow-utf-8"));
        let expect = "# TYPE \"my.name\" untyped\n{\"my.name\",\"a.b\"=\"x\",dc=\"eu\",instance=\"\"} +Inf 1500\n";
        assert!(utf8.starts_with(expect), "{utf8}");
    }
}
