//! Whether a share that was seen is what was declared: an exact binomial test for few calls, a z-test for many.
//!
//! In: how many of how many, and the declared share. Out: the probability to see something so far off, or further, when
//! the declared share holds. Pure.

/// How sure a finding is: one in a thousand would be seen by chance.
pub(crate) const SIGNIFICANCE: f64 = 0.001;
/// From how many expected calls of each kind on the normal distribution is near enough.
const NORMAL_FROM: f64 = 10.0;
/// Where the exact test ends: beyond it the normal one is used all the same.
const EXACT_MAX: f64 = 5_000.0;

/// What a test says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tested {
    /// The share that was seen.
    pub(crate) share: f64,
    /// Probability of a share so far off or further, both sides.
    pub(crate) p: f64,
    /// How many standard deviations off; none: the exact test.
    pub(crate) z: Option<f64>,
}

impl Tested {
    /// Whether chance does not explain it.
    pub(crate) fn is_significant(&self) -> bool {
        self.p < SIGNIFICANCE
    }

    /// `z = 12.3, confidence over 99.9 %`, or `exact binomial test, p = 0.0004`.
    pub(crate) fn said(&self) -> String {
        match self.z {
            Some(z) if self.is_significant() => format!("z = {z:.1}, confidence over 99.9 %"),
            Some(z) => format!("z = {z:.1}, p = {:.3}", self.p),
            None => format!("exact binomial test, p = {:.2e}", self.p),
        }
    }
}

/// Tests `seen` of `all` calls against a share between 0 and 1. Counts may be fractions; they are rounded.
pub(crate) fn share(seen: f64, all: f64, declared: f64) -> Tested {
    let (seen, all) = (seen.round().max(0.0), all.round().max(1.0));
    let seen = seen.min(all);
    let share = seen / all;
    let (expected, others) = (all * declared, all * (1.0 - declared));
    if expected <= 0.0 || others <= 0.0 {
        // Nothing, or everything, was declared: a single call of the other kind contradicts.
        let p = if (share - declared).abs() > 0.0 { 0.0 } else { 1.0 };
        return Tested { share, p, z: None };
    }
    if (expected >= NORMAL_FROM && others >= NORMAL_FROM) || all > EXACT_MAX {
        let z = (share - declared) / (declared * (1.0 - declared) / all).sqrt();
        return Tested { share, p: complementary_error(z.abs() / std::f64::consts::SQRT_2), z: Some(z) };
    }
    Tested { share, p: exact(seen, all, declared), z: None }
}

/// Sum of the probabilities of all outcomes that are no likelier than the one seen.
fn exact(seen: f64, all: f64, declared: f64) -> f64 {
    let (success, failure) = (declared.ln(), (1.0 - declared).ln());
    // ln C(n, k) grows by ln((n − k + 1) / k).
    let mut choose = 0.0;
    let mut logs = Vec::with_capacity(all as usize + 1);
    for k in 0..=(all as u64) {
        let k = k as f64;
        if k > 0.0 {
            choose += ((all - k + 1.0) / k).ln();
        }
        logs.push(choose + k * success + (all - k) * failure);
    }
    let own = logs.get(seen as usize).copied().unwrap_or(f64::NEG_INFINITY);
    // Equal outcomes must not be lost to rounding.
    logs.iter().filter(|log| **log <= own + 1e-9).map(|log| log.exp()).sum::<f64>().min(1.0)
}

/// erfc for x ≥ 0, to 1.2·10⁻⁷ of itself (Numerical Recipes' Chebyshev fit).
fn complementary_error(x: f64) -> f64 {
    const FIT: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let t = 1.0 / (1.0 + 0.5 * x);
    let series = FIT.iter().rev().fold(0.0, |sum, factor| sum * t + factor);
    t * (series - x * x).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_told_from_drift() {
        // (seen, of, declared, significant)
        let cases = [
            (100.0, 1_000.0, 0.1, false),
            (115.0, 1_000.0, 0.1, false),
            (200.0, 1_000.0, 0.1, true),
            (0.0, 1_000.0, 0.1, true),
            (3.0, 40.0, 0.1, false),
            (16.0, 40.0, 0.1, true),
            (0.0, 40.0, 0.1, false),
            (1.0, 50.0, 0.0, true),
            (0.0, 50.0, 0.0, false),
            (50.0, 50.0, 1.0, false),
            (49.0, 50.0, 1.0, true),
        ];
        for (seen, all, declared, wanted) in cases {
            let tested = share(seen, all, declared);
            assert_eq!(tested.is_significant(), wanted, "{seen} of {all} at {declared}: {tested:?}");
        }
    }

    #[test]
    fn probabilities_are_those_of_tables() {
        let z = share(130.0, 1_000.0, 0.1);
        assert!((z.z.unwrap_or(0.0) - 3.162).abs() < 0.001 && (z.p - 0.001_565).abs() < 1e-5, "{z:?}");
        // Two heads of ten throws, or fewer, or as far off on the other side: 2 · 56 / 1024.
        let exact = share(2.0, 10.0, 0.5);
        assert!((exact.p - 112.0 / 1_024.0).abs() < 1e-9, "{exact:?}");
    }
}
