//! What watches the memory, against series whose answer is known.

use spanalloc::observe::{
    BudgetLimits, Limit, Listener, Listeners, SloRule, TagBudget, Threshold, Timer,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

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

/// To the byte, whatever the time between two snapshots and however much comes in it.
#[test]
fn a_rate_at_the_limit_is_not_above_it() {
    for ms in 1..=2000 {
        let mut rule: SloRule = "heap rate > 1000/s".parse().unwrap();
        let at = |steps: u64| Duration::from_millis(ms * steps);
        rule.record(at(0), 0);
        assert_eq!(rule.record(at(1), ms), None, "{ms} bytes in {ms} ms");
        assert!(rule.record(at(2), 2 * ms + 1).is_some(), "a byte more in {ms} ms");
    }
    let mut rule = SloRule::new("heap", Threshold::BytesPerSecond(0), Duration::ZERO);
    rule.record(Duration::ZERO, 0);
    let breach = rule.record(Duration::from_nanos(1), u64::MAX).unwrap();
    assert_eq!(breach.measured, u64::MAX);
}

#[test]
fn a_snapshot_that_is_refused_changes_nothing() {
    let mut rule: SloRule = "heap rate > 100/s".parse().unwrap();
    rule.record(Duration::from_secs(10), 1000);
    let refused = catch_unwind(AssertUnwindSafe(|| rule.record(Duration::from_secs(5), 0)));
    assert!(refused.is_err());
    assert!(rule.record(Duration::from_secs(11), 1050).is_none(), "50 bytes a second");
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
