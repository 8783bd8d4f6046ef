//! Reports while a program runs, by `every=`, `grown=` and `signal=`, in child processes: this
//! program runs itself again with a scenario's name in its environment. A child that does not get
//! on is a failure.
#![cfg(feature = "profile")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use spanalloc::SpanAlloc;
use support::Scratch;
use support::forked::code_of;

#[allow(dead_code, reason = "others look at pictures, too")]
mod support;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const SCENARIO: &str = "DUMP_LIVE_TEST_SCENARIO";
const PREFIX: &str = "DUMP_LIVE_TEST_PREFIX";
const OBJECTS: u64 = 50_000;
/// Far more than the harness allocates of that size.
const OTHERS: u64 = 5_000;
const PATIENCE: Duration = Duration::from_secs(60);
const THREAD: &str = "spanalloc-dump";

/// What the child does; a test that passes at once where there is no scenario.
#[test]
fn child() {
    let Ok(scenario) = std::env::var(SCENARIO) else { return };
    match scenario.as_str() {
        "serve" => serve(),
        "fork" => fork_and_ask(),
        "own" => handle_it_ourselves(),
        "say" => say_where_later(),
        "daemon" => fork_and_say_where(),
        "dumping" => fork_while_reports_are_written(),
        "pieces" => hold_between_free_pieces(),
        _ => panic!("unknown scenario {scenario}"),
    }
}

/// Holds more objects for each line that it reads, and answers it.
fn serve() {
    let mut held = Vec::new();
    for _ in std::io::stdin().lock().lines() {
        held.extend((0..OBJECTS).map(|_| std::hint::black_box(Box::new([1_u8; 208]))));
        eprintln!("held");
    }
    std::process::exit(0);
}

/// Forks a child that asks itself for reports; ends with 3 if they came, with 4 if not.
fn fork_and_ask() {
    let prefix = PathBuf::from(std::env::var_os(PREFIX).unwrap());
    if prefix.ends_with("each") {
        // The child's are numbered from one all the same.
        raise(libc::SIGUSR2);
        wait_for(&file(&prefix, &format!(".{}.0001.json", std::process::id())));
    }
    // SAFETY: this allocator and what the child calls are fit for a child of threads.
    let process = unsafe { libc::fork() };
    assert!(process >= 0, "fork failed");
    if process == 0 {
        raise(libc::SIGUSR2);
        let own = format!("{}.{}.0001.json", prefix.display(), std::process::id());
        let shared = format!("{}.0001.json", prefix.display());
        let start = Instant::now();
        let patience = if prefix.ends_with("each") { PATIENCE } else { Duration::from_secs(1) };
        let mut came = false;
        while !came && start.elapsed() < patience {
            came = Path::new(&own).exists() || Path::new(&shared).exists();
            std::thread::sleep(Duration::from_millis(5));
        }
        // SAFETY: ends the process.
        unsafe { libc::_exit(if came { 3 } else { 4 }) };
    }
    std::process::exit(code_of(process, 2 * PATIENCE));
}

fn handle_it_ourselves() {
    static CALLED: AtomicU32 = AtomicU32::new(0);
    extern "C" fn handler(_: libc::c_int) {
        CALLED.fetch_add(1, Relaxed);
    }
    // SAFETY: a handler that may run anywhere.
    unsafe { libc::signal(libc::SIGUSR2, handler as *const () as libc::sighandler_t) };
    raise(libc::SIGUSR2);
    raise(libc::SIGUSR2);
    std::thread::sleep(Duration::from_millis(300));
    std::process::exit(CALLED.load(Relaxed).try_into().unwrap());
}

/// Asks for reports, says where they go, asks again; for each line that it reads.
fn say_where_later() {
    let mut lines = std::io::stdin().lock().lines();
    raise(libc::SIGUSR2);
    lines.next();
    spanalloc::dump_at_exit(std::env::var_os(PREFIX).unwrap()).unwrap();
    raise(libc::SIGUSR2);
    lines.next();
    std::process::exit(7);
}

/// As a daemon does, says where reports go in a child only; ends with 3 if they came.
fn fork_and_say_where() {
    let prefix = PathBuf::from(std::env::var_os(PREFIX).unwrap());
    spanalloc::set_soft_limit(1 << 40).unwrap();
    // SAFETY: this allocator and what the child calls are fit for a child of threads.
    let process = unsafe { libc::fork() };
    assert!(process >= 0, "fork failed");
    if process == 0 {
        assert_eq!(spanalloc::soft_limit(), 0, "of the parent's");
        spanalloc::dump_at_exit(&prefix).unwrap();
        raise(libc::SIGUSR2);
        wait_for(&file(&prefix, ".json"));
        // Its parent looks after a limit, of its own.
        let (tell, told) = std::sync::mpsc::channel();
        let _listener = spanalloc::on_pressure(move |pressure| tell.send(pressure.limit).unwrap());
        spanalloc::set_soft_limit(1).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE), Ok(1));
        // SAFETY: ends the process.
        unsafe { libc::_exit(3) };
    }
    std::process::exit(code_of(process, 2 * PATIENCE));
}

/// Forks again and again, at any moment of a report.
fn fork_while_reports_are_written() {
    for round in 0..50 {
        raise(libc::SIGUSR2);
        std::thread::sleep(Duration::from_millis(round * 7 % 20));
        // SAFETY: the child calls nothing but `_exit`.
        let process = unsafe { libc::fork() };
        assert!(process >= 0, "fork failed");
        if process == 0 {
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) };
        }
        assert_eq!(code_of(process, 2 * PATIENCE), 0, "round {round}");
    }
    std::process::exit(3);
}

/// Holds 40 MiB among 20 that are free in pieces too small for more, and then 15 more; ends with 3
/// if the latter alone had a report.
fn hold_between_free_pieces() {
    let first = file(Path::new(&std::env::var_os(PREFIX).unwrap()), ".0001.json");
    let blocks = |count: usize, mib: usize| (0..count).map(move |_| vec![1_u8; mib << 20]);
    let mut held: Vec<_> = blocks(40, 1).collect();
    let mut at = 0;
    held.retain(|_| {
        at += 1;
        at % 2 == 0
    });
    held.extend(blocks(10, 2));
    assert!(spanalloc::held_bytes() > 55 << 20, "{}", spanalloc::held_bytes());
    std::thread::sleep(Duration::from_millis(500));
    let came = first.exists();
    held.extend(blocks(15, 1));
    wait_for(&first);
    std::process::exit(if came { 4 } else { 3 });
}

fn raise(signal: libc::c_int) {
    // SAFETY: sends a signal to this thread.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

/// A child that serves, told by lines; killed when the test ends early.
struct Server(Child, BufReader<std::process::ChildStderr>);

impl Server {
    fn start(variable: &str) -> Self {
        let mut child = command("serve", variable, Path::new(""));
        child.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let answers = BufReader::new(child.stderr.take().unwrap());
        Self(child, answers)
    }

    fn hold_more(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"more\n").unwrap();
        let mut answer = String::new();
        self.1.read_line(&mut answer).unwrap();
        assert_eq!(answer, "held\n");
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: sends a signal to a child that was not waited for.
        assert_eq!(unsafe { libc::kill(self.0.id().try_into().unwrap(), signal) }, 0);
    }

    /// The signals that each of its threads for reports blocks, as the system tells.
    fn threads(&self) -> Vec<u64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        let status = |task: fs::DirEntry| fs::read_to_string(task.path().join("status"));
        let all = tasks.flatten().filter_map(|task| status(task).ok());
        let ours = all.filter(|status| status.contains(&format!("Name:\t{THREAD}\n")));
        let blocked = |status: String| {
            let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
            u64::from_str_radix(line, 16).unwrap()
        };
        ours.map(blocked).collect()
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
        let rest: Vec<_> = self.1.by_ref().lines().map(Result::unwrap).collect();
        assert!(!rest.iter().any(|line| line.contains("spanalloc")), "{rest:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(scenario: &str, variable: &str, prefix: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    command.env(SCENARIO, scenario).env("SPANALLOC", variable).env(PREFIX, prefix);
    command.stdout(Stdio::null());
    command
}

fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < PATIENCE, "{} does not come", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn file(prefix: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", prefix.display()))
}

/// Allocations of blocks of 208 bytes that a table tells of.
fn allocated(table: &Path) -> u64 {
    let text = fs::read_to_string(table).unwrap();
    let row = text.lines().find(|line| line.trim_start().starts_with("208 B ")).unwrap();
    row.split_whitespace().nth(2).unwrap().parse().unwrap()
}

fn is_about(found: u64, expected: u64) {
    assert!((expected..expected + OTHERS).contains(&found), "{found}, not some {expected}");
}

#[test]
fn each_signal_writes_a_numbered_set_of_reports() {
    let scratch = Scratch::new("live-signal");
    let prefix = scratch.prefix("app");
    let variable = format!("dump={}.%d,signal=USR2,formats=text+json", prefix.display());
    let mut server = Server::start(&variable);
    for number in 1..=2 {
        server.hold_more();
        server.signal(libc::SIGUSR2);
        // The last one of a set.
        wait_for(&file(&prefix, &format!(".000{number}.json")));
        is_about(allocated(&file(&prefix, &format!(".000{number}.classes.txt"))), number * OBJECTS);
    }
    let blocked = server.threads();
    assert_eq!(blocked.len(), 1, "threads for reports");
    assert_ne!(blocked[0] & 1 << (libc::SIGUSR2 - 1), 0, "it takes signals: {:x}", blocked[0]);
    server.hold_more();
    server.end();
    is_about(allocated(&file(&prefix, ".0003.classes.txt")), 3 * OBJECTS);
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 9, "three sets of three, and no parts");
}

#[test]
fn of_numbered_reports_as_many_stay_as_are_to_be_kept() {
    let scratch = Scratch::new("live-keep");
    let prefix = scratch.prefix("app");
    let variable = format!("dump={}.%d,signal=USR2,keep=2,formats=text+json", prefix.display());
    fs::write(file(&prefix, ".0001.notes"), "not ours").unwrap();
    let mut server = Server::start(&variable);
    for number in 1..=3 {
        // An answer: it runs, and takes signals.
        server.hold_more();
        server.signal(libc::SIGUSR2);
        wait_for(&file(&prefix, &format!(".000{number}.json")));
    }
    server.end();
    let mut there: Vec<_> = fs::read_dir(&scratch.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    let kept = ["0003", "0004"].iter().flat_map(|number| {
        ["classes.txt", "json", "top.txt"].map(|suffix| format!("app.{number}.{suffix}"))
    });
    let names: Vec<_> = ["app.0001.notes".to_owned()].into_iter().chain(kept).collect();
    assert_eq!(there, names);
}

/// A directory that has the name of a report: this cannot be written.
#[test]
fn what_a_failed_dump_was_to_replace_goes_with_the_next_one() {
    let scratch = Scratch::new("live-keep-failed");
    let prefix = scratch.prefix("app");
    let variable = format!("dump={}.%d,signal=USR2,keep=1,formats=json", prefix.display());
    fs::create_dir(file(&prefix, ".0002.json")).unwrap();
    let mut server = Server::start(&variable);
    server.hold_more();
    server.signal(libc::SIGUSR2);
    wait_for(&file(&prefix, ".0001.json"));
    server.signal(libc::SIGUSR2);
    let mut said = String::new();
    server.1.read_line(&mut said).unwrap();
    assert!(said.contains("dump failed: ") && said.contains("app.0002.json: "), "{said}");
    assert!(file(&prefix, ".0001.json").exists(), "no newer one is there");
    server.end();
    assert!(file(&prefix, ".0003.json").exists());
    assert!(!file(&prefix, ".0001.json").exists());
}

#[test]
fn without_a_number_each_dump_replaces_the_one_before() {
    let scratch = Scratch::new("live-every");
    let prefix = scratch.prefix("app");
    let variable =
        format!("keep=1,sample=1,dump={},every=1s,formats=text+folded", prefix.display());
    let mut server = Server::start(&variable);
    let mut said = String::new();
    server.1.read_line(&mut said).unwrap();
    assert!(said.contains("\"keep=1\" keeps nothing: without %d in dump="), "{said}");
    let (table, last) = (file(&prefix, ".classes.txt"), file(&prefix, ".peak.folded"));
    for number in 1..=2 {
        server.hold_more();
        fs::remove_file(&last).unwrap_or(());
        wait_for(&last);
        // The one that was under way may have begun before.
        fs::remove_file(&last).unwrap();
        wait_for(&last);
        is_about(allocated(&table), number * OBJECTS);
    }
    let folded = fs::read_to_string(file(&prefix, ".alloc.folded")).unwrap();
    assert!(folded.contains("serve") && !folded.contains("dump_live::wait"), "{folded}");
    server.end();
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 5);
}

#[test]
fn a_signal_without_a_prefix_is_answered_and_the_program_may_say_it() {
    let scratch = Scratch::new("live-later");
    let prefix = scratch.prefix("app");
    for variable in ["signal=usr2,formats=json", "dump=out/,signal=SIGUSR2,formats=json"] {
        let mut child = command("say", variable, Path::new(&file(&prefix, ".%d")));
        let mut child = child.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdin, stderr) = (child.stdin.take().unwrap(), child.stderr.take().unwrap());
        let mut lines = BufReader::new(stderr).lines().map(Result::unwrap);
        let said = lines.find(|line| line.contains("no reports")).unwrap();
        assert!(said.contains("accepted: dump=PREFIX, or dump_at_exit"), "{said}");
        writeln!(&stdin).unwrap();
        wait_for(&file(&prefix, ".0001.json"));
        drop(stdin);
        assert_eq!(child.wait().unwrap().code(), Some(7));
        assert_eq!(lines.next(), None);
        for number in 1..=2 {
            fs::remove_file(file(&prefix, &format!(".000{number}.json"))).unwrap();
        }
    }
}

/// Each line holds some 10 MiB more.
#[test]
fn memory_that_grows_past_a_further_multiple_has_a_dump() {
    let scratch = Scratch::new("live-grown");
    let prefix = scratch.prefix("app");
    let variable = format!("dump={}.%d,grown=25MiB,formats=json", prefix.display());
    let mut server = Server::start(&variable);
    for (lines, number) in [(3, 1), (3, 2)] {
        (0..lines).for_each(|_| server.hold_more());
        wait_for(&file(&prefix, &format!(".000{number}.json")));
    }
    server.end();
    // And the one at exit.
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 3);
}

#[test]
fn memory_that_is_free_has_not_grown() {
    let scratch = Scratch::new("live-pieces");
    let prefix = scratch.prefix("app");
    let variable = format!("dump={}.%d,grown=50MiB,decay=never,formats=json", prefix.display());
    let output = command("pieces", &variable, &prefix).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn there_is_no_thread_unless_it_is_asked_for() {
    let scratch = Scratch::new("live-none");
    let mut server = Server::start(&format!("dump={}", scratch.prefix("app").display()));
    server.hold_more();
    assert!(server.threads().is_empty());
    server.end();
}

#[test]
fn a_forked_child_writes_where_it_has_files_of_its_own() {
    let scratch = Scratch::new("live-fork");
    for (name, path, code) in [("each", "each.%p.%d", 3), ("shared", "shared.%d", 4)] {
        let path = scratch.prefix(path);
        let variable = format!("dump={},signal=SIGUSR2,formats=json", path.display());
        let prefix = scratch.prefix(name);
        let output = command("fork", &variable, &prefix).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{name}: {output:?}");
    }
    // Of one parent and its child at the signal and the two parents' at exit; `_exit` writes none.
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 4);
}

#[test]
fn a_handler_of_the_programs_replaces_ours() {
    let scratch = Scratch::new("live-own");
    let variable = format!("dump={}.%d,signal=USR2", scratch.prefix("app").display());
    let output = command("own", &variable, Path::new("")).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(scratch.prefix("app.0001.json").exists(), "at exit");
    assert!(!scratch.prefix("app.0002.json").exists());
}

#[test]
fn a_signal_that_is_ignored_stays_so() {
    let scratch = Scratch::new("live-ignored");
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(std::env::current_exe().unwrap());
    shell.args(["--exact", "child", "--test-threads=1"]).env(SCENARIO, "serve");
    shell.env("SPANALLOC", format!("dump={},signal=HUP", scratch.prefix("app").display()));
    let output = shell.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.matches("spanalloc:").count(), 1, "{errors}");
    assert!(errors.contains("signal 1 is handled or ignored already"), "{errors}");
}

#[test]
fn wrong_values_are_named_and_the_program_runs() {
    let scratch = Scratch::new("live-wrong");
    let prefix = scratch.prefix("app");
    for (keys, what, accepted) in [
        ("every=often", "\"every=often\" is not a time", "from 1 s"),
        ("every=10ms", "\"every=10ms\" is too short", "from 1 s"),
        ("grown=8", "\"grown=8\" is too small", "from 16MiB"),
        ("signal=KILL", "\"signal=KILL\" names no signal", "HUP, USR1, USR2"),
    ] {
        let variable = format!("{keys},dump={}", prefix.display());
        let mut child = command("serve", &variable, Path::new(""));
        let output = child.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(errors.matches("spanalloc:").count(), 1, "{errors}");
        assert!(errors.contains(what) && errors.contains(accepted), "{errors}");
        assert!(file(&prefix, ".json").exists());
    }
}

#[test]
fn a_child_that_says_where_itself_writes_there() {
    let scratch = Scratch::new("live-daemon");
    let parents = format!("dump={},", scratch.prefix("parent").display());
    for (variable, name) in [("", "app"), (&parents, "own")] {
        let variable = format!("{variable}signal=USR2,formats=json");
        let output = command("daemon", &variable, &scratch.prefix(name)).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
    }
    assert!(scratch.prefix("parent.json").exists(), "at its exit");
}

#[test]
fn a_fork_while_reports_are_written_does_not_wait_for_ever() {
    let scratch = Scratch::new("live-dumping");
    let variable = format!("sample=1,signal=USR2,dump={}", scratch.prefix("app").display());
    let output = command("dumping", &variable, Path::new("")).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn a_time_without_a_prefix_is_answered_once() {
    let mut server = Server::start("every=1s");
    let mut said = String::new();
    server.1.read_line(&mut said).unwrap();
    assert!(said.contains("no reports: nothing says where they go"), "{said}");
    std::thread::sleep(Duration::from_millis(2500));
    server.end();
}
