//! When a group is evaluated: Prometheus' shift of a group within its interval, so that an alert begins and fires at the
//! same evaluations there and here.
//!
//! In: file, name and interval. Out: the shift. Rule: P:rules/group.go `EvalTimestamp`, over `Labels.Hash` of the builds
//! that Prometheus 3 releases (P:model/labels/labels_stringlabels.go): XXH64 of all names and values, each after its
//! length.

use std::time::Duration;

use xxhash_rust::xxh64::xxh64;

/// How far evaluations are shifted from multiples of `interval`, in whole milliseconds, as the times of samples are.
pub(super) fn offset(file: &str, name: &str, interval: Duration) -> Duration {
    let mut labels = Vec::with_capacity(file.len() + name.len() + 16);
    ["file", file, "name", name].into_iter().for_each(|text| push(&mut labels, text));
    let interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(xxh64(&labels, 0) % interval_ns / 1_000_000)
}

/// One byte of length below 255, else a mark and three.
fn push(out: &mut Vec<u8>, text: &str) {
    match u8::try_from(text.len()) {
        Ok(length) if length < u8::MAX => out.push(length),
        _ => {
            out.push(u8::MAX);
            out.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
        }
    }
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stand_where_prometheus_puts_them() {
        // Times at which Prometheus 3.5.3 evaluated these groups of this file.
        let file = "/tmp/meshscope-e2e-differential-g1c4m85x/differential.yaml";
        let offset = |name, seconds| offset(file, name, Duration::from_secs(seconds)).as_millis();
        assert_eq!((offset("recorded", 5), offset("alerts", 5)), (2509, 757));
    }

    #[test]
    fn a_long_text_has_a_length_of_four_bytes() {
        let lengths = [0, 254, 255, 70_000].map(|length| {
            let mut out = Vec::new();
            push(&mut out, &"x".repeat(length));
            out.len() - length
        });
        assert_eq!(lengths, [1, 1, 4, 4]);
    }
}
