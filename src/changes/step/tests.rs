//! The test on series that were made: steps that are there are found, noise is not, and how often it is wrong is counted.

use super::*;

const MINUTES: usize = 45;
const CHANGE: usize = 30;
/// From which probability on an effect is told, as in `effect.rs`.
const TOLD: f64 = 0.8;
const PRIOR: f64 = 0.1;

/// A xorshift: tests draw the same every time.
struct Chance(u64);

impl Chance {
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn of(&mut self, all: usize, share: f64) -> f64 {
        (0..all).filter(|_| self.share() < share).count() as f64
    }

    /// One number scattered around 1.
    fn around_one(&mut self, width: f64) -> f64 {
        let sum: f64 = (0..12).map(|_| self.share()).sum();
        (1.0 + width * (sum - 6.0)).clamp(0.1, 4.0)
    }
}

fn seeds() -> impl Iterator<Item = Chance> {
    (1..=400_u64).map(|seed| Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1))
}

/// Whether the step is told with these shares by the minute.
fn told(chance: &mut Chance, requests: usize, share: impl Fn(usize, &mut Chance) -> f64) -> Option<Step> {
    let all = vec![requests as f64; MINUTES];
    let shares: Vec<f64> = (0..MINUTES).map(|at| share(at, chance)).collect();
    let bad: Vec<f64> = shares.iter().map(|share| chance.of(requests, *share)).collect();
    step(&bad, &all, CHANGE, PRIOR).filter(|step| step.probability >= TOLD)
}

fn share_told(requests: usize, share: impl Fn(usize, &mut Chance) -> f64) -> f64 {
    let all = seeds().count() as f64;
    seeds().filter_map(|mut chance| told(&mut chance, requests, &share)).count() as f64 / all
}

#[test]
fn the_logarithm_of_gamma_is_exact() {
    for (x, expected) in [(1.0, 0.0), (2.0, 0.0), (0.5, 0.572_364_942_924_7), (10.0, 12.801_827_480_081_469)] {
        assert!((ln_gamma(x) - expected).abs() < 1e-10, "{x}: {}", ln_gamma(x));
    }
    // Stirling at a size that a busy edge has in 45 minutes.
    let x: f64 = 1e7;
    let stirling = (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + 1.0 / (12.0 * x);
    assert!((ln_gamma(x) - stirling).abs() / stirling < 1e-12);
}

#[test]
fn a_step_after_the_change_is_found_where_it_is() {
    for (delay, before, after) in [(0, 0.0, 0.3), (2, 0.002, 0.05), (4, 0.01, 0.2), (1, 0.3, 0.0)] {
        let share = |at: usize, _: &mut Chance| if at >= CHANGE + delay { after } else { before };
        let found: Vec<Step> = seeds().filter_map(|mut chance| told(&mut chance, 300, share)).collect();
        let count = seeds().count();
        assert!(found.len() * 100 >= count * 98, "{before} → {after}: {} of {count}", found.len());
        let near = found.iter().filter(|step| step.at.abs_diff(CHANGE + delay) <= 1).count();
        assert!(near * 100 >= found.len() * 95, "{before} → {after}: {near} of {} at their minute", found.len());
        let step = found[0];
        assert!((step.before - before).abs() < 0.02 && (step.after - after).abs() < 0.05, "{step:?}");
    }
}

#[test]
fn noise_is_rarely_told_as_an_effect() {
    let plain = share_told(300, |_, _| 0.01);
    let scattered = share_told(300, |_, chance| 0.03 * chance.around_one(0.8));
    let drifting = share_told(300, |at, _| 0.02 + 0.01 * ((at as f64) / 7.0).sin());
    let quiet = share_told(4, |_, _| 0.05);
    println!("told on noise: plain {plain}, scattered {scattered}, drifting {drifting}, quiet {quiet}");
    for (name, share, limit) in
        [("plain", plain, 0.005), ("scattered", scattered, 0.01), ("drifting", drifting, 0.02), ("quiet", quiet, 0.005)]
    {
        assert!(share <= limit, "{name}: {share}");
    }
}

#[test]
fn a_step_at_another_time_is_not_blamed_on_the_change() {
    for at in [5, 15, 25, 28, 38, 41] {
        let share = share_told(300, |minute, _| if minute >= at { 0.2 } else { 0.01 });
        println!("a step at minute {at} is blamed in {share}");
        assert!(share <= 0.01, "minute {at}: {share}");
    }
    // A burst that began before and ended: what came after it was as before.
    let burst = share_told(300, |minute, _| if (20..24).contains(&minute) { 0.3 } else { 0.01 });
    assert!(burst <= 0.01, "{burst}");
}

#[test]
fn too_little_traffic_and_odd_numbers_tell_nothing() {
    assert_eq!(step(&[], &[], 0, PRIOR), None);
    assert_eq!(step(&[0.0; 45], &[0.0; 45], 30, PRIOR), None);
    assert_eq!(step(&[1.0; 45], &[0.5; 45], 30, PRIOR).map(|step| step.probability.is_finite()), None);
    assert_eq!(step(&[0.0; 10], &[100.0; 10], 30, PRIOR), None, "the change is not in the window");
    let wrong = step(&[500.0; 45], &[100.0; 45], 30, PRIOR).expect("enough requests");
    assert!(wrong.probability.is_finite() && wrong.before <= 1.0, "{wrong:?}");
}
