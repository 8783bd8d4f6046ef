//! An inverted index over a directory tree of text, and where its memory goes.
//!
//! ```console
//! $ cargo run --release --example index [PATH]
//! ```
//!
//! Maps each word to the files it is in and its positions there. Without a path it
//! reads the source of the crates that cargo has unpacked on this machine, or this
//! repository where there are none. What spanalloc adds is in [`main`] and [`run`]:
//! one `static`, and three calls at the end that show the size classes, the largest
//! allocation sites, and leave flamegraphs in `flamegraphs/`.
//!
//! Words of the source: a *run* is a few megabytes of files in order; a worker
//! thread makes a *segment*, the index of one run; the main thread *merges*
//! segments in the order of their runs, so the result is the same for any number
//! of workers.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use spanalloc::SpanAlloc;
use spanalloc::report::Weight;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new().sample_every(64 * 1024);

/// Where the reports go: the beginning of their paths.
const DUMP_PREFIX: &str = "flamegraphs/index";
/// Text that one worker takes at a time.
const RUN_BYTES: u64 = 4 << 20;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("index: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let root = input(env::args_os().skip(1).map(PathBuf::from))?;
    println!("indexing {}", root.display());

    let start = Instant::now();
    let tree = Tree::walk(&root)?;
    let index = build(&tree);
    if index.files == 0 {
        let looked_at = tree.files.len();
        return Err(format!(
            "{}: holds no text ({} looked at, none in UTF-8); accepted: a file or directory of text",
            root.display(),
            files(looked_at),
        )
        .into());
    }
    let seconds = start.elapsed().as_secs_f64();
    summary(&tree, &index, seconds);

    println!("\n{}", spanalloc::stats());
    println!("{}", spanalloc::profile::capture().top(10, Weight::AllocatedBytes));
    // Now rather than at exit, so that the index is still in use.
    for path in spanalloc::dump(DUMP_PREFIX)? {
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// What to index: the one argument; without, what cargo has unpacked.
fn input(mut arguments: impl Iterator<Item = PathBuf>) -> Result<PathBuf, Box<dyn Error>> {
    match (arguments.next(), arguments.next()) {
        (Some(_), Some(second)) => {
            let second = second.display();
            Err(format!("one argument too many: {second}; accepted: index [PATH]").into())
        }
        (Some(path), None) => Ok(path),
        (None, _) => {
            let home = env::var_os("CARGO_HOME").map(PathBuf::from);
            let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")));
            let crates = home.map(|home| home.join("registry/src")).filter(|path| path.is_dir());
            Ok(crates.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()))
        }
    }
}

/// The files below a directory, in the order of their paths, without what is hidden
/// and what is below a directory marked as a cache, such as cargo's `target`.
struct Tree {
    files: Vec<(PathBuf, u64)>,
    /// Directories and files below the root that could not be read.
    unreadable: usize,
}

impl Tree {
    /// Finds the files without following links.
    fn walk(root: &Path) -> Result<Self, String> {
        let named = |error: io::Error| format!("{}: {error}", root.display());
        let mut tree = Self { files: Vec::new(), unreadable: 0 };
        if root.is_file() {
            let file = fs::File::open(root).map_err(named)?;
            tree.files.push((root.to_owned(), file.metadata().map_err(named)?.len()));
            return Ok(tree);
        }
        fs::read_dir(root).map_err(named)?;
        let mut directories = vec![root.to_owned()];
        while let Some(directory) = directories.pop() {
            let is_cache = directory != root && directory.join("CACHEDIR.TAG").exists();
            if is_cache {
                continue;
            }
            if tree.list(&directory, &mut directories).is_err() {
                tree.unreadable += 1;
            }
        }
        tree.files.sort_unstable();
        Ok(tree)
    }

    fn list(&mut self, directory: &Path, directories: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                self.files.push((entry.path(), entry.metadata()?.len()));
            }
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Ranges of `files` that hold about [`RUN_BYTES`] each.
    fn runs(&self) -> Vec<Range<usize>> {
        let (mut runs, mut first, mut bytes) = (Vec::new(), 0, 0);
        for (at, (_, file_bytes)) in self.files.iter().enumerate() {
            bytes += file_bytes;
            if bytes >= RUN_BYTES || at + 1 == self.files.len() {
                runs.push(first..at + 1);
                (first, bytes) = (at + 1, 0);
            }
        }
        runs
    }
}

/// Workers read and index runs; this thread merges their segments as they come.
fn build(tree: &Tree) -> Index {
    let runs = tree.runs();
    let workers = thread::available_parallelism().map_or(1, usize::from).min(runs.len());
    let next_run = AtomicUsize::new(0);
    let mut progress = Progress::new(tree.bytes());
    let mut index = Index::default();
    // Bounded, so that workers cannot run far ahead of the merge.
    let (sender, segments) = mpsc::sync_channel(workers);
    thread::scope(|scope| {
        for _ in 0..workers {
            let (sender, runs, next_run) = (sender.clone(), &runs, &next_run);
            scope.spawn(move || {
                loop {
                    let number = next_run.fetch_add(1, Ordering::Relaxed);
                    let Some(run) = runs.get(number) else { return };
                    let segment = Index::of_run(&tree.files, run.clone());
                    if sender.send((number, segment)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        // Segments that came before their turn.
        let mut waiting = BTreeMap::new();
        let mut turn = 0;
        for (number, segment) in segments {
            waiting.insert(number, segment);
            while let Some(segment) = waiting.remove(&turn) {
                turn += 1;
                index.merge(segment);
                progress.show(&index);
            }
        }
    });
    progress.clear();
    index
}

/// Where each word is. Files are numbered as in [`Tree::files`].
#[derive(Default)]
struct Index {
    words: HashMap<Box<str>, Postings>,
    files: usize,
    bytes: u64,
    not_text: usize,
    unreadable: usize,
}

impl Index {
    /// The segment of a run.
    fn of_run(files: &[(PathBuf, u64)], run: Range<usize>) -> Self {
        let mut segment = Self::default();
        for number in run {
            let Ok(bytes) = fs::read(&files[number].0) else {
                segment.unreadable += 1;
                continue;
            };
            match String::from_utf8(bytes) {
                Ok(text) if !text.contains('\0') && !text.is_empty() => {
                    segment.add_file(number, &text);
                }
                _ => segment.not_text += 1,
            }
        }
        segment
    }

    fn add_file(&mut self, file: usize, text: &str) {
        self.files += 1;
        self.bytes += text.len() as u64;
        for (word, positions) in positions_by_word(text) {
            match self.words.get_mut(&*word) {
                Some(postings) => postings.push(file, &positions),
                None => {
                    let mut postings = Postings::default();
                    postings.push(file, &positions);
                    self.words.insert(word.into(), postings);
                }
            }
        }
    }

    /// Appends a segment whose files come after those merged before.
    fn merge(&mut self, segment: Self) {
        self.files += segment.files;
        self.bytes += segment.bytes;
        self.not_text += segment.not_text;
        self.unreadable += segment.unreadable;
        for (word, postings) in segment.words {
            match self.words.get_mut(&word) {
                Some(merged) => merged.append(&postings),
                None => _ = self.words.insert(word, postings),
            }
        }
    }

    /// The word that is in most files, the first of equals.
    fn most_widespread(&self) -> Option<(&str, &Postings)> {
        let words = self.words.iter().map(|(word, postings)| (&**word, postings));
        words.max_by_key(|(word, postings)| (postings.files, std::cmp::Reverse(*word)))
    }
}

/// The words of a text in lower case, each with its positions, counted in words.
fn positions_by_word(text: &str) -> HashMap<String, Vec<u32>> {
    let mut positions = HashMap::<String, Vec<u32>>::new();
    let words = text.split(|char: char| !char.is_alphanumeric() && char != '_');
    for (position, word) in (0..).zip(words.filter(|word| !word.is_empty())) {
        positions.entry(word.to_lowercase()).or_default().push(position);
    }
    positions
}

/// The places of one word: per file, ascending, the file as the difference to the
/// one before, the number of positions, and each as the difference to the one
/// before. All numbers are in seven bits per byte, the last byte without its top bit.
#[derive(Default)]
struct Postings {
    encoded: Vec<u8>,
    files: usize,
    positions: usize,
    last_file: usize,
}

impl Postings {
    fn push(&mut self, file: usize, positions: &[u32]) {
        self.number(file - self.last_file);
        self.number(positions.len());
        let mut last = 0;
        for position in positions {
            self.number((position - last) as usize);
            last = *position;
        }
        self.files += 1;
        self.positions += positions.len();
        self.last_file = file;
    }

    /// Appends postings of later files. Only their first file is encoded anew: it
    /// was a difference to 0.
    fn append(&mut self, later: &Self) {
        let mut rest = later.encoded.as_slice();
        if let Some(first_file) = read_number(&mut rest) {
            self.number(first_file - self.last_file);
            self.encoded.extend_from_slice(rest);
        }
        self.files += later.files;
        self.positions += later.positions;
        self.last_file = later.last_file;
    }

    fn number(&mut self, mut number: usize) {
        while number >= 0x80 {
            self.encoded.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.encoded.push(number as u8);
    }

    /// The files in ascending order with the first position in each.
    fn iter(&self) -> impl Iterator<Item = (usize, usize)> {
        let (mut rest, mut file) = (self.encoded.as_slice(), 0);
        std::iter::from_fn(move || {
            file += read_number(&mut rest)?;
            let count = read_number(&mut rest)?;
            let first = read_number(&mut rest)?;
            for _ in 1..count {
                read_number(&mut rest)?;
            }
            Some((file, first))
        })
    }
}

/// Takes a number off the front.
fn read_number(encoded: &mut &[u8]) -> Option<usize> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (byte, rest) = encoded.split_first()?;
        *encoded = rest;
        number |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
}

/// A line on standard error about work that takes longer than a moment, if
/// somebody is there to see it.
struct Progress {
    total_bytes: u64,
    /// When the line is due again; never, if it is not for a terminal.
    due: Option<Instant>,
    shown: bool,
}

impl Progress {
    const FIRST: Duration = Duration::from_millis(500);
    const AGAIN: Duration = Duration::from_millis(100);

    fn new(total_bytes: u64) -> Self {
        let due = io::stderr().is_terminal().then(|| Instant::now() + Self::FIRST);
        Self { total_bytes, due, shown: false }
    }

    fn show(&mut self, index: &Index) {
        let now = Instant::now();
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        let percent = 100 * index.bytes / self.total_bytes.max(1);
        let (files, words) = (files(index.files), grouped(index.words.len()));
        eprint!("\r\x1b[K{percent:3} %  {files}, {words} words");
        let _ = io::stderr().flush();
        self.due = Some(now + Self::AGAIN);
        self.shown = true;
    }

    fn clear(&self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}

fn summary(tree: &Tree, index: &Index, seconds: f64) {
    let positions = index.words.values().map(|postings| postings.positions).sum();
    let encoded: usize = index.words.values().map(|postings| postings.encoded.len()).sum();
    println!(
        "{} ({} MiB) in {seconds:.1} s: {} words at {} positions, encoded in {} MiB",
        files(index.files),
        index.bytes >> 20,
        grouped(index.words.len()),
        grouped(positions),
        encoded >> 20,
    );
    for (count, what) in [
        (index.not_text, "no text and left out"),
        (index.unreadable + tree.unreadable, "not readable and left out"),
    ] {
        if count > 0 {
            println!("{}: {what}", files(count));
        }
    }
    if let Some((word, postings)) = index.most_widespread()
        && let Some((file, position)) = postings.iter().next()
    {
        let (count, first) = (files(postings.files), tree.files[file].0.display());
        println!("most widespread: \"{word}\" in {count}, first as word {position} of {first}");
    }
}

fn files(count: usize) -> String {
    format!("{} file{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// A number with its digits in groups of three.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
