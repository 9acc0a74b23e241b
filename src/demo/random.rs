//! A small deterministic random source: the same seed gives the same mesh, second by second.
//!
//! In: a seed. Out: numbers of the distributions traffic needs. Not for secrets.

/// SplitMix64: one word of state, good enough for traffic.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Starts at `seed`.
    pub const fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Sixty-four bits that are not all zero: a span id.
    pub fn id(&mut self) -> u64 {
        self.bits().max(1)
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether an event of probability `share` happens.
    pub fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.unit() < share
    }

    /// Uniform in `0..count`; 0 when `count` is 0.
    pub fn below(&mut self, count: usize) -> usize {
        ((self.unit() * count as f64) as usize).min(count.saturating_sub(1))
    }

    /// Index of one of `weights`, each as likely as its weight.
    pub fn weighted(&mut self, weights: impl Iterator<Item = u32> + Clone) -> usize {
        let total: u32 = weights.clone().sum();
        let mut left = self.unit() * f64::from(total);
        for (index, weight) in weights.enumerate() {
            left -= f64::from(weight);
            if left < 0.0 {
                return index;
            }
        }
        0
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.unit(), self.unit());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Lognormal with that median; `spread` is the standard deviation of its logarithm.
    pub fn lognormal(&mut self, median: f64, spread: f64) -> f64 {
        median * (spread * self.normal()).exp()
    }

    /// Poisson with that mean (Knuth's product; the mean is small here, it is capped at 500).
    pub fn poisson(&mut self, mean: f64) -> usize {
        let limit = (-mean.clamp(0.0, 500.0)).exp();
        let (mut count, mut product) = (0, self.unit());
        while product > limit {
            count += 1;
            product *= self.unit();
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn equal_seeds_give_equal_numbers() {
        let (mut a, mut b) = (Random::seeded(7), Random::seeded(7));
        assert!((0..100).all(|_| a.bits() == b.bits()));
    }

    #[test]
    fn distributions_have_their_mean() {
        let mut random = Random::seeded(1);
        let poisson: usize = (0..10_000).map(|_| random.poisson(30.0)).sum();
        assert!((295_000..305_000).contains(&poisson), "{poisson}");
        let mut values: Vec<f64> = (0..10_001).map(|_| random.lognormal(25.0, 0.5)).collect();
        values.sort_by(f64::total_cmp);
        assert!((24.0..26.0).contains(&values[5_000]), "{}", values[5_000]);
        let second = (0..10_000).filter(|_| random.weighted([90, 10].into_iter()) == 1).count();
        assert!((900..1_100).contains(&second), "{second}");
    }
}
