#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::model::stale_marker;
use proptest::prelude::*;

const START: i64 = 1_768_471_200_000;

fn member(samples: &[(i64, f64)]) -> Member {
    Member {
        times: samples.iter().map(|(second, _)| Timestamp::from_millis(START + second * 1000)).collect(),
        values: samples.iter().map(|(_, value)| *value).collect(),
    }
}

/// Seconds after the start of what is kept.
fn kept(samples: &[(i64, f64)], is_counter: bool) -> Vec<i64> {
    thin(&member(samples), is_counter).times.iter().map(|at| (at.as_millis() - START) / 1000).collect()
}

fn steady(range: std::ops::Range<i64>, step: i64, value: impl Fn(i64) -> f64) -> Vec<(i64, f64)> {
    range.step_by(step as usize).map(|second| (second, value(second))).collect()
}

#[test]
fn a_counter_keeps_the_last_of_each_slot_and_both_sides_of_a_reset() {
    let growing = steady(5..1200, 15, |s| s as f64);
    assert_eq!(kept(&growing, true), [5, 290, 590, 890, 1190]);
    let reset = steady(5..900, 15, |s| if s < 400 { s as f64 } else { (s - 400) as f64 });
    assert_eq!(kept(&reset, true), [5, 290, 395, 410, 590, 890]);
}

#[test]
fn a_gauge_keeps_first_last_smallest_and_largest_of_each_slot() {
    let wave = steady(0..600, 15, |s| match s {
        45 => -3.0,
        60 => 9.0,
        390 => 8.0,
        _ => 1.0 + s as f64 / 1e6,
    });
    assert_eq!(kept(&wave, false), [0, 15, 45, 60, 300, 315, 390, 585]);
}

#[test]
fn ends_and_gaps_stay_where_they_were() {
    let mut ended = steady(0..200, 15, |s| s as f64);
    ended.push((200, stale_marker()));
    ended.extend(steady(1500..1600, 15, |s| s as f64));
    assert_eq!(kept(&ended, true), [0, 195, 200, 1500, 1590]);
    let thinned = thin(&member(&ended), true);
    assert!(is_stale(thinned.values[2]));
}

#[test]
fn samples_that_come_unevenly_leave_no_hole_longer_than_the_lookback() {
    let uneven: Vec<(i64, f64)> = [0, 100, 250, 310, 400, 595, 600, 899].map(|s| (s, s as f64)).into();
    let thinned = kept(&uneven, true);
    assert_eq!(thinned, [0, 250, 400, 600, 899]);
    assert!(thinned.windows(2).all(|pair| pair[1] - pair[0] <= 300));
}

#[test]
fn names_tell_counters() {
    for (name, expect) in [("a_total", true), ("b_bucket", true), ("c_sum", true), ("d_count", true), ("up", false)] {
        assert_eq!(is_counter_name(name), expect, "{name}");
    }
}

/// The increase over samples in `(from, to]` and the one before, resets counted, as a counter's difference.
fn increase(member: &Member, from: i64, to: i64) -> f64 {
    let at = |second: i64| member.times.partition_point(|t| t.as_millis() <= START + second * 1000);
    let range = at(from).saturating_sub(1)..at(to);
    let values = &member.values[range];
    values.windows(2).map(|pair| if pair[1] < pair[0] { pair[1] } else { pair[1] - pair[0] }).sum()
}

proptest! {
    #[test]
    fn increases_over_whole_slots_are_exact(
        steps in prop::collection::vec((1_i64..120, 0_u8..40, 0_u32..50), 1..400),
    ) {
        let (mut second, mut value) = (0, 0.0);
        let samples: Vec<(i64, f64)> = steps.into_iter().map(|(step, reset, grow)| {
            second += step;
            value = if reset == 0 { f64::from(grow) } else { value + f64::from(grow) };
            (second, value)
        }).collect();
        let raw = member(&samples);
        let thinned = thin(&raw, true);
        let slots = second / 300 + 1;
        for from in 0..slots {
            for to in from..=slots {
                let (from, to) = (from * 300, to * 300);
                prop_assert_eq!(increase(&raw, from, to), increase(&thinned, from, to), "({}, {}]", from, to);
            }
        }
        prop_assert_eq!(thin(&thinned, true), thinned);
    }

    #[test]
    fn gauges_keep_their_extremes_and_every_moment_a_value(
        steps in prop::collection::vec((1_i64..200, -100_i32..100), 1..300),
    ) {
        let mut second = 0;
        let samples: Vec<(i64, f64)> = steps.into_iter().map(|(step, value)| {
            second += step;
            (second, f64::from(value))
        }).collect();
        let (raw, thinned) = (member(&samples), thin(&member(&samples), false));
        let of_slot = |member: &Member, slot: i64| -> Vec<f64> {
            let in_slot = |at: &Timestamp| (at.as_millis() - START - 1).div_euclid(300_000) == slot;
            member.times.iter().zip(&member.values).filter(|(at, _)| in_slot(at)).map(|(_, value)| *value).collect()
        };
        for slot in 0..=second / 300 {
            let (all, some) = (of_slot(&raw, slot), of_slot(&thinned, slot));
            let extreme = |values: &[f64], pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick);
            prop_assert_eq!(extreme(&all, f64::min), extreme(&some, f64::min));
            prop_assert_eq!(extreme(&all, f64::max), extreme(&some, f64::max));
            prop_assert_eq!((all.first(), all.last()), (some.first(), some.last()));
        }
        prop_assert!(thinned.times.windows(2).all(|pair| pair[1].since(pair[0]) <= THINNED_STEP));
    }
}
