//! The dump at exit, in child processes: this program runs itself again with a
//! scenario's name in its environment.
#![cfg(feature = "profile")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use spanalloc::SpanAlloc;
use support::Scratch;
#[cfg(feature = "flamegraph")]
use support::check_tags;
use support::skip::skip;

mod support;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const SCENARIO: &str = "DUMP_TEST_SCENARIO";
const OTHER_PREFIX: &str = "DUMP_TEST_OTHER_PREFIX";
const OBJECTS: usize = 1000;
const OBJECT_BYTES: usize = 24;

/// What the child does; a test that passes at once where there is no scenario.
#[test]
fn child() {
    let Ok(scenario) = std::env::var(SCENARIO) else { return };
    let held = hold_objects();
    match scenario.as_str() {
        "return" => std::mem::forget(held),
        "exit" => std::process::exit(7),
        "code" => {
            spanalloc::dump_at_exit(std::env::var_os(OTHER_PREFIX).unwrap()).unwrap();
            std::process::exit(0);
        }
        "handler" => exit_with_a_handler(),
        "fork" => fork_and_exit(),
        "threads" => allocate_on_threads(),
        "removed" => {
            fs::remove_file(std::env::current_exe().unwrap()).unwrap();
            std::process::exit(7);
        }
        "again" => {
            spanalloc::dump(std::env::var_os(OTHER_PREFIX).unwrap()).unwrap();
            std::process::exit(7);
        }
        _ => panic!("unknown scenario {scenario}"),
    }
}

#[allow(clippy::vec_box, reason = "each object is an allocation of its own")]
#[inline(never)]
fn hold_objects() -> Vec<Box<[u8; OBJECT_BYTES]>> {
    let mut held = Vec::with_capacity(OBJECTS);
    for _ in 0..OBJECTS {
        held.push(one_object());
    }
    held
}

#[inline(never)]
fn one_object() -> Box<[u8; OBJECT_BYTES]> {
    std::hint::black_box(Box::new([1; OBJECT_BYTES]))
}

fn fork_and_exit() -> ! {
    // SAFETY: the child calls nothing but `exit`.
    let process = unsafe { libc::fork() };
    assert!(process >= 0, "fork failed");
    if process == 0 {
        // SAFETY: runs the exit handlers, which is what the test is about.
        unsafe { libc::exit(0) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child.
    assert_eq!(unsafe { libc::waitpid(process, &raw mut status, 0) }, process);
    assert_eq!(status, 0);
    let written = PathBuf::from(std::env::var_os(OTHER_PREFIX).unwrap()).with_extension("json");
    std::process::exit(if written.exists() { 9 } else { 0 });
}

/// What the program does at a file that is too long is as it was when its exit handlers run.
fn exit_with_a_handler() -> ! {
    const FLAGS: libc::c_int = libc::SA_SIGINFO | libc::SA_ONSTACK;
    extern "C" fn handler(_: libc::c_int, _: *const libc::siginfo_t, _: *const libc::c_void) {}
    extern "C" fn look() {
        // SAFETY: zeroes are an action, and an out-parameter follows.
        let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: asks.
        unsafe { libc::sigaction(libc::SIGXFSZ, std::ptr::null(), &raw mut now) };
        if now.sa_sigaction != handler as *const () as usize || now.sa_flags & FLAGS != FLAGS {
            // SAFETY: ends the process.
            unsafe { libc::_exit(9) };
        }
    }
    // SAFETY: zeroes are an action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = FLAGS;
    // SAFETY: a handler that does nothing.
    unsafe { libc::sigaction(libc::SIGXFSZ, &raw const action, std::ptr::null_mut()) };
    // SAFETY: runs after the dump, whose handler is registered later.
    unsafe { libc::atexit(look) };
    spanalloc::dump_at_exit(std::env::var_os(OTHER_PREFIX).unwrap()).unwrap();
    std::process::exit(7);
}

const THREADS: usize = 6;
const EACH: usize = 5000;

fn allocate_on_threads() {
    let barrier = std::sync::Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                drop(one_object());
                barrier.wait();
                (0..EACH).for_each(|_| drop(one_object()));
            });
        }
    });
}

fn run(scenario: &str, variable: &str, other_prefix: &Path) -> Output {
    run_program(&std::env::current_exe().unwrap(), scenario, variable, other_prefix)
}

fn run_program(program: &Path, scenario: &str, variable: &str, other_prefix: &Path) -> Output {
    command(program, scenario, other_prefix).env("SPANALLOC", variable).output().unwrap()
}

fn command(program: &Path, scenario: &str, other_prefix: &Path) -> Command {
    use std::os::unix::process::CommandExt;

    let mut command = Command::new(program);
    // The harness for tests wants arguments in UTF-8, the program's own name among them.
    command.arg0("dump-test").args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    command.env(SCENARIO, scenario).env(OTHER_PREFIX, other_prefix);
    command
}

fn read(prefix: &Path, suffix: &str) -> String {
    let path = format!("{}{suffix}", prefix.display());
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn errors(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter(|line| line.contains("spanalloc:")).map(str::to_owned).collect()
}

/// The stacks of a folded file that pass through `function`, with their values.
fn stacks_through<'a>(folded: &'a str, function: &str) -> Vec<(Vec<&'a str>, u64)> {
    folded
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(stack, value)| (stack.split(';').collect::<Vec<_>>(), value.parse().unwrap()))
        .filter(|(frames, _)| frames.iter().any(|frame| frame.ends_with(function)))
        .collect()
}

#[test]
fn a_handler_of_the_programs_stays_as_it_is() {
    let scratch = Scratch::new("dump-handler");
    let output = run("handler", "sample=0", &scratch.prefix("out"));
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(read(&scratch.prefix("out"), ".classes.txt").contains("total"));
}

#[test]
fn every_allocation_is_found_at_its_site_when_main_returns() {
    let scratch = Scratch::new("return");
    let prefix = scratch.prefix("a/b/app");
    let output = run("return", &format!("sample=1,dump={}", prefix.display()), &prefix);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(errors(&output), [""; 0]);

    let folded = read(&prefix, ".inuse.folded");
    let stacks = stacks_through(&folded, "dump::one_object");
    let bytes: u64 = stacks.iter().map(|(_, value)| value).sum();
    assert_eq!(bytes, (OBJECTS * OBJECT_BYTES) as u64, "{folded}");
    let (frames, _) = &stacks[0];
    let at = frames.iter().position(|frame| frame.ends_with("dump::one_object")).unwrap();
    assert!(frames[at - 1].ends_with("dump::hold_objects"), "{frames:?}");
    assert!(frames.len() > 5, "{frames:?}");
    assert!(!folded.contains("spanalloc::"), "{folded}");

    assert!(read(&prefix, ".classes.txt").contains("total"));
    let json: serde_json::Value = serde_json::from_str(&read(&prefix, ".json")).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["profile"]["interval_bytes"], 1);
    assert!(!stacks_through(&read(&prefix, ".alloc.folded"), "dump::one_object").is_empty());
}

#[cfg(feature = "flamegraph")]
#[test]
fn flamegraphs_are_pictures_with_title_interval_and_total() {
    let scratch = Scratch::new("svg");
    let prefix = scratch.prefix("app");
    run("return", &format!("sample=64,dump={}", prefix.display()), &prefix);
    for (suffix, title) in [(".alloc.svg", "Bytes allocated"), (".inuse.svg", "Bytes in use")] {
        let svg = read(&prefix, suffix);
        check_tags(&svg);
        assert!(svg.contains(title));
        assert!(svg.contains("one per 64 B"), "{suffix}");
        assert!(svg.contains("dump::hold_objects"), "{suffix}");
        assert!(svg.contains(" bytes, "), "{suffix}");
    }
}

#[cfg(feature = "flamegraph")]
#[test]
fn without_samples_the_picture_says_so() {
    let scratch = Scratch::new("empty");
    let prefix = scratch.prefix("app");
    let output = run("return", &format!("sample=0,dump={}", prefix.display()), &prefix);
    assert!(output.status.success(), "{output:?}");
    let svg = read(&prefix, ".alloc.svg");
    check_tags(&svg);
    assert!(svg.contains("Nothing was sampled: set SPANALLOC=sample=512KiB"));
    assert_eq!(read(&prefix, ".alloc.folded"), "");
}

#[test]
fn the_formats_asked_for_are_written_and_no_others() {
    let scratch = Scratch::new("formats");
    let prefix = scratch.prefix("app");
    let written = |formats: &str| {
        let _ = fs::remove_dir_all(&scratch.0);
        let output =
            run("return", &format!("sample=1,dump={}{formats}", prefix.display()), &prefix);
        assert_eq!(errors(&output), [""; 0]);
        let files = fs::read_dir(&scratch.0).unwrap();
        let mut names: Vec<_> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(written(",formats=json+speedscope"), ["app.json", "app.speedscope.json"]);
    #[cfg(feature = "pprof")]
    assert_eq!(written(",formats=raw"), ["app.heap.raw.pb.gz"]);
    let folded = ["app.alloc.folded", "app.inuse.folded", "app.peak.folded"];
    assert_eq!(written(",formats=folded")[..], folded);
    assert_eq!(written(",formats=text"), ["app.classes.txt", "app.top.txt"]);
    let top = read(&prefix, ".top.txt");
    assert!(top.contains("every allocation") && top.contains("dump::hold_objects"), "{top}");
    let usual = written("");
    for name in ["app.classes.txt", "app.top.txt", "app.html", "app.json", "app.peak.folded"] {
        assert!(usual.iter().any(|file| file == name), "{usual:?}");
    }
    assert_eq!(usual.iter().any(|file| file == "app.heap.pb.gz"), cfg!(feature = "pprof"));
    assert!(!usual.iter().any(|file| file.contains("dhat") || file.contains("icicle")));
}

/// Each has an unwinder, whoever is stopped while it has one.
#[test]
fn threads_do_not_wait_for_each_others_unwinders() {
    let scratch = Scratch::new("threads");
    let prefix = scratch.prefix("app");
    let output =
        run("threads", &format!("sample=1,formats=json,dump={}", prefix.display()), &prefix);
    assert!(output.status.success(), "{output:?}");
    let json: serde_json::Value = serde_json::from_str(&read(&prefix, ".json")).unwrap();
    let without = json["profile"]["losses"]["without_unwinder"].as_u64().unwrap();
    assert!(without < (THREADS * EACH / 1000) as u64, "{without} stacks are short");
}

#[test]
fn an_exit_dumps_and_keeps_its_code() {
    let scratch = Scratch::new("exit");
    let prefix = scratch.prefix("app");
    let output = run("exit", &format!("dump={}", prefix.display()), &prefix);
    assert_eq!(output.status.code(), Some(7));
    assert!(read(&prefix, ".classes.txt").contains("not sampled"));
}

#[test]
fn the_environment_wins_over_code() {
    let scratch = Scratch::new("wins");
    let (by_environment, by_code) = (scratch.prefix("environment"), scratch.prefix("code"));
    run("code", &format!("dump={}", by_environment.display()), &by_code);
    read(&by_environment, ".json");
    assert!(!by_code.with_extension("json").exists());
    run("code", "", &by_code);
    read(&by_code, ".json");
}

#[test]
fn a_wrong_part_is_named_and_the_rest_applies() {
    let scratch = Scratch::new("wrong");
    let prefix = scratch.prefix("app");
    let variable = format!("sample=lots,colour=red,dump={}", prefix.display());
    let output = run("return", &variable, &prefix);
    assert!(output.status.success());
    let errors = errors(&output);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("\"sample=lots\"") && errors[0].contains("KiB"), "{errors:?}");
    assert!(errors[1].contains("\"colour=red\"") && errors[1].contains("dump=PREFIX"));
    read(&prefix, ".json");
}

#[test]
fn a_dump_that_cannot_be_written_says_so_in_one_line_and_keeps_the_code() {
    let scratch = Scratch::new("unwritable");
    let file = scratch.prefix("file");
    fs::write(&file, "old").unwrap();
    let prefix = file.join("app");
    let output = run("exit", &format!("dump={}", prefix.display()), &prefix);
    assert_eq!(output.status.code(), Some(7));
    let errors = errors(&output);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains(&file.display().to_string()), "{errors:?}");
    assert!(errors[0].contains("os error"), "{errors:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
}

/// The pictures are drawn with values of the thread, which are gone at exit.
#[test]
fn a_limit_on_the_length_of_files_keeps_the_code() {
    let scratch = Scratch::new("file-limit");
    let prefix = scratch.prefix("app");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 1; exec \"$@\"", "sh"]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--test-threads=1"]).env(SCENARIO, "exit");
    command.env("SPANALLOC", format!("sample=1,dump={}", prefix.display()));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let errors = errors(&output);
    assert!(errors.len() == 1 && errors[0].contains("File too large"), "{errors:?}");
    assert!(errors[0].contains(", .json, ") && errors[0].contains(", .html, "), "{errors:?}");
    let left = fs::read_dir(&scratch.0).unwrap();
    let part = |name: &Path| name.extension().is_some_and(|end| end == "part");
    assert!(!left.flatten().any(|entry| part(&entry.path())));
}

#[test]
fn a_thread_that_dumped_before_dumps_at_exit() {
    let scratch = Scratch::new("again");
    let (first, second) = (scratch.prefix("first"), scratch.prefix("second"));
    let output = run("again", &format!("sample=1,dump={}", second.display()), &first);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(errors(&output), [""; 0]);
    let names = |prefix: &str| {
        let entries = fs::read_dir(&scratch.0).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> =
            names.filter_map(|name| name.strip_prefix(prefix).map(str::to_owned)).collect();
        names.sort();
        names
    };
    assert!(names("first.").len() > 3);
    assert_eq!(names("first."), names("second."));
}

#[test]
fn what_was_there_stays_when_it_cannot_be_replaced() {
    let scratch = Scratch::new("stays");
    let prefix = scratch.prefix("app");
    fs::create_dir_all(scratch.prefix("app.classes.txt")).unwrap();
    let output = run("exit", &format!("dump={}", prefix.display()), &prefix);
    assert_eq!(output.status.code(), Some(7));
    let errors = errors(&output);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("app.classes.txt: "), "{errors:?}");
    assert!(prefix.with_extension("classes.txt").is_dir());
    read(&prefix, ".json");
    read(&prefix, ".html");
    let left = fs::read_dir(&scratch.0).unwrap().flatten();
    assert!(!left.into_iter().any(|entry| entry.path().extension().is_some_and(|e| e == "part")));
}

/// Where the directory's name has what would stand for something in a prefix.
#[test]
fn slips_in_the_variable_are_named_and_a_relative_prefix_stays_where_it_was_meant() {
    let scratch = Scratch::new("slips");
    let here = scratch.prefix("100%%.%d");
    fs::create_dir(&here).unwrap();
    let mut child = command(&std::env::current_exe().unwrap(), "exit", &here);
    child.env("SPANALLOC", "formats=json,formats=png, dump = out/%x keep=1").current_dir(&here);
    let output = child.output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let errors = errors(&output);
    assert_eq!(errors.len(), 3, "{errors:?}");
    for (line, part, what, accepted) in [
        (0, "formats=png", "an unknown format, which is not written: \"png\"", "text+json"),
        (1, "dump = out/%x keep=1", "taken for its value: \"keep\"", "commas between parts"),
        (2, "dump = out/%x keep=1", "stands for nothing and stays so: \"%x\"", "%% for a"),
    ] {
        assert!(errors[line].contains(&format!("\"{part}\" ")), "{errors:?}");
        assert!(errors[line].contains(what), "{errors:?}");
        assert!(
            errors[line].split_once("; accepted: ").unwrap().1.contains(accepted),
            "{errors:?}"
        );
    }
    let out: Vec<_> = fs::read_dir(here.join("out")).unwrap().flatten().collect();
    assert_eq!(out.iter().map(|entry| entry.file_name()).collect::<Vec<_>>(), ["%x keep=1.json"]);
}

#[test]
fn a_prefix_that_names_no_file_is_refused_at_once() {
    for wrong in ["", "out/", "out/.."] {
        let error = spanalloc::dump_at_exit(wrong).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(text.contains(&format!("{wrong:?}")) && text.contains("accepted"), "{text}");
    }
}

#[test]
fn a_forked_child_leaves_the_files_to_its_parent() {
    let scratch = Scratch::new("fork");
    let prefix = scratch.prefix("app");
    let output = run("fork", &format!("sample=1,dump={}", prefix.display()), &prefix);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(errors(&output), [""; 0]);
    read(&prefix, ".json");
}

/// A program that lies at a path that is not UTF-8, and is removed while it runs: its reports are
/// named as it was, and all are written.
#[test]
fn a_program_of_any_path_that_is_gone_is_named_as_it_was() {
    use std::os::unix::ffi::OsStrExt;

    let scratch = Scratch::new("removed");
    let directory = scratch.0.join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&directory).unwrap();
    let program = directory.join("gone");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let variable = format!("sample=1,dump={}", scratch.prefix("%n").display());
    let output = run_program(&program, "removed", &variable, &scratch.prefix("other"));
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(errors(&output), [""; 0]);
    let json: serde_json::Value =
        serde_json::from_str(&read(&scratch.prefix("gone"), ".json")).unwrap();
    let modules = json["profile"]["modules"].as_array().unwrap_or_else(|| panic!("{json}"));
    let main = modules.iter().find(|module| module["main"] == true).unwrap();
    assert!(main["path"].as_str().unwrap().ends_with("caf\u{fffd}/gone"), "{main}");
}

/// Who starts a program that runs as somebody else must not make it write files as them. Only
/// root can make such a program of a copy of this one: others see that they cannot.
#[test]
fn a_program_that_runs_as_another_user_takes_nothing_from_the_variable() {
    use std::os::unix::fs::{PermissionsExt, chown};
    const NOBODY: u32 = 65534;

    let scratch = Scratch::new("setuid");
    let program = scratch.prefix("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    if let Err(error) = chown(&program, Some(NOBODY), None) {
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        return skip("setuid", "only root can make a program of another user's");
    }
    if !may_be_another(&program) {
        return skip("setuid", "no program runs as another user here");
    }
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o777)).unwrap();

    let prefix = scratch.prefix("app");
    let output = run_program(&program, "exit", &format!("dump={}", prefix.display()), &prefix);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(errors(&output), [""; 0]);
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1, "the program alone");
}

/// Whether the system heeds a bit on a file that says whom it runs as.
fn may_be_another(program: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;

    let path = std::ffi::CString::new(program.as_os_str().as_bytes()).unwrap();
    let mut status = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: a terminated path, and room for the answer.
    assert_eq!(unsafe { libc::statvfs(path.as_ptr(), status.as_mut_ptr()) }, 0);
    // SAFETY: filled by the call above.
    let heeded = unsafe { status.assume_init() }.f_flag & libc::ST_NOSUID == 0;
    // SAFETY: asks only.
    heeded && unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) } == 0
}
