//! One measured value, and the mark that says a series has ended.

use super::Timestamp;

/// The bit pattern of a stale marker: a NaN that no arithmetic makes (Prometheus `value.StaleNaN`).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The stale marker as a value. Compare with [`is_stale`], never with `==`.
pub fn stale_marker() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether `value` is the stale marker (an ordinary NaN is not).
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// One value at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When it was measured.
    pub at: Timestamp,
    /// What was measured, in the metric's own unit.
    pub value: f64,
}
