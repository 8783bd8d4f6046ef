//! Interleaved timing of several contenders at the same work.

use std::time::Instant;

/// A contender's name and its turn, which does `operations` operations.
pub struct Contender<'a> {
    pub name: &'static str,
    pub turn: Box<dyn FnMut() + 'a>,
}

impl<'a> Contender<'a> {
    pub fn new(name: &'static str, turn: impl FnMut() + 'a) -> Self {
        Self { name, turn: Box::new(turn) }
    }
}

/// Runs `rounds` rounds of a row and prints its line. The first contender is ours. Each round
/// starts with another contender, so that none always follows the same neighbour.
pub fn row(title: &str, rounds: usize, operations: u64, mut contenders: Vec<Contender<'_>>) {
    let count = contenders.len();
    contenders.iter_mut().for_each(|contender| (contender.turn)());
    let mut times = vec![Vec::with_capacity(rounds); count];
    for round in 0..rounds {
        for step in 0..count {
            let at = (round + step) % count;
            let start = Instant::now();
            (contenders[at].turn)();
            times[at].push(start.elapsed().as_secs_f64() * 1e9 / operations as f64);
        }
    }
    println!("{title}");
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    for ((contender, median), times) in contenders.iter().zip(&medians).zip(&times) {
        let (low, high) = (times[rounds / 4], times[rounds * 3 / 4]);
        let ratio = median / medians[0];
        println!(
            "  {:<26} {median:>9.2} ns  ×{ratio:<6.2} quartiles {low:.2}–{high:.2}",
            contender.name
        );
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
