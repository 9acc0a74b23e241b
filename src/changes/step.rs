//! Whether a share made a step at a moment: a Bayesian test for one change point in counts by the minute.
//!
//! Three things may be: nothing changed; something unrelated made a step at a random minute; or the change made a step in
//! the minutes after it. Each side of a step is a share with Jeffreys' prior, so its likelihood is the beta-binomial
//! integral, and the likelihood of a step is the product of its two sides (A. F. M. Smith, "A Bayesian approach to inference
//! about a change-point in a sequence of random variables", Biometrika 62, 1975). Minutes of real traffic scatter more than
//! a binomial does: counts are divided by Pearson's dispersion of the best fit (P. McCullagh, J. A. Nelder, "Generalized
//! Linear Models", 2nd ed., 4.5). What is returned is the posterior of the third; docs/changes.md tells it at length.

/// How many minutes after its own a change may take to show: proxies get it in seconds, connections drain, pods roll.
pub(super) const LAG: usize = 5;
/// Unrelated steps of one edge in a day.
const RANDOM_STEPS_A_DAY: f64 = 1.0;
const MINUTES_A_DAY: f64 = 1440.0;
/// Fewest requests before and after.
const REQUESTS_MIN: (f64, f64) = (30.0, 20.0);
/// Fewest minutes with traffic before and after.
const MINUTES_MIN: (usize, usize) = (3, 2);

/// A step that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// That the change made it.
    pub probability: f64,
    /// The first minute after it.
    pub at: usize,
    /// The share before.
    pub before: f64,
    /// The share after.
    pub after: f64,
    /// Requests before and after.
    pub requests: (f64, f64),
}

/// Tests whether `bad` of `all`, minute by minute, made a step at or shortly after the minute `change`. `prior` is the
/// probability, before anything is looked at, that the change touches this share. None: too little traffic to tell.
pub fn step(bad: &[f64], all: &[f64], change: usize, prior: f64) -> Option<Step> {
    let minutes = bad.len().min(all.len());
    if change == 0 || change >= minutes {
        return None;
    }
    let sums = Sums::of(&bad[..minutes], &all[..minutes]);
    let zone = change..(change + LAG + 1).min(minutes);
    let enough = |at: &usize| {
        let (before, after) = (sums.between(0, *at), sums.between(*at, minutes));
        before.1 >= REQUESTS_MIN.0
            && after.1 >= REQUESTS_MIN.1
            && busy(&all[..*at]) >= MINUTES_MIN.0
            && busy(&all[*at..minutes]) >= MINUTES_MIN.1
    };
    let zone: Vec<usize> = zone.filter(enough).collect();
    if zone.is_empty() {
        return None;
    }
    let scatter = dispersion(&bad[..minutes], &all[..minutes], &sums);
    let evidence = |from: usize, to: usize| {
        let (bad, all) = sums.between(from, to);
        evidence(bad / scatter, all / scatter)
    };
    let nothing = evidence(0, minutes);
    let steps: Vec<f64> = (1..minutes).map(|at| evidence(0, at) + evidence(at, minutes)).collect();
    let top = steps.iter().copied().fold(nothing, f64::max);
    let random = (RANDOM_STEPS_A_DAY * minutes as f64 / MINUTES_A_DAY).min(0.5);
    let weight = |log: f64| (log - top).exp();
    let by_chance = random / steps.len() as f64 * steps.iter().map(|log| weight(*log)).sum::<f64>();
    let caused: Vec<f64> = zone.iter().map(|at| prior / zone.len() as f64 * weight(steps[at - 1])).collect();
    let by_change: f64 = caused.iter().sum();
    let by_nothing = (1.0 - prior - random).max(0.0) * weight(nothing);
    let best = caused.iter().enumerate().max_by(|one, other| one.1.total_cmp(other.1)).map(|(place, _)| zone[place])?;
    let (before, after) = (sums.between(0, best), sums.between(best, minutes));
    Some(Step {
        probability: by_change / (by_change + by_chance + by_nothing),
        at: best,
        before: before.0 / before.1,
        after: after.0 / after.1,
        requests: (before.1, after.1),
    })
}

fn busy(all: &[f64]) -> usize {
    all.iter().filter(|count| **count > 0.0).count()
}

/// Running sums, so that any stretch costs one look.
struct Sums(Vec<(f64, f64)>);

impl Sums {
    fn of(bad: &[f64], all: &[f64]) -> Self {
        let mut sums = vec![(0.0, 0.0)];
        for (bad, all) in bad.iter().zip(all) {
            let (bads, alls) = sums.last().copied().unwrap_or_default();
            // Increments are fractions where scrapes cross minutes; more bad than all would be no share.
            sums.push((bads + bad.clamp(0.0, all.max(0.0)), alls + all.max(0.0)));
        }
        Self(sums)
    }

    fn between(&self, from: usize, to: usize) -> (f64, f64) {
        let (one, other) = (self.0[from], self.0[to]);
        (other.0 - one.0, other.1 - one.1)
    }
}

/// Pearson's dispersion around the best step: 1 for binomial minutes, more for those that scatter more.
fn dispersion(bad: &[f64], all: &[f64], sums: &Sums) -> f64 {
    let minutes = bad.len();
    let likelihood = |at: usize| {
        let of = |from, to| {
            let (bad, all) = sums.between(from, to);
            entropy(bad, all)
        };
        of(0, at) + of(at, minutes)
    };
    let best = (1..minutes).max_by(|one, other| likelihood(*one).total_cmp(&likelihood(*other))).unwrap_or(1);
    let (mut sum, mut counted) = (0.0, 0_usize);
    for (from, to) in [(0, best), (best, minutes)] {
        let (bads, alls) = sums.between(from, to);
        let share = bads / alls;
        if !(share > 0.0 && share < 1.0) {
            continue;
        }
        for at in from..to {
            if all[at] > 0.0 {
                let expected = all[at] * share;
                sum += (bad[at] - expected).powi(2) / (expected * (1.0 - share));
                counted += 1;
            }
        }
    }
    if counted <= 2 { 1.0 } else { (sum / (counted - 2) as f64).max(1.0) }
}

/// The largest log-likelihood of a stretch.
fn entropy(bad: f64, all: f64) -> f64 {
    let term = |part: f64| if part > 0.0 { part * (part / all).ln() } else { 0.0 };
    if all > 0.0 { term(bad) + term(all - bad) } else { 0.0 }
}

/// The logarithm of the beta-binomial integral with Jeffreys' prior, Beta(½, ½).
fn evidence(bad: f64, all: f64) -> f64 {
    ln_beta(bad + 0.5, all - bad + 0.5) - std::f64::consts::PI.ln()
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// Lanczos' approximation (g = 7, nine terms): fifteen digits for positive arguments.
fn ln_gamma(x: f64) -> f64 {
    const FIRST: f64 = 0.999_999_999_999_809_9;
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        return (std::f64::consts::PI / (std::f64::consts::PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let sum = TERMS.iter().enumerate().fold(FIRST, |sum, (i, term)| sum + term / (x + i as f64 + 1.0));
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests;
