//! Ranges that are too narrow for thinned samples.
//!
//! History beyond `storage.retention.raw` has about one sample each five minutes, so `rate(x[1m])` would find none or one
//! there. The window of functions that need two samples is widened to hold them, only where samples are thinned, and the
//! answer says so. Rates stay rates; an increase is scaled back to the range that was asked for.
//!
//! Functions that weigh or count samples cannot be mended so: thinning keeps extremes and last values, not all. Their
//! answer says that it is of the kept samples; so does that of the others when the range is too short to hold one.

use super::eval::{Evaluator, RangeVector};
use super::functions::RangeRule;
use super::table::Grid;
use crate::series::THINNED_STEP;
use crate::units::PromDuration;

/// Functions that give nothing without two samples.
const FUNCTIONS: [&str; 7] = ["rate", "increase", "irate", "delta", "idelta", "deriv", "predict_linear"];
/// A window that holds two samples which are at most [`THINNED_STEP`] apart, wherever it lies.
const WIDENED_MS: i64 = 2 * THINNED_STEP.as_millis() as i64;

/// By how much the range of a selector below `function` must be widened where samples are thinned.
pub(super) fn missing_ms(function: &str, range_ms: Option<i64>) -> i64 {
    match range_ms {
        Some(range_ms) if FUNCTIONS.contains(&function) => (WIDENED_MS - range_ms).max(0),
        _ => 0,
    }
}

fn needs_two(rule: RangeRule) -> bool {
    use RangeRule::{Delta, Deriv, Idelta, Increase, Irate, PredictLinear, Rate};
    matches!(rule, Rate | Increase | Irate | Delta | Idelta | Deriv | PredictLinear)
}

/// Whether the value depends on how many samples there are, not only on the extreme and last ones that thinning keeps.
fn weighs_samples(rule: RangeRule) -> bool {
    use RangeRule::{Avg, Changes, Count, DoubleExponentialSmoothing, Mad, Quantile, Stddev, Stdvar, Sum};
    matches!(rule, Sum | Avg | Count | Stddev | Stdvar | Mad | Quantile | Changes | DoubleExponentialSmoothing)
}

/// Widens the windows that reach into thinned samples, with a warning when there are any.
pub(super) fn widen(evaluator: &Evaluator<'_>, rule: RangeRule, vector: &mut RangeVector<'_>, grid: Grid) {
    if grid.steps == 0 || vector.window(grid, 0).0 >= vector.thinned_until_ms {
        return;
    }
    if !needs_two(rule) {
        if weighs_samples(rule) || vector.range_ms < THINNED_STEP.as_millis() as i64 {
            let message = "samples are thinned to about one each 5m here, so the value is that of the kept ones";
            evaluator.warn(message.to_owned(), vector.span);
        }
        return;
    }
    if vector.range_ms >= WIDENED_MS {
        return;
    }
    vector.widened_until_ms = vector.thinned_until_ms;
    let asked = PromDuration::from(std::time::Duration::from_millis(vector.range_ms.unsigned_abs()));
    let message = format!("range of {asked} widened to 10m where samples are thinned to one each 5m");
    evaluator.warn(message, vector.span);
}

/// The start of a widened window.
pub(super) fn start(end: i64, range_ms: i64) -> i64 {
    end - range_ms.max(WIDENED_MS)
}

/// What to multiply the result over a window of `width_ms` with.
pub(super) fn share(rule: RangeRule, range_ms: i64, width_ms: i64) -> f64 {
    let is_total = matches!(rule, RangeRule::Increase | RangeRule::Delta);
    if is_total && width_ms != range_ms { range_ms as f64 / width_ms as f64 } else { 1.0 }
}
