//! How long an error budget lasts.
//!
//! Invariant: pure. The budget is that of a whole window, so a burn of 1 uses it up in exactly one window.

use std::time::Duration;

/// What becomes of the budget if events go on as they do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Forecast {
    /// There is none left.
    Gone,
    /// It burns slower than old errors leave the window.
    Lasts,
    /// It is gone in that time.
    GoneIn(Duration),
    /// Too little is known.
    Unknown,
}

impl Forecast {
    /// From the share that is left, the burn rate, and the window's length.
    pub(super) fn of(remaining: Option<f64>, burn: Option<f64>, window: Duration) -> Self {
        match (remaining, burn) {
            (Some(left), _) if left <= 0.0 => Self::Gone,
            (Some(_), Some(burn)) if burn <= 1.0 => Self::Lasts,
            (Some(left), Some(burn)) if left.is_finite() && burn.is_finite() => {
                Self::GoneIn(window.mul_f64((left / burn).clamp(0.0, 1.0)))
            }
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burn_of_one_uses_the_budget_in_one_window() {
        const DAY: Duration = Duration::from_secs(86_400);
        let of = |left, burn| Forecast::of(left, burn, DAY * 30);
        assert_eq!(of(Some(1.0), Some(10.0)), Forecast::GoneIn(DAY * 3));
        assert_eq!(of(Some(0.5), Some(2.0)), Forecast::GoneIn(DAY * 15 / 2));
        assert_eq!(of(Some(0.5), Some(1.0)), Forecast::Lasts);
        assert_eq!(of(Some(-0.1), Some(0.0)), Forecast::Gone);
        assert_eq!(of(Some(0.5), None), Forecast::Unknown);
        assert_eq!(of(None, Some(2.0)), Forecast::Unknown);
        assert_eq!(of(Some(f64::NAN), Some(2.0)), Forecast::Unknown);
    }
}
