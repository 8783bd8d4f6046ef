//! E4, E19: leaks, and what finds them.

use super::{About, Experiment, Finding, Plot, Verdict};
use crate::program::probe::{Probe, Random, live_bytes};
use spanalloc::observe::{Listener, Listeners, Trend, TrendDetector};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const LIVE: &str = "live MB";
const FOUND: &str = "leak found at % of the limit";
const MISSED: &str = "leaks not found before the limit";
const FALSE_ALARMS: &str = "false alarms of the trend test";
const BLOCK_BYTES: usize = 64 << 10;
/// Article and test alike: a snapshot every five seconds of the program's time.
const SNAPSHOT_S: usize = 5;
/// Long enough for three teeth of the sawtooth; with fewer than two, a tooth looks like a leak.
const WINDOW: usize = 60;

pub(super) const E4: Experiment = Experiment {
    id: "E4",
    title: "A leak under a limit, and a sawtooth",
    workload: "One block of 64 KiB is leaked per second of the program's time until 1000 are, the \
               limit; a control fills and drops a cache of up to 980 blocks instead. Live bytes \
               are taken every 5 s and judged by a trend test over 60 snapshots, and by the \
               article's alarm at 95 % of the limit.",
    about: About::Expectation,
    article: "1000 blocks, 5 s, alarm at 95 %",
    rule: "in every round the trend test finds the leak before the limit and raises no false alarm",
    plot: Plot::lines(LIVE, "seconds of the program"),
    measure: leak,
    rule_on: |data| {
        let (missed, rounds) = data.rounds_with(MISSED, "leak")?;
        let (alarmed, _) = data.rounds_with(FALSE_ALARMS, "sawtooth")?;
        let fixed = data.ours("false alarms at 95 %", "sawtooth")?;
        let found = data.ours(FOUND, "leak");
        let at = found.map_or_else(String::new, |found| format!(" at {found} % of the limit"));
        Some(Finding {
            verdict: Verdict::when(missed == 0 && alarmed == 0),
            ours: format!(
                "found in {} of {rounds} rounds{at}; false alarms in {alarmed}",
                rounds - missed
            ),
            why: format!(
                "troughs that do not rise are no trend, however high the peaks; a fixed alarm at \
                 95 % goes off {fixed} times on the same sawtooth."
            ),
        })
    },
};

fn leak(probe: &mut Probe) {
    let Some(start) = live_bytes() else { return };
    let limit = (1000 * BLOCK_BYTES) as u64;
    for (name, sawtooth) in [("leak", false), ("sawtooth", true)] {
        let mut detector = TrendDetector::new(WINDOW, 0.999);
        let mut random = Random(probe.seed());
        let mut held: Vec<Vec<u8>> = Vec::with_capacity(1000);
        let (mut found, mut trend_alarms, mut fixed_alarms) = (None, 0u32, 0u32);
        for second in 1..=1000 {
            let blocks = if sawtooth { 5 + random.below(10) } else { 1 };
            if sawtooth && held.len() + blocks > 980 {
                held.truncate(random.below(50));
            }
            held.extend((0..blocks).map(|_| black_box(vec![0; BLOCK_BYTES])));
            if second % SNAPSHOT_S != 0 {
                continue;
            }
            let live = live_bytes().unwrap_or(start).saturating_sub(start);
            detector.record(Duration::from_secs(second as u64), live);
            if second % 25 == 0 {
                probe.record_at(LIVE, name, second as f64, live as f64 / 1e6);
            }
            let rising = matches!(detector.trend(), Trend::Rising(_));
            if rising && found.is_none() {
                found = Some(100.0 * live as f64 / limit as f64);
            }
            trend_alarms += u32::from(rising);
            fixed_alarms += u32::from(live * 100 >= limit * 95);
        }
        if sawtooth {
            probe.record(FALSE_ALARMS, name, f64::from(trend_alarms));
            probe.record("false alarms at 95 %", name, f64::from(fixed_alarms));
        } else {
            let in_time = found.is_some_and(|percent| percent < 100.0);
            probe.record(MISSED, name, f64::from(u8::from(!in_time)));
            probe.record_some(FOUND, name, found);
        }
    }
}

const LISTENERS_KB: &str = "live kB of listeners";

pub(super) const E19: Experiment = Experiment {
    id: "E19",
    title: "Listeners that are never removed",
    workload: "100 sessions a step come, register a listener that holds 512 bytes, hear 1 event \
               and go; 45 steps. Registered strongly, weakly, or by a token that the session holds.",
    about: About::Implementation,
    article: "1200 → 45,000 objects in an hour",
    rule: "live bytes rise for good with strong listeners and with neither of the others",
    plot: Plot::lines(LISTENERS_KB, "step"),
    measure: listeners,
    rule_on: |data| {
        let slope = |variant| data.ours("bytes gained per session", variant);
        let (strong, weak, token) = (slope("strong")?, slope("weak")?, slope("token")?);
        Some(Finding {
            verdict: Verdict::when(strong.low > 0.0 && weak.high <= 0.0 && token.high <= 0.0),
            ours: format!("{strong} / {weak} / {token} bytes per session: strong / weak / token"),
            why: String::from(
                "a registry that owns its listeners owns what they refer to; a weak entry is \
                 removed by the next event, a token's when the session ends.",
            ),
        })
    },
};

fn listeners(probe: &mut Probe) {
    const SESSIONS: usize = 100;
    const STEPS: u32 = 45;
    let Some(_) = live_bytes() else { return };
    for name in probe.turns(&["strong", "weak", "token"]) {
        let registry: Listeners<u64> = Listeners::new();
        let mut detector = TrendDetector::new(STEPS as usize - 5, 0.999);
        let mut start = None;
        for step in 1..=STEPS {
            let mut tokens = Vec::new();
            let mut owners: Vec<Arc<Listener<u64>>> = Vec::new();
            for session in 0..SESSIONS {
                let state = vec![session as u8; 512];
                let listener = move |event: &u64| {
                    black_box((&state, event));
                };
                match name {
                    "strong" => registry.add(listener),
                    "weak" => {
                        owners.push(Arc::new(listener));
                        owners.last().into_iter().for_each(|owner| registry.add_weak(owner));
                    }
                    _ => tokens.push(registry.subscribe(listener)),
                }
            }
            registry.emit(&step.into());
            drop((tokens, owners));
            registry.prune();
            let live = live_bytes().unwrap_or_default();
            // The first steps fill the registry's own vector.
            if step > 5 {
                let gained = live.saturating_sub(*start.get_or_insert(live));
                detector.record(Duration::from_secs(step.into()), gained);
                probe.record_at(LISTENERS_KB, name, step.into(), gained as f64 / 1e3);
            }
        }
        let gained = match detector.trend() {
            Trend::Rising(slope) => slope.per_second / SESSIONS as f64,
            _ => 0.0,
        };
        probe.record("bytes gained per session", name, gained);
    }
}
