//! The mode that looks for weak spots: patterns drawn at random, each under every allocator.
//!
//! The named workloads are known, and whoever tunes an allocator tunes it to them. A seed's
//! pattern nobody has chosen. Runs are short and many, so what is compared is processor time,
//! which other programs disturb less.

use crate::args::Args;
use crate::builds::{binary, ready};
use crate::process;
use crate::results::{Place, Results, Row};
use crate::rounds::order;
use crate::summary::{Line, MEMORY, PROCESSOR, overall};
use crate::table::{head, stands};
use harness::{Kind, Listing, Pattern};

/// What is touched before each run (see [`rounds`](crate::rounds)): more than any pattern holds.
const TOUCHED_BYTES: usize = 384 << 20;

/// Rows of the table: those in which ours is behind most.
const SHOWN: usize = 30;

/// Runs the patterns from the first seed to the last, prints where ours is behind most and how
/// each allocator stands over all, and writes every record.
pub(crate) fn run(args: &Args) -> Result<(), String> {
    let (first, last) = args.patterns;
    let built = ready(args, &["micro"])?;
    let mut results = Results::new(args, &[], built);
    results.rounds = args.rounds;
    let place = Place::new(&results.machine.date, "patterns")?;
    for seed in first..=last {
        eprint!("\r\x1b[Kpattern {seed} of {first} to {last}");
        results.rows.push(row(args, seed)?);
        place.keep(&results)?;
    }
    eprintln!();
    println!("{}{}", results.head(), render(&results));
    println!("{}", place.data().display());
    results.verdict()
}

/// A pattern under every allocator.
fn row(args: &Args, seed: u64) -> Result<Row, String> {
    let about = Pattern::of(seed).to_string();
    let mut row = Row::new(&Listing { name: seed.to_string(), kind: Kind::Time, about });
    let mut options = vec!["--size".to_owned(), seed.to_string()];
    options.extend(args.quick.then(|| "--quick".to_owned()));
    for round in 0..args.rounds {
        for allocator in order(&args.allocators, seed as usize, round) {
            if !args.quick {
                harness::touch(TOUCHED_BYTES);
            }
            let run = process::start(&binary(allocator, "micro"), "pattern", &options)?;
            row.add(allocator, round, run.record());
        }
    }
    Ok(row)
}

fn render(results: &Results) -> String {
    let mut lines: Vec<(Line, &str)> =
        results.rows.iter().map(|row| (Line::new(row, PROCESSOR), row.about.as_str())).collect();
    let ours = results.allocators.first().map_or("", String::as_str);
    let behind = |line: &Line| line.ratios.get(ours).copied().unwrap_or(0.0);
    lines.sort_by(|a, b| behind(&b.0).total_cmp(&behind(&a.0)));
    let mut text = String::new();
    head(&mut text, PROCESSOR.title, &results.allocators);
    for (line, about) in lines.iter().take(SHOWN) {
        text += &format!("{:>6} {:17.2}", line.workload, behind(line));
        for allocator in &results.allocators {
            let value = line.medians.get(allocator);
            text += &format!("{:>12}", value.map_or("-".to_owned(), |ns| format!("{ns:.1}")));
        }
        text += &format!("  {about}\n");
    }
    text += &format!(
        "the {} of {} in which {ours} is furthest behind its best rival, by ×\n",
        lines.len().min(SHOWN),
        lines.len()
    );
    let time: Vec<Line> = lines.into_iter().map(|(line, _)| line).collect();
    let memory: Vec<Line> = results.rows.iter().map(|row| Line::new(row, MEMORY)).collect();
    for (metric, lines) in [(PROCESSOR, time), (MEMORY, memory)] {
        text += &format!("\n{}, against the best rival of each pattern:\n", metric.title);
        for allocator in &results.allocators {
            stands(&mut text, allocator, overall(&lines, allocator, metric.slack));
        }
    }
    text
}
