//! What tells a leak from a sawtooth, against series whose answer is known.

use crate::map_support::counting::allocations;
use crate::random::Random;
use spanalloc::observe::{Trend, TrendDetector};
use std::panic::catch_unwind;
use std::time::Duration;

const WINDOW: usize = 60;

fn judge(series: impl Iterator<Item = u64>) -> Trend {
    let mut detector = TrendDetector::new(WINDOW, 0.999);
    for (step, value) in series.take(WINDOW).enumerate() {
        assert_eq!(detector.trend(), Trend::Undecided);
        detector.record(Duration::from_secs(5 * step as u64), value);
    }
    detector.trend()
}

/// A detector whose window is the whole series, a value a second.
fn detector_of(series: impl Iterator<Item = u64>, confidence: f64) -> TrendDetector {
    let series: Vec<u64> = series.collect();
    let mut detector = TrendDetector::new(series.len(), confidence);
    (0..).zip(series).for_each(|(step, value)| detector.record(Duration::from_secs(step), value));
    detector
}

/// Values from 0 to `bound`, the same on each run.
fn noise(seed: u64, bound: u64) -> impl Iterator<Item = u64> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    std::iter::from_fn(move || Some(random.below(bound + 1)))
}

/// O1: a leak is found in noise, with its rate inside the interval.
#[test]
fn a_leak_is_found() {
    for seed in 1..=20 {
        let leak = noise(seed, 2_000_000).zip(0..).map(|(n, step)| n + 1_000_000 * step);
        let Trend::Rising(slope) = judge(leak) else { panic!("seed {seed}") };
        assert!((180_000.0..220_000.0).contains(&slope.per_second), "{slope:?}");
        assert!(slope.per_second_low <= 200_000.0 && 200_000.0 <= slope.per_second_high);
        assert!(slope.p_value < 0.001);
    }
}

/// O3: what comes down again is no leak, whatever the period and the noise.
#[test]
fn a_sawtooth_is_no_leak() {
    for period in 4..30 {
        for seed in 1..=5 {
            let teeth =
                noise(seed, 300).zip(0..).map(|(n, step)| 50_000 + n + 1000 * (step % period));
            let trend = judge(teeth);
            assert!(matches!(trend, Trend::Sawtooth { .. }), "period {period}: {trend:?}");
        }
    }
}

/// O3: a sawtooth whose troughs rise is a leak.
#[test]
fn a_rising_sawtooth_is_a_leak() {
    let teeth = noise(1, 10).zip(0..).map(|(n, step)| n + 100 * step + 1000 * (step % 7));
    let Trend::Rising(slope) = judge(teeth) else { panic!() };
    assert!((18.0..22.0).contains(&slope.per_second), "{slope:?}");
}

#[test]
fn noise_is_steady_or_a_sawtooth_and_decline_falls() {
    let alarms = (1..=200).filter(|&seed| matches!(judge(noise(seed, 1000)), Trend::Rising(_)));
    assert!(alarms.count() <= 2);
    assert_eq!(judge(std::iter::repeat(7)), Trend::Steady);
    let decline = (0..WINDOW as u64).map(|step| 1_000_000 - 1000 * step);
    assert!(matches!(judge(decline), Trend::Falling(slope) if slope.per_second == -200.0));
}

/// O1: few teeth tell nothing, so that the rise behind the last one counts, when it is long enough.
#[test]
fn a_leak_of_few_teeth_is_found() {
    let at = |step: u64| if step < 5 { 400 } else { step };
    let late = detector_of((0..1000).map(at), 0.99).trend();
    assert!(matches!(late, Trend::Rising(slope) if slope.per_second == 1.0), "{late:?}");
    let fallen_at = |fall: u64| move |step: u64| 1000 + step - if step < fall { 0 } else { 300 };
    let dropped = |fall: u64| detector_of((0..1000).map(fallen_at(fall)), 0.999);
    assert!(matches!(dropped(400).trend(), Trend::Rising(slope) if slope.per_second == 1.0));
    assert_eq!(dropped(400).time_until(1709), Some(Duration::from_secs(10)), "straight on");
    // For half the window it may yet be a tooth as any other.
    assert_eq!(dropped(501).trend(), Trend::Sawtooth { troughs: 1 });
    // Upside down.
    let jumped = (0..1000).map(|step| 5000 - fallen_at(400)(step));
    let trend = detector_of(jumped, 0.999).trend();
    assert!(matches!(trend, Trend::Falling(slope) if slope.per_second == -1.0), "{trend:?}");
}

/// O3: what is emptied twice per window is no leak, however the teeth differ.
#[test]
fn a_sawtooth_of_uneven_teeth_is_no_leak() {
    let mut random = Random(17);
    for round in 0..300 {
        // A window is longer than two teeth, and has too few of them to be judged.
        let (mut value, mut left) = (0, 10 + random.below(20));
        let window = (0..60).map(|_| {
            if left == 0 {
                (value, left) = (0, 20 + random.below(10));
            }
            (value, left) = (value + 1 + random.below(2 + round), left - 1);
            value
        });
        let trend = detector_of(window, 0.999).trend();
        assert!(matches!(trend, Trend::Sawtooth { .. }), "round {round}: {trend:?}");
    }
}

/// As many teeth as are promised to be enough, and one less.
#[test]
fn enough_rising_troughs_are_a_leak() {
    for (confidence, enough) in [(0.95, 5), (0.99, 6), (0.999, 7)] {
        let teeth = |count: usize| (0..10 * count + 9).map(|at| (10 + at + 100 * (at % 10)) as u64);
        let few = detector_of(teeth(enough - 1), confidence).trend();
        assert_eq!(few, Trend::Sawtooth { troughs: enough - 1 });
        let Trend::Rising(slope) = detector_of(teeth(enough), confidence).trend() else { panic!() };
        let orders = (1..=enough).product::<usize>() as f64;
        assert!((slope.p_value - 2.0 / orders).abs() < 1e-12, "{slope:?}");
        assert_eq!([slope.per_second, slope.per_second_low, slope.per_second_high], [1.0; 3]);
    }
}

/// A quarter of the range is no fall yet.
#[test]
fn a_fall_by_a_quarter_of_the_range_is_no_tooth() {
    for (fall, expected) in [(25, 0), (26, 1)] {
        let series = [50, 100, 100 - fall, 100, 50, 0, 0, 0];
        let troughs = match detector_of(series.into_iter(), 0.99).trend() {
            Trend::Sawtooth { troughs } => troughs,
            trend => {
                assert_eq!(trend, Trend::Steady);
                0
            }
        };
        assert_eq!(troughs, expected, "a fall by {fall}");
    }
}

/// Independent values have no trend: no more verdicts are wrong than the confidence says, in both
/// directions together.
#[test]
fn noise_is_told_from_a_trend_as_surely_as_promised() {
    for (window, rounds) in [(24, 4000), (100, 600)] {
        for shape in ["even", "skewed"] {
            let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ window as u64);
            let mut wrong = [(0.9, 0), (0.95, 0), (0.99, 0)];
            for _ in 0..rounds {
                let mut series = Vec::with_capacity(window);
                series.resize_with(window, || match shape {
                    "even" => random.below(1 << 30),
                    _ => {
                        (-1e6 * ((1 + random.below(1 << 30)) as f64 / (1u64 << 30) as f64).ln())
                            as u64
                    }
                });
                for (confidence, wrong) in &mut wrong {
                    let trend = detector_of(series.iter().copied(), *confidence).trend();
                    *wrong += u32::from(matches!(trend, Trend::Rising(_) | Trend::Falling(_)));
                }
            }
            for (confidence, wrong) in wrong {
                let expected = (1.0 - confidence) * f64::from(rounds);
                let most = expected + 3.0 * (expected * confidence).sqrt();
                assert!(f64::from(wrong) <= most, "{shape}, {window} at {confidence}: {wrong}");
            }
        }
    }
}

/// A rising sawtooth reaches the limit by a peak, not by a trough.
#[test]
fn the_time_until_the_limit_counts_the_teeth() {
    let value = |step: u64| 1000 + step + 100 * (step % 10);
    for latest in 95..=105 {
        let detector = detector_of((0..=latest).map(value), 0.99);
        for limit in [1500, 1900, 2013, 5000, 20_000] {
            let reached = (latest..).find(|&step| value(step) >= limit).unwrap() - latest;
            let told = detector.time_until(limit).unwrap().as_secs_f64();
            assert!(
                (told - reached as f64).abs() < 1e-6,
                "{limit} from {latest}: {told} {reached}"
            );
        }
        assert_eq!(detector.time_until(value(latest)), Some(Duration::ZERO));
    }
}

/// O1: the alarm comes before the limit does.
#[test]
fn a_leak_is_announced_before_the_limit() {
    let mut detector = TrendDetector::new(12, 0.99);
    let limit = 1000 << 20;
    let announced = (0..1000u64).find(|&step| {
        detector.record(Duration::from_secs(5 * step), (step << 20) + step % 3 * 100_000);
        detector.time_until(limit).is_some()
    });
    assert_eq!(announced, Some(11));
    let left = detector.time_until(limit).unwrap().as_secs();
    assert!((4700..5200).contains(&left), "{left}");
    assert_eq!(detector.time_until(0), Some(Duration::ZERO));
}

/// A window that never fills costs what is in it.
#[test]
fn a_window_may_be_of_any_length() {
    let mut detector = TrendDetector::new(usize::MAX, 0.9);
    detector.record(Duration::ZERO, 1);
    assert_eq!(detector.trend(), Trend::Undecided);
}

#[test]
fn impossible_detectors_are_refused() {
    for (call, part) in [
        ((|| drop(TrendDetector::new(7, 0.9))) as fn(), "window_len is 7"),
        (|| drop(TrendDetector::new(8, 1.0)), "confidence is 1"),
        (
            || {
                let mut detector = TrendDetector::new(8, 0.9);
                (0..2).for_each(|_| detector.record(Duration::from_secs(3), 1));
            },
            "a snapshot at 3s came after one at 3s",
        ),
    ] {
        let message = catch_unwind(call).unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains(part), "{message}");
    }
}

/// A clock may have begun decades ago, and tick in nanoseconds.
#[test]
fn the_clock_s_beginning_costs_no_digits() {
    let mut detector = TrendDetector::new(WINDOW, 1.0 - f64::EPSILON / 2.0);
    for step in 0..WINDOW as u32 {
        detector.record(Duration::new(1_700_000_000, 100 * step), step.into());
    }
    let Trend::Rising(slope) = detector.trend() else { panic!("{:?}", detector.trend()) };
    assert!((slope.per_second / 1e7 - 1.0).abs() < 1e-9, "{slope:?}");
}

#[test]
fn one_step_is_no_trend() {
    let step = |from: u64, to: u64| (0..WINDOW).map(move |at| if at < 45 { from } else { to });
    assert_eq!(judge(step(1000, 2000)), Trend::Steady);
    assert_eq!(judge(step(2000, 1000)), Trend::Steady);
}

/// The memory of a judgement grows with the window, not with its pairs.
#[test]
fn a_long_window_is_judged_in_bounded_memory() {
    let mut detector = TrendDetector::new(2000, 0.99);
    let (_, bytes, trend) = allocations(|| {
        (0..2000).for_each(|step| detector.record(Duration::from_secs(step), 1000 + 3 * step));
        detector.trend()
    });
    let Trend::Rising(slope) = trend else { panic!("{trend:?}") };
    assert_eq!([slope.per_second, slope.per_second_low, slope.per_second_high], [3.0; 3]);
    assert!(bytes <= 1 << 20, "{bytes} bytes");
}
