//! What watches the memory, against series whose answer is known.

use crate::map_support::counting::allocations;
use crate::random::Random;
use spanalloc::observe::{
    BudgetLimits, Limit, Listener, Listeners, SloRule, TagBudget, Threshold, Timer, Trend,
    TrendDetector,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
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

/// O5: limits hold to the byte, and in bytes, not characters.
#[test]
fn budgets_are_exact_to_the_byte() {
    let budget = TagBudget::default();
    let mut trace = budget.trace();
    let mut span = trace.span();
    let exact = "x".repeat(10 * 1024 - 3);
    assert!(span.tag("key", &exact).is_ok());
    let error = span.tag("key", &format!("{exact}x")).unwrap_err();
    assert_eq!((error.limit, error.bytes, error.bytes_max), (Limit::Tag, 10 * 1024 + 1, 10 * 1024));
    assert_eq!(error.to_string(), "the tag would have 10241 bytes; 10240 are allowed");
    // 5,120 characters of two bytes each, and one byte more.
    let umlauts = "ä".repeat(5 * 1024);
    assert!(span.tag("", &umlauts).is_ok());
    assert_eq!(span.tag("k", &umlauts).unwrap_err().limit, Limit::Tag);
    assert_eq!(span.fitting("k", &umlauts).len(), 10 * 1024 - 2);
    (0..3).for_each(|_| span.tag("key", &exact).unwrap());
    assert_eq!((span.bytes(), span.fitting("", "x")), (50 * 1024, ""));
    assert_eq!(span.tag("", "x").unwrap_err().limit, Limit::Span);
    assert!(span.tag("", "").is_ok());
    // 1 MiB is 20 spans of 50 KiB and 24 KiB.
    for _ in 1..20 {
        let mut span = trace.span();
        (0..5).for_each(|_| span.tag("key", &exact).unwrap());
    }
    let mut span = trace.span();
    (0..2).for_each(|_| span.tag("key", &exact).unwrap());
    assert_eq!(span.fitting("key", &exact).len(), 4 * 1024 - 3);
    let error = span.tag("key", &exact).unwrap_err();
    assert_eq!((error.limit, error.bytes - error.bytes_max), (Limit::Trace, 6 * 1024));
    let stats = budget.stats();
    assert_eq!((stats.tag_breaches, stats.span_breaches, stats.trace_breaches), (2, 1, 1));
    assert_eq!((stats.accepted_bytes, trace.bytes()), (1020 * 1024, 1020 * 1024));
}

/// O5: breaches sample down, calm samples up, and the samples nest.
#[test]
fn breaches_sample_down() {
    let limits = BudgetLimits { tag_bytes_max: 1, span_bytes_max: 1, trace_bytes_max: 1 };
    let budget = TagBudget::new(limits);
    let mut kept: Vec<u64> = (0..100_000).filter(|&id| budget.keeps(id)).collect();
    assert_eq!(kept.len(), 100_000);
    for breaches in 1..=12 {
        assert!(budget.trace().span().tag("too", "long").is_err());
        assert_eq!(budget.keep_one_in(), 1 << breaches.min(10));
        kept.retain(|&id| budget.keeps(id));
        let all: Vec<u64> = (0..100_000).filter(|&id| budget.keeps(id)).collect();
        assert_eq!(all, kept, "what is kept at a lower rate is kept at a higher one");
        let expected = 100_000 / budget.keep_one_in() as usize;
        assert!(kept.len().abs_diff(expected) <= expected / 10 + 20, "{} {expected}", kept.len());
    }
    (0..10_000).for_each(|_| drop(budget.trace()));
    assert_eq!(budget.keep_one_in(), 1);
}

/// P11: strong listeners stay, weak ones are pruned, tokens leave at once.
#[test]
fn listeners_are_held_as_they_were_registered() {
    let (listeners, witness) = (Listeners::<u32>::new(), Arc::new(()));
    let listener = || {
        let witness = witness.clone();
        move |_: &u32| assert!(Arc::strong_count(&witness) > 1)
    };
    for _ in 0..100 {
        listeners.add(listener());
        let weak: Arc<Listener<u32>> = Arc::new(listener());
        listeners.add_weak(&weak);
        let _token = listeners.subscribe(listener());
        assert_eq!(listeners.stats().tokens, 1);
    }
    assert_eq!(Arc::strong_count(&witness), 101, "the strong ones alone");
    let stats = listeners.stats();
    assert_eq!((stats.strong, stats.weak, stats.dead, stats.tokens), (100, 0, 100, 0));
    let kept: Arc<Listener<u32>> = Arc::new(listener());
    listeners.add_weak(&kept);
    assert_eq!(listeners.emit(&1), 101);
    let stats = listeners.stats();
    assert_eq!((stats.weak, stats.dead, stats.pruned), (1, 0, 100));
    drop(kept);
    assert_eq!((listeners.prune(), listeners.emit(&1)), (1, 100));
    drop(listeners);
    assert_eq!(Arc::strong_count(&witness), 1);
}

#[test]
fn listeners_may_change_the_registry_they_are_called_by() {
    let listeners = Arc::new(Listeners::<u32>::new());
    let calls = Arc::new(AtomicUsize::new(0));
    let token = listeners.subscribe({
        let (listeners, calls) = (Arc::downgrade(&listeners), calls.clone());
        move |event| {
            calls.fetch_add(1, SeqCst);
            let Some(listeners) = listeners.upgrade() else { return };
            if *event > 0 {
                listeners.emit(&(event - 1));
                listeners.add(|_| {});
            }
        }
    });
    listeners.emit(&3);
    assert_eq!((calls.load(SeqCst), listeners.stats().strong), (4, 3));
    let outliving = token;
    drop(listeners);
    drop(outliving);
}

#[test]
fn a_panicking_listener_leaves_the_registry_usable() {
    let listeners = Listeners::<u32>::new();
    let token = listeners.subscribe(|_| panic!("no"));
    assert!(catch_unwind(AssertUnwindSafe(|| listeners.emit(&1))).is_err());
    drop(token);
    assert_eq!(listeners.emit(&1), 0);
}

/// O8: size, rate and time thresholds; told once per breach.
#[test]
fn rules_are_broken_by_size_and_by_rate() {
    let at = |rule: &mut SloRule, series: &[(u64, u64)]| -> Vec<u64> {
        let broken = |&&(seconds, bytes): &&(u64, u64)| {
            rule.record(Duration::from_secs(seconds), bytes).is_some()
        };
        series.iter().filter(broken).map(|point| point.0).collect()
    };
    let mut size: SloRule = "rss > 100 for 20s".parse().unwrap();
    let series = [(0, 101), (10, 101), (20, 100), (30, 150), (40, 101), (50, 102), (60, 103)];
    assert_eq!(at(&mut size, &series), [50]);
    assert_eq!(at(&mut size, &[(70, 1), (80, 999), (100, 999)]), [100]);
    let mut rate: SloRule = "rss rate > 1KiB/s".parse().unwrap();
    assert_eq!(
        at(&mut rate, &[(0, 1 << 30), (10, (1 << 30) + 10_240), (11, (1 << 30) + 11_265)]),
        [11]
    );
    let mut held: SloRule = "rss rate > 9/s for 4s".parse().unwrap();
    assert_eq!(at(&mut held, &[(0, 0), (2, 20), (4, 40), (6, 60), (8, 60)]), [4]);
}

#[test]
fn rules_are_read_or_refused_by_name() {
    let rule = |text: &str| text.parse::<SloRule>();
    let (hold, mib) = (Duration::from_millis(1500), 1 << 20);
    assert_eq!(rule("a > 5MiB for 1500ms"), Ok(SloRule::new("a", Threshold::Bytes(5 * mib), hold)));
    let expected =
        SloRule::new("a", Threshold::BytesPerSecond(2 << 30), 120 * Duration::from_secs(1));
    assert_eq!(rule(" a  rate > 2GiB/s for 2min "), Ok(expected));
    assert_eq!(rule("a > 7B"), rule("a > 7"));
    for (text, part) in [
        ("a < 5", "\"a < 5\" in a rule: accepted is NAME > SIZE"),
        ("a > 5 MiB", "\"5 MiB\" in a rule: accepted is SIZE"),
        ("a > 5MB", "\"5MB\" in a rule: accepted is a size"),
        ("a > -5", "\"-5\" in a rule: accepted is a size"),
        ("a > 99999999999GiB", "\"99999999999GiB\""),
        ("a rate > 5", "\"5\" in a rule: accepted is a rate"),
        ("a > 5 for 1h", "\"1h\" in a rule: accepted is a time"),
    ] {
        let error = rule(text).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// O6: the clock's own cost is known, printed and taken off.
#[test]
fn the_timer_knows_its_own_cost() {
    let timer = Timer::calibrate();
    assert!(timer.overhead_ns() > 0.0 && timer.resolution_ns() >= 1);
    let text = timer.to_string();
    assert!(text.contains(&format!("takes {:.1} ns", timer.overhead_ns())), "{text}");
    let (result, asleep) = timer.time(|| {
        std::thread::sleep(Duration::from_millis(20));
        7
    });
    // A sleep is never shorter than asked for, and the two clocks drift by far less than 10 %.
    assert!(result == 7 && asleep > 18e6, "{asleep}");
    let per_operation = timer.batch(4, || std::thread::sleep(Duration::from_millis(5)));
    assert!(per_operation > 4.5e6, "{per_operation}");
    assert!(catch_unwind(|| timer.batch(0, || {})).is_err());
}

#[test]
fn a_rate_below_a_byte_a_second_is_more_than_none() {
    for (text, bytes) in [("heap rate > 0/s", 50), ("heap rate > 1/s", 114)] {
        let mut rule: SloRule = text.parse().unwrap();
        let at = |step: u64| Duration::from_secs(60 * step);
        assert!(rule.record(at(0), 0).is_none());
        let breach = rule.record(at(1), bytes).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(breach.measured, bytes.div_ceil(60));
    }
    let mut rule: SloRule = "heap rate > 1/s".parse().unwrap();
    rule.record(Duration::ZERO, 0);
    assert!(rule.record(Duration::from_secs(60), 60).is_none(), "just the limit");
}

#[test]
fn a_snapshot_that_is_refused_changes_nothing() {
    let mut rule: SloRule = "heap rate > 100/s".parse().unwrap();
    rule.record(Duration::from_secs(10), 1000);
    let refused = catch_unwind(AssertUnwindSafe(|| rule.record(Duration::from_secs(5), 0)));
    assert!(refused.is_err());
    assert!(rule.record(Duration::from_secs(11), 1050).is_none(), "50 bytes a second");
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

/// Calm traces bring back what breaches took once for each thousand, whoever begins them.
#[test]
fn calm_is_counted_once_by_however_many_threads() {
    const THREADS: usize = 4;
    for round in 0..100 {
        let budget = TagBudget::new(BudgetLimits { tag_bytes_max: 0, ..BudgetLimits::default() });
        (0..10).for_each(|_| assert!(budget.trace().span().tag("too", "long").is_err()));
        assert_eq!(budget.keep_one_in(), 1024);
        let begun = std::sync::Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    begun.wait();
                    (0..1250).for_each(|_| drop(budget.trace()));
                });
            }
        });
        assert_eq!(budget.keep_one_in(), 1 << 5, "round {round}");
    }
}
