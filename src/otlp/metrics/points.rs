//! From data points to series and samples.
//!
//! The rules are those of Prometheus 3.5 (`storage/remote/otlptranslator/prometheusremotewrite`): which series a point
//! becomes, where its labels come from, what a resource is worth (`job`, `instance`, `target_info`).

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValueKind;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, HistogramDataPoint, SummaryDataPoint, exemplar, number_data_point,
};

use super::names::{label_name, metric_name};
use super::{Header, POINTS_MAX, Point, Rejections, Shape};
use crate::model::{METRIC_NAME, Timestamp, stale_marker};
use crate::otlp::{json, json_scalars};
use crate::push::{Batch, Exemplar as PushedExemplar, MetricKind, SeriesId, TranslationStrategy};

/// `DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK`.
const NO_RECORDED_VALUE: u32 = 1;
/// How far apart the samples of `target_info` are between the first and last point: half of the lookback.
const TARGET_INFO_STEP_MS: i64 = 150_000;
/// Most samples of `target_info` that one request writes for one resource.
const TARGET_INFO_MAX: usize = 1000;
/// Stands for the point of `target_info`, which no sender sent. Points count from 1.
pub(super) const OF_RESOURCE: usize = 0;
/// What names a resource; the rest of its attributes stand in `target_info`.
const IDENTIFYING: [&str; 3] = ["service.namespace", "service.name", "service.instance.id"];
/// An exemplar whose labels have more characters keeps only the ids of its trace.
const EXEMPLAR_CHARS_MAX: usize = 128;

/// Labels by name.
type LabelMap = BTreeMap<String, String>;

/// Turns the points of one request into a batch.
pub(super) struct Translator<'a, 'b> {
    batch: &'a mut Batch<'b>,
    resource: Vec<KeyValue>,
    /// Labels that each point of the resource has.
    shared: LabelMap,
    metric: Header,
    name: String,
    times_ms: Option<(i64, i64)>,
    points: usize,
    /// By [`SeriesId::index`], which point it is of.
    points_of_series: Vec<usize>,
    rejections: Rejections,
}

impl<'a, 'b> Translator<'a, 'b> {
    pub(super) fn new(batch: &'a mut Batch<'b>) -> Self {
        let metric = Header {
            name: String::new(),
            description: String::new(),
            unit: String::new(),
            shape: Shape::Gauge,
            cumulative: true,
            monotonic: false,
        };
        Self {
            batch,
            resource: Vec::new(),
            shared: LabelMap::new(),
            metric,
            name: String::new(),
            times_ms: None,
            points: 0,
            points_of_series: Vec::new(),
            rejections: Rejections::default(),
        }
    }

    /// What was not taken, and which point each series is of.
    pub(super) fn finish(self) -> (Rejections, Vec<usize>) {
        (self.rejections, self.points_of_series)
    }

    /// The points that follow are of this resource.
    pub(super) fn begin_resource(&mut self, attributes: Vec<KeyValue>) {
        let config = self.batch.config();
        let named =
            |pair: &KeyValue| (label_name(&pair.key, config.translation_strategy), as_text(pair.value.as_ref()));
        self.shared = attributes.iter().filter(|pair| config.promotes(&pair.key)).map(named).collect();
        (self.resource, self.times_ms) = (attributes, None);
    }

    /// Writes `target_info` of the resource, when it has points, a name, and something else to say.
    pub(super) fn end_resource(&mut self) {
        let Some((first, last)) = self.times_ms else { return };
        let others: Vec<&KeyValue> =
            self.resource.iter().filter(|pair| !IDENTIFYING.contains(&pair.key.as_str())).collect();
        if others.is_empty() {
            return;
        }
        let all: Vec<&KeyValue> = self.resource.iter().collect();
        let config = self.batch.config();
        let told = if config.keep_identifying_resource_attributes { &all } else { &others };
        let mut labels = joined(told, config.translation_strategy);
        self.add_identity(&mut labels);
        if !labels.contains_key("job") && !labels.contains_key("instance") {
            return;
        }
        labels.insert(METRIC_NAME.to_owned(), "target_info".to_owned());
        self.points += 1;
        let Some(series) = self.series(&labels) else { return };
        if let Some(point) = self.points_of_series.last_mut() {
            *point = OF_RESOURCE;
        }
        let between = (0..).map(|i| first + i * TARGET_INFO_STEP_MS).take_while(|at| *at < last);
        for at in between.take(TARGET_INFO_MAX).chain([last]) {
            self.batch.sample(series, Timestamp::from_millis(at), 1.0);
        }
    }

    /// The points that follow are of this metric.
    pub(super) fn begin_metric(&mut self, metric: Header) {
        self.name = metric_name(&metric, self.batch.config().translation_strategy);
        if metric.cumulative && !self.name.is_empty() {
            let kind = match metric.shape {
                Shape::Gauge => MetricKind::Gauge,
                Shape::Sum if metric.monotonic => MetricKind::Counter,
                Shape::Sum => MetricKind::Gauge,
                Shape::Histogram | Shape::ExponentialHistogram => MetricKind::Histogram,
                Shape::Summary => MetricKind::Summary,
            };
            self.batch.metadata(&self.name, kind, &metric.description, &metric.unit);
        }
        self.metric = metric;
    }

    /// Takes a point, or notes why not.
    pub(super) fn point(&mut self, point: &Point) {
        self.points += 1;
        let metric = &self.metric;
        let refused = if self.points > POINTS_MAX {
            Some(format!("more than {POINTS_MAX} in one request"))
        } else if self.name.is_empty() {
            Some("a metric has no name".to_owned())
        } else if !metric.cumulative {
            Some(format!(
                "invalid temporality and type combination for metric {:?} (only cumulative is taken)",
                metric.name
            ))
        } else if matches!(point, Point::Exponential) {
            Some(format!("native histograms are disabled, metric {:?} is an exponential histogram", metric.name))
        } else {
            None
        };
        if let Some(reason) = refused {
            return self.rejections.add(reason, 1);
        }
        match point {
            Point::Number(number) => {
                let value = match number.value {
                    Some(number_data_point::Value::AsDouble(value)) => value,
                    Some(number_data_point::Value::AsInt(value)) => value as f64,
                    None => 0.0,
                };
                let (at, labels) = self.origin(number.time_unix_nano, &number.attributes);
                let value = recorded(value, number.flags);
                if let Some(series) = self.one(&labels, "", None, (at, value)) {
                    number.exemplars.iter().for_each(|exemplar| self.exemplar(series, exemplar));
                }
            }
            Point::Histogram(histogram) => self.histogram(histogram),
            Point::Summary(summary) => self.summary(summary),
            Point::Exponential => {}
        }
    }

    fn histogram(&mut self, point: &HistogramDataPoint) {
        let (at, labels) = self.origin(point.time_unix_nano, &point.attributes);
        if let Some(sum) = point.sum {
            self.one(&labels, "_sum", None, (at, recorded(sum, point.flags)));
        }
        self.one(&labels, "_count", None, (at, recorded(point.count as f64, point.flags)));
        let (mut below, mut bounds) = (0_u64, Vec::new());
        for (bound, count) in point.explicit_bounds.iter().zip(&point.bucket_counts) {
            below = below.saturating_add(*count);
            let le = plain_float(*bound);
            let value = recorded(below as f64, point.flags);
            bounds.extend(self.one(&labels, "_bucket", Some(("le", &le)), (at, value)).map(|series| (*bound, series)));
        }
        let all = recorded(point.count as f64, point.flags);
        let infinite = self.one(&labels, "_bucket", Some(("le", "+Inf")), (at, all));
        bounds.extend(infinite.map(|series| (f64::INFINITY, series)));
        for exemplar in &point.exemplars {
            let value = exemplar_value(exemplar);
            if let Some((_, series)) = bounds.iter().find(|(bound, _)| value <= *bound) {
                self.exemplar(*series, exemplar);
            }
        }
    }

    fn summary(&mut self, point: &SummaryDataPoint) {
        let (at, labels) = self.origin(point.time_unix_nano, &point.attributes);
        self.one(&labels, "_sum", None, (at, recorded(point.sum, point.flags)));
        self.one(&labels, "_count", None, (at, recorded(point.count as f64, point.flags)));
        for quantile in &point.quantile_values {
            let label = plain_float(quantile.quantile);
            self.one(&labels, "", Some(("quantile", &label)), (at, recorded(quantile.value, point.flags)));
        }
    }

    /// Time and labels of a point; the time counts for `target_info`.
    fn origin(&mut self, time_ns: u64, attributes: &[KeyValue]) -> (Timestamp, LabelMap) {
        let at = Timestamp::from_nanos(time_ns);
        let ms = at.as_millis();
        self.times_ms = Some(self.times_ms.map_or((ms, ms), |(first, last)| (first.min(ms), last.max(ms))));
        let attributes: Vec<&KeyValue> = attributes.iter().collect();
        let mut labels = joined(&attributes, self.batch.config().translation_strategy);
        for (name, value) in &self.shared {
            labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        self.add_identity(&mut labels);
        (at, labels)
    }

    /// `job` and `instance`, from what names the resource.
    fn add_identity(&self, labels: &mut LabelMap) {
        let of = |key: &str| {
            let pair = self.resource.iter().find(|pair| pair.key == key);
            pair.map(|pair| as_text(pair.value.as_ref()))
        };
        if let Some(service) = of("service.name") {
            let job = match of("service.namespace") {
                Some(namespace) => format!("{namespace}/{service}"),
                None => service,
            };
            labels.insert("job".to_owned(), job);
        }
        if let Some(instance) = of("service.instance.id") {
            labels.insert("instance".to_owned(), instance);
        }
    }

    /// One sample of one series of the metric.
    fn one(
        &mut self,
        labels: &LabelMap,
        ending: &str,
        extra: Option<(&str, &str)>,
        (at, value): (Timestamp, f64),
    ) -> Option<SeriesId> {
        let mut labels = labels.clone();
        labels.extend(extra.map(|(name, value)| (name.to_owned(), value.to_owned())));
        labels.insert(METRIC_NAME.to_owned(), format!("{}{ending}", self.name));
        let series = self.series(&labels)?;
        self.batch.sample(series, at, value);
        Some(series)
    }

    fn series(&mut self, labels: &LabelMap) -> Option<SeriesId> {
        let pairs: Vec<(&[u8], &[u8])> =
            labels.iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        match self.batch.series(&pairs) {
            Ok(series) => {
                self.points_of_series.push(self.points);
                Some(series)
            }
            Err(error) => {
                self.rejections.add(error.to_string(), 1);
                None
            }
        }
    }

    fn exemplar(&mut self, series: SeriesId, exemplar: &Exemplar) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut ids = Vec::new();
        if exemplar.trace_id.iter().any(|byte| *byte != 0) {
            ids.push(("trace_id".to_owned(), hex(&exemplar.trace_id)));
        }
        if exemplar.span_id.iter().any(|byte| *byte != 0) {
            ids.push(("span_id".to_owned(), hex(&exemplar.span_id)));
        }
        let others = exemplar.filtered_attributes.iter().map(|pair| (pair.key.clone(), as_text(pair.value.as_ref())));
        let all: Vec<(String, String)> = ids.iter().cloned().chain(others).collect();
        let chars: usize = all.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        let labels = if chars <= EXEMPLAR_CHARS_MAX { all } else { ids };
        let at = Timestamp::from_nanos(exemplar.time_unix_nano);
        let labels = labels.into_iter().collect();
        self.batch.exemplar(series, PushedExemplar { labels, value: exemplar_value(exemplar), at });
    }
}

/// Attributes as labels; values of names that become one are joined with a semicolon, in the order of their names.
fn joined(attributes: &[&KeyValue], strategy: TranslationStrategy) -> LabelMap {
    let mut sorted = attributes.to_vec();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    let mut labels = LabelMap::new();
    for pair in sorted.into_iter().filter(|pair| !pair.key.is_empty()) {
        let value = as_text(pair.value.as_ref());
        match labels.entry(label_name(&pair.key, strategy)) {
            std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(value)),
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                entry.get_mut().push(';');
                entry.get_mut().push_str(&value);
            }
        }
    }
    labels
}

fn recorded(value: f64, flags: u32) -> f64 {
    if flags & NO_RECORDED_VALUE != 0 { stale_marker() } else { value }
}

fn exemplar_value(exemplar: &Exemplar) -> f64 {
    match exemplar.value {
        Some(exemplar::Value::AsDouble(value)) => value,
        Some(exemplar::Value::AsInt(value)) => value as f64,
        None => 0.0,
    }
}

/// As Go's `FormatFloat(v, 'f', -1, 64)`.
fn plain_float(value: f64) -> String {
    match () {
        () if value == f64::INFINITY => "+Inf".to_owned(),
        () if value == f64::NEG_INFINITY => "-Inf".to_owned(),
        () => value.to_string(),
    }
}

/// An attribute's value as text, as the collector prints it.
fn as_text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.clone()) {
        None => String::new(),
        Some(AnyValueKind::StringValue(text)) => text,
        Some(AnyValueKind::BoolValue(value)) => value.to_string(),
        Some(AnyValueKind::IntValue(value)) => value.to_string(),
        Some(AnyValueKind::DoubleValue(value)) => plain_float(value),
        Some(AnyValueKind::BytesValue(bytes)) => json_scalars::base64_encode(&bytes),
        Some(other) => json::from_any(other).to_string(),
    }
}
