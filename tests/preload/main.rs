//! Programs that were never compiled for this allocator, under the library to preload:
//! C and C++ programs of `programs/`, each of which checks itself and ends with 0.
//!
//! The library is built once. Skipped, with a message, where there is no C compiler. How
//! many children the storms of forks have is `PRELOAD_TEST_FORKS`; if unset, 1,000, and
//! 200 where each writes its reports. A full run has 10,000.
#![cfg(feature = "profile")]

mod hardships;
mod loading;
#[allow(dead_code, reason = "each test uses a part")]
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{fs, thread};

use support::skip::skip;

const PATIENCE: Duration = Duration::from_secs(600);
const VARIABLES: [&str; 3] = ["", "sample=4KiB", "sample=1"];

/// The library, and where programs are put.
struct Setup {
    library: PathBuf,
    scratch: PathBuf,
}

/// Builds the library by the documented command; none without a compiler for C.
fn setup() -> Option<&'static Setup> {
    static SETUP: OnceLock<Option<Setup>> = OnceLock::new();
    let build = || {
        if Command::new("c++").arg("--version").output().is_err() {
            skip("c++", "there is no C++ compiler");
            return None;
        }
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("preload");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["rustc", "--profile", "preload", "--quiet", "--lib", "--features", "preload"]);
        cargo.args(["--crate-type", "cdylib", "--manifest-path"]).arg(home.join("Cargo.toml"));
        cargo.arg("--target-dir").arg(&target);
        cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        assert!(cargo.status().expect("cargo starts").success(), "the library does not build");
        let scratch = target.join("programs");
        fs::create_dir_all(&scratch).unwrap();
        Some(Setup { library: target.join("preload/libspanalloc.so"), scratch })
    };
    SETUP.get_or_init(build).as_ref()
}

impl Setup {
    /// Compiles a file of `programs/` to `output`.
    fn compile(&self, source: &str, output: &str, options: &[&str]) -> PathBuf {
        let source =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/preload/programs").join(source);
        let output = self.scratch.join(output);
        let compiler =
            if source.extension().is_some_and(|name| name == "cc") { "c++" } else { "cc" };
        let mut command = Command::new(compiler);
        command.args(["-O2", "-pthread", "-Wno-unused-result", "-Wno-alloc-size-larger-than"]);
        command.args(["-fomit-frame-pointer", "-o"]).arg(&output).arg(&source).args(options);
        command.arg("-ldl");
        assert!(command.status().expect("a compiler").success(), "{}", source.display());
        output
    }

    fn command(&self, program: &Path, variable: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LD_PRELOAD", &self.library).env("SPANALLOC", variable);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// Waits for a program, which must end with 0 in time.
#[track_caller]
fn passes(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{command:?} hangs");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// Runs a program under the library, unsampled, sampled, and with every block sampled.
#[track_caller]
fn passes_in_every_way(source: &str, arguments: &[&str]) {
    let Some(setup) = setup() else { return };
    let program = setup.compile(source, &source.replace('.', "-"), &[]);
    for variable in VARIABLES {
        let mut command = setup.command(&program, variable);
        command.args(arguments);
        passes(command);
    }
}

#[test]
fn what_is_freed_after_a_thread_s_last_destructor_begins_no_heap() {
    passes_in_every_way("late_frees.c", &[]);
}

#[test]
fn sizes_alignments_and_errno_are_glibcs() {
    let Some(setup) = setup() else { return };
    // Without the library first: they are glibc's rules indeed.
    passes(Command::new(setup.compile("rules.c", "rules-plain", &[])));
    passes_in_every_way("rules.c", &[]);
}

#[test]
fn the_c_library_may_allocate_at_any_time() {
    passes_in_every_way("reenter.c", &[]);
}

#[test]
fn operators_of_cpp_allocate_ask_and_throw() {
    passes_in_every_way("operators.cc", &[]);
}

#[test]
fn operators_that_a_program_replaces_serve_all_forms() {
    let Some(setup) = setup() else { return };
    passes(Command::new(setup.compile("replaced.cc", "replaced-plain", &[])));
    passes_in_every_way("replaced.cc", &[]);
}

#[test]
fn ten_thousand_short_threads_and_a_thousand_at_once() {
    passes_in_every_way("threads.c", &["10000", "1000"]);
}

#[test]
fn memory_goes_back_when_the_threads_have_ended_and_when_asked_to() {
    passes_in_every_way("given_back.c", &[]);
}

/// How many children a storm has.
fn forks(unless_set: usize) -> usize {
    std::env::var("PRELOAD_TEST_FORKS").map_or(unless_set, |forks| forks.parse().unwrap())
}

#[test]
fn a_storm_of_children_while_threads_allocate() {
    passes_in_every_way("forks.c", &[&forks(1000).to_string()]);
}

#[test]
fn every_child_of_a_storm_writes_its_reports() {
    let Some(setup) = setup() else { return };
    let program = setup.compile("forks.c", "forks-dumping", &[]);
    let reports = fresh_directory(setup, "storm");
    let prefix = reports.join("storm-%p");
    let variable = format!("sample=4KiB,formats=folded,dump={}", prefix.display());
    let forks = forks(200);
    let mut command = setup.command(&program, &variable);
    command.arg(forks.to_string());
    passes(command);
    let prefixes = prefixes(&reports);
    // Of eight children one is vfork's alone, and one has a child of its own. Their numbers
    // come again: threads take of the same 32,768.
    let of_kind = |kind: usize| (0..forks).filter(|number| number % 8 == kind).count();
    assert_eq!(prefixes.len(), 1 + forks - of_kind(2) + of_kind(4), "{:?}", prefixes.keys());
    for (name, files) in &prefixes {
        assert_eq!(files.len(), 3, "{name}: {files:?}");
    }
}

/// Each is the first process of a namespace of its own, so all are number 1.
#[test]
fn processes_of_one_number_write_their_reports_each() {
    let Some(setup) = setup() else { return };
    let program = setup.compile("sites.cc", "sites-again", &[]);
    let reports = fresh_directory(setup, "again");
    let namespace = |arguments: &[&Path]| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--pid", "--fork", "--", "env"]).args(arguments);
        command
    };
    if !namespace(&[Path::new("true")]).output().is_ok_and(|output| output.status.success()) {
        return skip("namespaces", "there are no namespaces of processes here");
    }
    let preload = PathBuf::from(format!("LD_PRELOAD={}", setup.library.display()));
    let dump = reports.join("%p");
    let variable = format!("SPANALLOC=sample=1,formats=folded,dump={}", dump.display());
    for _ in 0..3 {
        passes(namespace(&[&preload, Path::new(&variable), &program]));
    }
    let prefixes = prefixes(&reports);
    assert_eq!(prefixes.keys().collect::<Vec<_>>(), ["1", "1-2", "1-3"]);
    assert!(prefixes.values().all(|files| files.len() == 3), "{prefixes:?}");
}

#[test]
fn no_way_to_end_is_changed_by_the_reports() {
    let Some(setup) = setup() else { return };
    let program = setup.compile("ends.c", "ends", &[]);
    // Of some 300 processes that a handler ends those write none that it interrupted in the
    // allocator: of all sampled most. 113, 157 and 253 have been seen.
    for (sample, least) in [("1", 20), ("64KiB", 50), ("16MiB", 100)] {
        let reports = fresh_directory(setup, &format!("ends-{sample}"));
        let dump = reports.join("run");
        let variable = format!("sample={sample},formats=folded,dump={}", dump.display());
        passes(setup.command(&program, &variable));
        let written = prefixes(&reports).len();
        assert!(written >= least, "sampled every {sample}, {written} processes wrote reports");
    }
}

#[test]
fn a_limit_on_the_address_space_is_enomem() {
    let Some(setup) = setup() else { return };
    let program = setup.compile("limit.c", "limit", &[]);
    let reports = fresh_directory(setup, "limit-reports");
    let dumping = format!("sample=64KiB,dump={}", reports.join("run").display());
    for variable in ["", "sample=64KiB", &dumping] {
        passes(setup.command(&program, variable));
    }
    assert!(!prefixes(&reports).is_empty());
    // What is known of each block takes more than the smallest blocks themselves.
    let mut command = setup.command(&program, "sample=1");
    command.args(["350", "5"]);
    passes(command);
}

#[test]
fn libraries_with_static_thread_local_storage_are_opened_as_without_us() {
    let Some(setup) = setup() else { return };
    let program = setup.compile("libraries.c", "libraries", &[]);
    let library = |number: usize| {
        let name = format!("libtls{number}.so");
        setup.compile("tls.c", &name, &["-shared", "-fPIC", "-DLETTERS=40"])
    };
    let libraries: Vec<_> = (0..24).map(library).collect();
    let opened = |mut command: Command| {
        command.args(&libraries);
        let output = passes(command);
        String::from_utf8(output.stdout).unwrap().trim().parse::<usize>().unwrap()
    };
    let without = opened(Command::new(&program));
    assert!(without > 3, "{without}");
    assert_eq!(opened(setup.command(&program, "sample=1KiB")), without);
}

/// An empty directory for reports.
fn fresh_directory(setup: &Setup, name: &str) -> PathBuf {
    let path = setup.scratch.join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// The files of a directory by what precedes the report's own name.
fn prefixes(directory: &Path) -> BTreeMap<String, Vec<String>> {
    let mut prefixes = BTreeMap::<String, Vec<String>>::new();
    for entry in fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let report =
            [".alloc.", ".inuse.", ".peak.", ".heap.", ".classes.", ".top.", ".json", ".html"]
                .iter()
                .find_map(|report| name.find(report));
        let at = report.unwrap_or_else(|| panic!("{name} is no report"));
        prefixes.entry(name[..at].to_owned()).or_default().push(name[at..].to_owned());
    }
    prefixes
}

/// The bytes of a folded file at stacks that end in `path`, root first.
fn bytes_at(folded: &str, path: &[&str]) -> u64 {
    let ends = |stack: &str| stack.split(';').collect::<Vec<_>>().ends_with(path);
    let lines = folded.lines().filter_map(|line| line.rsplit_once(' '));
    lines.filter(|(stack, _)| ends(stack)).map(|(_, bytes)| bytes.parse::<u64>().unwrap()).sum()
}

#[test]
fn functions_of_c_programs_and_of_their_children_are_named() {
    let Some(setup) = setup() else { return };
    let program = setup.compile("sites.c", "sites", &[]);
    let library = setup.compile("tls.c", "liblate.so", &["-shared", "-fPIC", "-DLETTERS=40"]);
    let reports = fresh_directory(setup, "sites-reports");
    let variable = format!("sample=1,dump={}", reports.join("run").display());
    let mut command = setup.command(&program, &variable);
    command.arg(library);
    passes(command);

    let prefixes = prefixes(&reports);
    assert_eq!(prefixes.len(), 3, "{:?}", prefixes.keys());
    let read = |prefix: &str, report: &str| {
        fs::read_to_string(reports.join(format!("{prefix}{report}"))).unwrap()
    };
    let (mut parents, mut forked, mut executed) = (0, 0, 0);
    for (prefix, files) in &prefixes {
        assert!(prefix.starts_with("run.sites."), "{prefix}");
        assert!(files.contains(&".json".to_owned()), "{files:?}");
        let (allocated, held) = (read(prefix, ".alloc.folded"), read(prefix, ".inuse.folded"));
        let of_parent = ["main", "hold_thousand", "leaf"];
        let of_child = ["main", "only_in_child", "leaf"];
        let of_library = ["main", "by_library", "through_library", "leaf"];
        let child = bytes_at(&allocated, &of_child);
        assert!(child == 0 || child == 100_000, "{allocated}");
        match (bytes_at(&allocated, &of_parent), child) {
            (200_000, 0) => {
                parents += 1;
                assert_eq!(bytes_at(&held, &of_parent), 100_000, "{held}");
                assert_eq!(bytes_at(&held, &["main", "hold_grown", "leaf"]), 16_000, "{held}");
                let through = bytes_at(&allocated, &of_library);
                assert_eq!(through, 2900 * 64, "{allocated}");
            }
            // It goes on with what it inherited.
            (200_000, _) => forked += 1,
            (0, _) => executed += 1,
            _ => panic!("{allocated}"),
        }
        let own =
            allocated.lines().find(|line| line.contains("spanalloc") && !line.contains("dlopen"));
        assert_eq!(own, None);
        assert!(!allocated.contains(";malloc "), "{allocated}");
    }
    assert_eq!((parents, forked, executed), (1, 1, 1));
}

#[test]
fn functions_of_cpp_programs_are_named() {
    let Some(setup) = setup() else { return };
    let program = setup.compile("sites.cc", "sites-cpp", &[]);
    let reports = fresh_directory(setup, "sites-cpp-reports");
    let variable = format!("sample=1,dump={}/%n", reports.display());
    passes(setup.command(&program, &variable));
    let prefixes = prefixes(&reports);
    let prefix = prefixes.keys().next().expect("a report");
    let allocated = fs::read_to_string(reports.join(format!("{prefix}.alloc.folded"))).unwrap();
    let through = |function: &str| {
        let lines = allocated.lines().filter_map(|line| line.rsplit_once(' '));
        let stacks = lines.filter(|(stack, _)| stack.split(';').any(|frame| frame == function));
        stacks.map(|(_, bytes)| bytes.parse::<u64>().unwrap()).sum::<u64>()
    };
    // A node each, and a text of 101 bytes.
    assert!(through("app::chain") >= 1000 * (40 + 101), "{allocated}");
    assert!(through("app::Table<long>::grow") >= 8 * (16384 + 8192), "{allocated}");
    assert!(!allocated.contains("operator new"), "{allocated}");
}

/// Numbers of a row of the table of size classes: allocations, and frees.
fn row(classes: &str, size: &str) -> (u64, u64) {
    let line = classes.lines().find(|line| line.trim_start().starts_with(size));
    let line = line.unwrap_or_else(|| panic!("no {size} in:\n{classes}"));
    let rest = line.trim_start().strip_prefix(size).unwrap();
    let mut cells = rest.split_whitespace().map(|cell| cell.parse().expect("a number"));
    (cells.next().unwrap(), cells.next().unwrap())
}

#[test]
fn every_kind_of_report_of_a_cpp_program_is_read() {
    let Some(setup) = setup() else { return };
    let program = setup.compile("sites.cc", "sites-kinds", &[]);
    let reports = fresh_directory(setup, "sites-kinds-reports");
    let prefix = reports.join("run");
    passes(setup.command(&program, &format!("sample=1,dump={}", prefix.display())));
    let prefixes = prefixes(&reports);
    let path = |report: &str| {
        reports.join(format!("{}{report}", prefixes.keys().next().expect("a report")))
    };
    let read = |report: &str| fs::read_to_string(path(report)).unwrap();

    // A node each, of 40 bytes, and a text of 101; the rows of all sizes add up.
    let classes = read(".classes.txt");
    for size in ["48 B", "112 B"] {
        let (allocated, freed) = row(&classes, size);
        assert!((1000..1100).contains(&allocated), "{classes}");
        assert!((1000..=allocated).contains(&freed), "{classes}");
    }
    let is_size = |line: &&str| line.contains(" B ") || line.contains("iB ");
    let sizes = classes.lines().skip(1).take_while(|line| !line.starts_with("---"));
    let sums = sizes.filter(is_size).fold((0, 0), |sums, line| {
        let unit = line.find("B ").expect("a unit") + 1;
        let (allocated, freed) = row(&classes, line[..unit].trim_start());
        (sums.0 + allocated, sums.1 + freed)
    });
    assert_eq!(row(&classes, "total"), sums, "{classes}");

    for report in [".alloc.svg", ".peak.svg"] {
        let svg = read(report);
        #[cfg(feature = "flamegraph")]
        support::check_tags(&svg);
        for function in ["app::chain", "app::Table&lt;long&gt;::grow"] {
            assert!(svg.contains(function), "{report} lacks {function}");
        }
    }
    assert!(read(".html").contains("\"app::chain\""));
    assert!(read(".html").trim_end().ends_with("</html>"));

    #[cfg(feature = "pprof")]
    {
        let arguments = ["-top", "-unit=B", "-nodecount=1000", "-sample_index=alloc_space"];
        let Some(top) = support::pprof(&arguments, &path(".heap.pb.gz")) else { return };
        for (function, bytes) in
            [("app::chain", 1000 * (40 + 101)), ("app::Table<long>::grow", 8 * (16384 + 8192))]
        {
            let line = top.lines().find(|line| line.split_whitespace().nth(5) == Some(function));
            let line = line.unwrap_or_else(|| panic!("no {function} in:\n{top}"));
            let through = line.split_whitespace().nth(3).unwrap().trim_end_matches('B');
            assert!(through.parse::<u64>().unwrap() >= bytes, "{top}");
        }
    }
}

/// What the fast paths cost: up to the first return everything lies in one line.
#[test]
fn the_fast_paths_of_malloc_and_free_are_short() {
    let run = |program: &str, arguments: &[&str], library: &Path| {
        let output = Command::new(program).args(arguments).arg(library).output().ok()?;
        String::from_utf8(output.stdout).ok()
    };
    let Some(setup) = setup() else { return };
    let symbols = run("nm", &["-D", "--defined-only"], &setup.library);
    let Some(symbols) = symbols.filter(|_| cfg!(target_arch = "x86_64")) else {
        return skip("nm", "there is no nm, or another processor");
    };
    for (function, instructions_max) in [("malloc", 18), ("free", 22), ("_Znwm", 21)] {
        let of = |line: &&str| line.ends_with(&format!(" T {function}"));
        let line = symbols.lines().find(of).unwrap_or_else(|| panic!("{function} is missing"));
        let start = u64::from_str_radix(&line[..16], 16).unwrap();
        let (start, stop) = (format!("{start:#x}"), format!("{:#x}", start + 256));
        let range =
            ["-d", "--no-show-raw-insn", "--start-address", &start, "--stop-address", &stop];
        let text = run("objdump", &range, &setup.library).expect("objdump runs");
        let lines = text.lines().filter_map(|line| line.split_once(":\t"));
        let code: Vec<&str> = lines.map(|(_, instruction)| instruction.trim()).collect();
        let end = code.iter().position(|instruction| instruction.starts_with("ret"));
        let path = &code[..=end.unwrap_or_else(|| panic!("{function} does not return: {text}"))];
        assert!(!path.iter().any(|instruction| instruction.starts_with("call")), "{path:#?}");
        assert!(path.len() <= instructions_max, "{function}: {}\n{path:#?}", path.len());
        println!("{function}: {} instructions", path.len());
        if function == "free" {
            // The list is found by way of the thread pointer, which is one load, with or
            // without a size; without one its place is a load as well, beside the other.
            assert!(longest_chain_of_loads(path) <= 2, "{path:#?}");
        }
    }
}

/// How many loads of straight code wait for one another at most.
fn longest_chain_of_loads(code: &[&str]) -> usize {
    // The register's name without what says its width.
    let register = |name: &str| {
        let name = name.trim_start_matches(['%', '$', '*', '-']);
        let name = name.strip_prefix(['r', 'e']).unwrap_or(name);
        name.trim_end_matches(['x', 'l', 'h', 'd', 'w', 'b']).to_owned()
    };
    let mut depths = BTreeMap::<String, usize>::new();
    let mut longest = 0;
    for instruction in code {
        let instruction = instruction.split('#').next().unwrap_or("");
        let Some((name, operands)) = instruction.split_once(' ') else { continue };
        let mut inside = false;
        let mut operands: Vec<&str> = operands
            .trim()
            .split(|letter| {
                inside = (inside || letter == '(') && letter != ')';
                letter == ',' && !inside
            })
            .collect();
        let is_memory = |operand: &str| operand.contains('(') || operand.contains("%fs:");
        let depth_of = |operand: &str| {
            let inner = operand.split_once('(').map_or(operand, |(_, inner)| inner);
            let names = inner.trim_end_matches(')').split(',').filter(|name| name.contains('%'));
            let depth = names.map(|name| depths.get(&register(name)).copied().unwrap_or(0)).max();
            depth.unwrap_or(0) + usize::from(is_memory(operand) && name != "lea")
        };
        let moves = name.starts_with("mov") || name == "lea";
        let only_reads = ["cmp", "test"].contains(&name.trim_end_matches(['b', 'w', 'l', 'q']));
        let target = (!only_reads).then(|| operands[operands.len() - 1]);
        if moves {
            operands.pop();
        }
        let depth = operands.iter().map(|operand| depth_of(operand)).max().unwrap_or(0);
        longest = longest.max(depth);
        if let Some(target) = target.filter(|target| !is_memory(target)) {
            depths.insert(register(target), depth);
        }
    }
    longest
}
