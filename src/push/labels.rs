//! The labels of a series as they were sent: their key, and whether they are good.
//!
//! Pure. Invariant: equal pairs in the same order have the same key, and no other pairs have it.

use crate::model::{Labels, METRIC_NAME};

use super::Config;

/// Why a series is refused. Texts are those of Prometheus' remote write handler where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// No metric name, or a name or value that is empty or not UTF-8.
    #[error("invalid metric name or labels, got {labels}")]
    Invalid {
        /// The labels as far as they can be shown.
        labels: String,
    },
    /// A label is there twice.
    #[error("invalid labels for series, labels {labels}, duplicated label {name}")]
    Duplicate {
        /// The labels.
        labels: String,
        /// The one that is there twice.
        name: String,
    },
    /// More or longer labels than the limits allow.
    #[error("{reason} for series {labels}")]
    Limit {
        /// Which limit.
        reason: String,
        /// The labels, cut.
        labels: String,
    },
    /// The memory tier is full.
    #[error("{reason}, so {labels} is not stored")]
    Full {
        /// Which limit.
        reason: String,
        /// The labels, cut.
        labels: String,
    },
}

/// Name and value of a label, not yet known to be UTF-8.
pub(super) type RawPair<'a> = (&'a [u8], &'a [u8]);

/// Writes the key of the pairs into `key`.
pub(super) fn write_key(pairs: &[RawPair<'_>], key: &mut Vec<u8>) {
    key.clear();
    for (name, value) in pairs {
        for text in [name, value] {
            key.extend_from_slice(&(text.len() as u32).to_le_bytes());
            key.extend_from_slice(text);
        }
    }
}

/// The labels that a key was made of.
pub(super) fn labels_of_key(mut key: &[u8]) -> Labels {
    let mut texts = Vec::new();
    while let Some((length, rest)) = key.split_first_chunk() {
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).unwrap_or((rest, &[]));
        texts.push(String::from_utf8_lossy(text));
        key = rest;
    }
    texts.chunks_exact(2).map(|pair| (&*pair[0], &*pair[1])).collect()
}

/// The labels of the pairs, when they are good. Order does not matter; a label with an empty value is absent.
pub(super) fn check(pairs: &[RawPair<'_>], config: &Config) -> Result<Labels, SeriesError> {
    if pairs.len() > config.labels_per_series {
        let (count, limit) = (pairs.len(), config.labels_per_series);
        let reason = format!("label limit exceeded (number of labels: {count}, push.labels_per_series: {limit})");
        return Err(SeriesError::Limit { reason, labels: shown(pairs) });
    }
    let mut texts = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let (Ok(name), Ok(value)) = (str::from_utf8(name), str::from_utf8(value)) else {
            return Err(SeriesError::Invalid { labels: shown(pairs) });
        };
        for (what, text, limit, key) in [
            ("label name", name, config.label_name_bytes, "push.label_name_bytes"),
            ("label value", value, config.label_value_bytes, "push.label_value_bytes"),
        ] {
            if text.len() > limit {
                let reason = format!("{what} too long (length: {}, {key}: {limit})", text.len());
                return Err(SeriesError::Limit { reason, labels: shown(pairs) });
            }
        }
        texts.push((name, value));
    }
    texts.sort_unstable();
    let named = texts.iter().any(|(name, value)| *name == METRIC_NAME && !value.is_empty());
    if !named || texts.iter().any(|(name, _)| name.is_empty()) {
        return Err(SeriesError::Invalid { labels: shown(pairs) });
    }
    if let Some(twice) = texts.windows(2).find(|two| two[0].0 == two[1].0) {
        return Err(SeriesError::Duplicate { labels: shown(pairs), name: twice[0].0.to_owned() });
    }
    Ok(texts.into_iter().collect())
}

/// Pairs as Prometheus prints labels, cut to a readable length.
pub(super) fn shown(pairs: &[RawPair<'_>]) -> String {
    const SHOWN_LABELS: usize = 32;
    const SHOWN_CHARS: usize = 120;
    let mut sorted: Vec<&RawPair<'_>> = pairs.iter().collect();
    sorted.sort_unstable();
    let text = |bytes: &[u8]| {
        let whole = String::from_utf8_lossy(bytes);
        whole.chars().take(SHOWN_CHARS).collect::<String>()
    };
    let one = |(name, value): &&RawPair<'_>| format!("{}={:?}", text(name), text(value));
    let rest = if sorted.len() > SHOWN_LABELS { ", …" } else { "" };
    let list: Vec<String> = sorted.iter().take(SHOWN_LABELS).map(one).collect();
    format!("{{{}{rest}}}", list.join(", "))
}
