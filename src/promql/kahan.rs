//! Sums that keep what addition rounds away (Kahan–Neumaier), as Prometheus sums.

/// A running sum and its compensation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub sum: f64,
    pub compensation: f64,
}

impl Sum {
    #[inline]
    pub fn of(first: f64) -> Self {
        Self { sum: first, compensation: 0.0 }
    }

    /// Adds `value`.
    #[inline]
    pub fn plus(self, value: f64) -> Self {
        let sum = self.sum + value;
        let compensation = if sum.is_infinite() {
            0.0
        } else if self.sum.abs() >= value.abs() {
            self.compensation + ((self.sum - sum) + value)
        } else {
            self.compensation + ((value - sum) + self.sum)
        };
        Self { sum, compensation }
    }

    /// The sum with what was rounded away.
    #[inline]
    pub fn total(self) -> f64 {
        self.sum + self.compensation
    }
}

/// A running mean: sum and count, until the sum would overflow; from then on the mean itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mean {
    sum: Sum,
    count: f64,
    incremental: bool,
}

impl Mean {
    #[inline]
    pub fn of(first: f64) -> Self {
        Self { sum: Sum::of(first), count: 1.0, incremental: false }
    }

    /// Adds `value`.
    #[inline]
    pub fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let next = self.sum.plus(value);
            if !next.sum.is_infinite() {
                self.sum = next;
                return;
            }
            self.incremental = true;
            self.sum.sum /= self.count - 1.0;
            self.sum.compensation /= self.count - 1.0;
        }
        let weight = (self.count - 1.0) / self.count;
        let mean = Sum { sum: weight * self.sum.sum, compensation: weight * self.sum.compensation };
        self.sum = mean.plus(value / self.count);
    }

    /// The mean.
    #[inline]
    pub fn get(self) -> f64 {
        if self.incremental {
            return self.sum.total();
        }
        self.sum.sum / self.count + self.sum.compensation / self.count
    }
}

/// The quantile `q` of `values` (sorted by this, NaN first), linear between neighbours.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(nan_first);
    let last = (values.len() - 1) as f64;
    let rank = q * last;
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(last);
    let weight = rank - rank.floor();
    values[lower as usize] * (1.0 - weight) + values[upper as usize] * weight
}

/// Orders numbers, NaN before all.
pub(super) fn nan_first(a: &f64, b: &f64) -> std::cmp::Ordering {
    b.is_nan().cmp(&a.is_nan()).then(a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_addition_rounds_away_and_does_not_overflow_in_a_mean() {
        let sum = [1.0, 1e100, 1.0, -1e100].into_iter().fold(Sum::default(), Sum::plus);
        assert_eq!(sum.total(), 2.0);
        let mut mean = Mean::of(f64::MAX);
        mean.add(f64::MAX);
        assert_eq!(mean.get(), f64::MAX);
        let mut infinite = Mean::of(f64::INFINITY);
        infinite.add(1.0);
        assert_eq!(infinite.get(), f64::INFINITY);
    }

    #[test]
    fn interpolates_quantiles() {
        assert_eq!(quantile(0.5, &mut [3.0, 1.0, 2.0, 4.0]), 2.5);
        assert_eq!(quantile(-1.0, &mut [1.0]), f64::NEG_INFINITY);
        assert!(quantile(0.5, &mut []).is_nan());
    }
}
