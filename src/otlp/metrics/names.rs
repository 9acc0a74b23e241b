//! Names of metrics and labels: from OpenTelemetry's words to Prometheus'.
//!
//! Pure. The rules are those of Prometheus 3.5 (`otlptranslator`), which implement OpenTelemetry's "Prometheus and
//! OpenMetrics Compatibility".

use super::{Header, Shape};
use crate::push::TranslationStrategy;

/// The name of a metric.
pub(super) fn metric_name(metric: &Header, strategy: TranslationStrategy) -> String {
    match strategy {
        TranslationStrategy::UnderscoreEscapingWithSuffixes => classic_name(metric),
        TranslationStrategy::NoUTF8EscapingWithSuffixes => name_with_endings(metric),
        TranslationStrategy::NoTranslation => metric.name.clone(),
    }
}

/// The name of a label.
pub(super) fn label_name(name: &str, strategy: TranslationStrategy) -> String {
    match strategy {
        TranslationStrategy::UnderscoreEscapingWithSuffixes => classic_label(name),
        TranslationStrategy::NoUTF8EscapingWithSuffixes | TranslationStrategy::NoTranslation => name.to_owned(),
    }
}

/// The name as it was given, with the endings for unit, counter and ratio; one that is there already moves to the end.
fn name_with_endings(metric: &Header) -> String {
    let without = |name: &mut String, ending: &str| {
        // The character before it is taken for what divides the two.
        let rest = name.strip_suffix(ending).and_then(|rest| rest.char_indices().next_back());
        if let Some((at, _)) = rest.filter(|(at, _)| *at > 0) {
            name.truncate(at);
        }
    };
    let mut name = metric.name.clone();
    let kind = kind_ending(metric);
    kind.iter().for_each(|ending| without(&mut name, ending));
    let (main, per) = unit_suffixes(&metric.unit);
    let per = (!per.is_empty()).then(|| format!("per_{per}"));
    per.iter().for_each(|per| without(&mut name, per));
    let main = Some(main).filter(|main| !main.is_empty() && !name.ends_with(main.as_str()));
    for ending in main.iter().chain(&per).map(String::as_str).chain(kind) {
        name.push('_');
        name += ending;
    }
    name
}

/// What the kind of a metric adds to its name.
fn kind_ending(metric: &Header) -> Option<&'static str> {
    match metric.shape {
        Shape::Sum if metric.monotonic => Some("total"),
        // Some senders give things the unit 1, so only gauges are taken for ratios.
        Shape::Gauge if metric.unit == "1" => Some("ratio"),
        _ => None,
    }
}

/// The name in classic characters, with the endings for unit, counter and ratio.
fn classic_name(metric: &Header) -> String {
    let mut tokens: Vec<&str> = metric.name.split(|c| !is_metric_char(c)).filter(|token| !token.is_empty()).collect();
    let (main, per) = unit_suffixes(&metric.unit);
    let (main, per) = (clean_unit(&main), clean_unit(&per));
    let mut main = if tokens.contains(&main.as_str()) { "" } else { main.as_str() };
    let per = per.trim_end_matches('_');
    if !per.is_empty() {
        main = main.trim_end_matches('_');
    }
    if !main.is_empty() {
        tokens.push(main);
    }
    if !per.is_empty() {
        tokens.extend(["per", per]);
    }
    if let Some(ending) = kind_ending(metric) {
        tokens.retain(|token| *token != ending);
        tokens.push(ending);
    }
    let name = tokens.join("_");
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// What may not stand in a classic label becomes an underscore.
fn classic_label(name: &str) -> String {
    let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if clean.starts_with(|c: char| c.is_ascii_digit()) {
        format!("key_{clean}")
    } else if clean.starts_with('_') && !clean.starts_with("__") {
        format!("key{clean}")
    } else {
        clean
    }
}

fn is_metric_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

/// The words for what stands before and after the `/` of a unit; empty where there is none, or a remark in braces.
fn unit_suffixes(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let word = |unit: &str, word_of: fn(&str) -> Option<&'static str>| match unit.trim() {
        "" => String::new(),
        remark if remark.contains(['{', '}']) => String::new(),
        unit => word_of(unit).unwrap_or(unit).to_owned(),
    };
    (word(main, main_unit), word(per, per_unit))
}

fn main_unit(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        _ => return None,
    })
}

fn per_unit(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        _ => return None,
    })
}

/// Only what may stand in a name, without underscores in front or two in a row.
fn clean_unit(unit: &str) -> String {
    let mut clean = String::with_capacity(unit.len());
    for c in unit.chars() {
        let c = if is_metric_char(c) { c } else { '_' };
        if c != '_' || !clean.ends_with('_') {
            clean.push(c);
        }
    }
    clean.trim_start_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_metrics_as_prometheus_does() {
        let check = |name: &str, unit: &str, shape: Shape, monotonic: bool, expect: &str| {
            let header = Header {
                name: name.to_owned(),
                unit: unit.to_owned(),
                description: String::new(),
                shape,
                cumulative: true,
                monotonic,
            };
            assert_eq!(classic_name(&header), expect, "{name} {unit}");
        };
        check("http.server.duration", "ms", Shape::Histogram, false, "http_server_duration_milliseconds");
        check("system.io", "By", Shape::Sum, true, "system_io_bytes_total");
        check("network_transmitted_bytes_total", "By", Shape::Sum, true, "network_transmitted_bytes_total");
        check("active_requests", "{requests}", Shape::Sum, false, "active_requests");
        check("open.files", "1", Shape::Sum, false, "open_files");
        check("second.reads", "By/s", Shape::Gauge, false, "second_reads_bytes_per_second");
        check("hw.gpu.memory.utilization", "1", Shape::Gauge, false, "hw_gpu_memory_utilization_ratio");
        check("my.counter", "1", Shape::Sum, true, "my_counter_total");
        check("speed", "m/s", Shape::Gauge, false, "speed_meters_per_second");
        check("fs.read", "By/s", Shape::Gauge, false, "fs_read_bytes_per_second");
        check("load", "{x}/s", Shape::Gauge, false, "load_per_second");
        check("3.14 digits", "", Shape::Gauge, false, "_3_14_digits");
        check("foo__bar", "", Shape::Gauge, false, "foo_bar");
        check("a:b", "°F", Shape::Gauge, false, "a:b_F");
        check("total_time", "s", Shape::Sum, true, "time_seconds_total");
    }

    #[test]
    fn names_that_stay_as_they_are_get_the_endings_that_they_lack() {
        let cases = [
            ("requêsts", "", Shape::Sum, true, "requêsts_total"),
            ("requests_total", "", Shape::Sum, true, "requests_total"),
            ("requests.total", "", Shape::Sum, true, "requests_total"),
            ("total", "", Shape::Sum, true, "total_total"),
            ("cpu.seconds.total", "s", Shape::Sum, true, "cpu.seconds_total"),
            ("cpu.usage", "1", Shape::Gauge, false, "cpu.usage_ratio"),
            ("response.time", "ms", Shape::Histogram, false, "response.time_milliseconds"),
            ("response.seconds", "s", Shape::Histogram, false, "response.seconds"),
            ("requests", "1/s", Shape::Sum, true, "requests_per_second_total"),
            ("io", "By/s", Shape::Gauge, false, "io_bytes_per_second"),
            ("io.bytes.per_second", "By/s", Shape::Gauge, false, "io.bytes_per_second"),
            ("heat", "°F", Shape::Gauge, false, "heat_°F"),
            ("active", "{requests}", Shape::Sum, false, "active"),
        ];
        for (name, unit, shape, monotonic, expect) in cases {
            let header = Header {
                name: name.to_owned(),
                unit: unit.to_owned(),
                description: String::new(),
                shape,
                cumulative: true,
                monotonic,
            };
            assert_eq!(metric_name(&header, TranslationStrategy::NoUTF8EscapingWithSuffixes), expect, "{name} {unit}");
            assert_eq!(metric_name(&header, TranslationStrategy::NoTranslation), name);
        }
        assert_eq!(label_name("http.status_code", TranslationStrategy::NoTranslation), "http.status_code");
    }

    #[test]
    fn names_labels_as_prometheus_does() {
        for (name, expect) in [
            ("http.status_code", "http_status_code"),
            ("2xx", "key_2xx"),
            ("_a", "key_a"),
            ("__a", "__a"),
            ("ä", "key_"),
        ] {
            assert_eq!(classic_label(name), expect);
        }
    }
}
