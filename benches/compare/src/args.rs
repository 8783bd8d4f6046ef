//! The command line.

use crate::catalog::ALLOCATORS;

pub(crate) const USAGE: &str = "\
cargo run --release --manifest-path benches/compare/Cargo.toml -- [options]

  --rounds N        rounds to run (default 5; 3 with --scaling or --patterns; 1 with
                    --quick)
  --only A,B,...    only workloads whose name contains A or B or ..., or that are in
                    the program of that name: micro, real or engines
  --alloc A,B,...   only these allocators
  --quick           small sizes, one round: that it runs, not how fast
  --details         also a row per workload for faults and processor time
  --no-build        use the binaries that are there
  --from FILE       runs nothing: the table of an earlier run, a results/*-compare.json
  --patterns A-B    instead of the table: the patterns that the seeds A to B stand for
  --scaling         instead of the table: curves over heap size and threads
  --instructions    instead of the table: instructions per operation, by callgrind;
                    fails if ours needs more than instructions.json allows
  --help            this text";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Every workload, in rounds.
    Table,
    /// The table of an earlier run.
    Again,
    /// Patterns drawn at random.
    Patterns,
    /// Curves over a size.
    Scaling,
    /// Instructions per operation.
    Instructions,
}

/// The options that choose a mode, and those which that mode would not heed.
const MODES: [(&str, &[&str]); 4] = [
    ("--from", &["--only", "--alloc", "--rounds", "--quick", "--no-build"]),
    ("--patterns", &["--only", "--details"]),
    ("--scaling", &["--details"]),
    ("--instructions", &["--rounds", "--quick", "--details"]),
];

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) rounds: usize,
    pub(crate) only: Vec<String>,
    pub(crate) allocators: Vec<&'static str>,
    pub(crate) quick: bool,
    pub(crate) details: bool,
    pub(crate) build: bool,
    pub(crate) mode: Mode,
    /// The earlier run's file.
    pub(crate) from: String,
    /// The first seed and the last one.
    pub(crate) patterns: (u64, u64),
    pub(crate) help: bool,
}

impl Args {
    /// Reads the arguments, without the program's own name.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self {
            rounds: 0,
            only: Vec::new(),
            allocators: ALLOCATORS.to_vec(),
            quick: false,
            details: false,
            build: true,
            mode: Mode::Table,
            from: String::new(),
            patterns: (0, 0),
            help: false,
        };
        let mut rounds = None;
        let mut given: Vec<String> = Vec::new();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value after it"));
            match arg.as_str() {
                "--rounds" => rounds = Some(count(&value()?)?),
                "--only" => parsed.only = parts(&value()?)?,
                "--alloc" => parsed.allocators = allocators(&value()?)?,
                "--details" => parsed.details = true,
                "--quick" => parsed.quick = true,
                "--no-build" => parsed.build = false,
                "--from" => {
                    parsed.from = value()?;
                    parsed.mode = Mode::Again;
                }
                "--patterns" => {
                    parsed.patterns = seeds(&value()?)?;
                    parsed.mode = Mode::Patterns;
                }
                "--scaling" => parsed.mode = Mode::Scaling,
                "--instructions" => parsed.mode = Mode::Instructions,
                "--help" | "-h" => parsed.help = true,
                _ => return Err(format!("{arg:?} is not an option")),
            }
            given.push(arg);
        }
        agree(&given)?;
        let usual = match (parsed.quick, parsed.mode) {
            (true, _) => 1,
            (false, Mode::Scaling | Mode::Patterns) => 3,
            (false, _) => 5,
        };
        parsed.rounds = rounds.unwrap_or(usual);
        Ok(parsed)
    }

    /// Whether `--only` lets this workload of this program through.
    pub(crate) fn wants(&self, program: &str, workload: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| named(part, program, workload))
    }
}

/// Whether a part of `--only` names this workload of this program.
pub(crate) fn named(part: &str, program: &str, workload: &str) -> bool {
    part == program || workload.contains(part)
}

fn list(value: &str) -> Vec<String> {
    value.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn parts(value: &str) -> Result<Vec<String>, String> {
    let parts = list(value);
    if parts.is_empty() {
        return Err(format!(
            "--only {value:?}: expected parts of workloads' names, or programs, such as ring,real"
        ));
    }
    Ok(parts)
}

/// An error if one of the options that were given takes from another what it says.
fn agree(given: &[String]) -> Result<(), String> {
    let is_given = |option: &&str| given.iter().any(|other| other == option);
    let modes: Vec<_> = MODES.into_iter().filter(|(mode, _)| is_given(mode)).collect();
    if let [(one, _), (other, _), ..] = modes[..] {
        return Err(format!("{one} and {other} are two modes: ask for one at a time"));
    }
    for (mode, unheeded) in modes {
        if let Some(option) = unheeded.iter().copied().find(is_given) {
            return Err(format!("{option} does nothing with {mode}: leave one of them out"));
        }
    }
    Ok(())
}

fn count(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(rounds @ 1..=1000) => Ok(rounds),
        _ => Err(format!("--rounds {value:?}: expected a whole number from 1 to 1000")),
    }
}

fn seeds(value: &str) -> Result<(u64, u64), String> {
    let seed =
        |text: &str| text.parse().ok().filter(|seed| (1..=u64::from(u32::MAX)).contains(seed));
    let range = value.split_once('-').and_then(|(first, last)| Some((seed(first)?, seed(last)?)));
    match range {
        Some((first, last)) if first <= last => Ok((first, last)),
        _ => Err(format!("--patterns {value:?}: expected two whole numbers from 1, such as 1-100")),
    }
}

fn allocators(value: &str) -> Result<Vec<&'static str>, String> {
    let names = list(value);
    let bad = |what: &str| format!("--alloc {what:?}: expected some of {}", ALLOCATORS.join(", "));
    if let Some(name) = names.iter().find(|name| !ALLOCATORS.contains(&name.as_str())) {
        return Err(bad(name));
    }
    let mut chosen = ALLOCATORS.to_vec();
    chosen.retain(|known| names.iter().any(|name| name == known));
    if chosen.is_empty() { Err(bad(value)) } else { Ok(chosen) }
}

#[cfg(test)]
mod tests {
    use super::{Args, Mode};

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_defaults_are_five_rounds_of_everything() {
        let args = parse("").unwrap();
        assert_eq!((args.rounds, args.allocators.len(), args.build), (5, 10, true));
        assert!(args.wants("micro", "tree"));
    }

    #[test]
    fn allocators_are_in_the_order_of_the_table_and_each_once() {
        let args = parse("--alloc stoolap,system,stoolap").unwrap();
        assert_eq!(args.allocators, ["system", "stoolap"]);
    }

    #[test]
    fn patterns_are_a_range_of_seeds() {
        let args = parse("--patterns 3-12").unwrap();
        assert_eq!((args.mode, args.patterns, args.rounds), (Mode::Patterns, (3, 12), 3));
    }

    #[test]
    fn only_is_by_substring() {
        let args = parse("--only ring,pair64 --rounds 2").unwrap();
        assert!(args.wants("micro", "ring_16_threads") && args.wants("micro", "pair64"));
        assert!(!args.wants("micro", "pair_mixed"));
    }

    #[test]
    fn only_may_name_a_program() {
        let args = parse("--only engines,gzip").unwrap();
        assert!(args.wants("engines", "sql_insert") && args.wants("real", "gzip"));
        assert!(!args.wants("real", "word_count"));
    }

    #[test]
    fn bad_values_are_named_with_what_is_accepted() {
        for (line, parts) in [
            ("--rounds 0", ["\"0\"", "from 1 to 1000"]),
            ("--rounds", ["--rounds", "needs a value"]),
            ("--from", ["--from", "needs a value"]),
            ("--patterns 7", ["\"7\"", "such as 1-100"]),
            ("--patterns 9-7", ["\"9-7\"", "such as 1-100"]),
            ("--patterns 0-7", ["\"0-7\"", "such as 1-100"]),
            ("--alloc system,dlmalloc", ["\"dlmalloc\"", "rusty_alloc"]),
            ("--alloc ,", ["\",\"", "rusty_alloc"]),
            ("--only ,", ["\",\"", "such as ring,real"]),
            ("--fast", ["\"--fast\"", "not an option"]),
            ("--scaling --patterns 1-2", ["--patterns and --scaling", "two modes"]),
            ("--from f --instructions", ["--from and --instructions", "two modes"]),
            ("--patterns 1-2 --only pair", ["--only does nothing", "--patterns"]),
            ("--only pair --from f", ["--only does nothing", "--from"]),
            ("--alloc system --from f", ["--alloc does nothing", "--from"]),
            ("--from f --rounds 2", ["--rounds does nothing", "--from"]),
            ("--instructions --quick", ["--quick does nothing", "--instructions"]),
        ] {
            let message = parse(line).unwrap_err();
            assert!(parts.iter().all(|part| message.contains(part)), "{line}: {message}");
            assert_eq!(message.lines().count(), 1, "{line}: {message}");
        }
        let empty = ["--only", ""].map(str::to_owned);
        assert!(Args::parse(empty.into_iter()).unwrap_err().contains("\"\""));
    }

    #[test]
    fn what_a_mode_heeds_it_takes() {
        for line in [
            "--from f --details",
            "--patterns 1-2 --alloc system --rounds 2 --quick --no-build",
            "--scaling --only scale_heap --alloc system --rounds 2 --quick --no-build",
            "--instructions --only pair64 --alloc system --no-build",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }
}
