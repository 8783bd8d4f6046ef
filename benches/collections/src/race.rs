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
/// starts with another contender, so that none always follows the same neighbour. The least time
/// counts: what else runs on the machine only ever adds to a time.
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
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    let ours = times[0][0];
    for (contender, times) in contenders.iter().zip(&times) {
        let (least, median) = (times[0], times[rounds / 2]);
        let ratio = least / ours;
        println!("  {:<26} {least:>9.2} ns  ×{ratio:<6.2} median {median:.2}", contender.name);
    }
}
