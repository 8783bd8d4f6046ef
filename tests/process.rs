//! What happens to a process: fork, exec, limits, signals. Each in a child, which
//! is this program again with a scenario's name in its environment; a child that
//! does not end is a failure.

use std::ffi::c_void;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{mem, ptr, thread};

use spanalloc::SpanAlloc;

mod common;
#[path = "support/skip.rs"]
mod skip;
use common::{Block, Random, churn};

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const SCENARIO: &str = "PROCESS_TEST_SCENARIO";
const PATIENCE: Duration = Duration::from_secs(300);

/// What the child does; a test that passes at once where there is no scenario.
#[test]
fn child() {
    let Ok(scenario) = std::env::var(SCENARIO) else { return };
    match scenario.as_str() {
        "fork" => with_busy_threads(fork_and_go_on),
        "inherit" => with_busy_threads(free_what_another_thread_built),
        "limit" => run_out_of_address_space(),
        "exec" => with_busy_threads(exec_again),
        "signals" => be_interrupted(),
        "end" => with_busy_threads(|| std::process::exit(0)),
        "idle" => _ = burst_and_idle(),
        "idle-forked" => fork_beside_the_scavenger(),
        "listeners" => fork_while_listeners_come_and_go(),
        "errno" => free_where_no_thread_starts(1),
        "no-limit" => free_where_no_thread_starts(libc::RLIM_INFINITY),
        "mappings" => free_where_no_mapping_may_be_split(),
        "done" => churn(1, 1000, &Mutex::new(Vec::new())),
        _ => panic!("unknown scenario {scenario}"),
    }
}

fn command(scenario: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    command.env(SCENARIO, scenario);
    command
}

fn wait(mut child: Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the child hangs");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn passes(scenario: &str, variable: &str) {
    let child = command(scenario).env("SPANALLOC", variable).spawn().unwrap();
    let status = wait(child);
    assert!(status.success(), "{scenario} with SPANALLOC={variable}: {status}");
}

/// Of a child that ran nothing, all the others would say that it passes.
#[test]
fn a_child_runs_the_scenario_that_is_named() {
    let child = command("none").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(!wait(child).success());
}

#[test]
fn a_fork_while_threads_allocate() {
    passes("fork", "");
}

#[cfg(feature = "profile")]
#[test]
fn a_fork_while_threads_allocate_and_are_sampled() {
    passes("fork", "sample=512");
}

#[test]
fn a_child_gets_back_what_threads_of_its_parent_had() {
    passes("inherit", "");
}

#[test]
fn a_limit_on_the_address_space() {
    passes("limit", "");
}

#[cfg(feature = "profile")]
#[test]
fn a_limit_on_the_address_space_while_everything_is_sampled() {
    passes("limit", "sample=1");
}

#[test]
fn a_fork_while_listeners_come_and_go() {
    passes("listeners", "");
}

#[test]
fn a_free_that_cannot_start_the_scavenger_leaves_errno_alone_and_a_later_one_can() {
    passes("errno", "");
    passes("no-limit", "");
}

#[test]
fn a_child_that_was_forked_beside_the_scavenger_has_its_own() {
    passes("idle-forked", "decay=20ms");
}

#[test]
fn memory_goes_back_where_no_mapping_may_be_split() {
    passes("mappings", "");
}

#[test]
fn exec_while_threads_allocate() {
    passes("exec", "");
}

#[test]
fn signals_while_threads_allocate() {
    passes("signals", "");
}

#[test]
fn exit_while_threads_allocate() {
    for _ in 0..20 {
        passes("end", "");
    }
}

static STOP: AtomicBool = AtomicBool::new(false);

/// Runs `work` while three threads allocate, free and end.
fn with_busy_threads(work: impl FnOnce()) {
    let threads: Vec<_> = (0..3)
        .map(|thread| {
            thread::spawn(move || {
                let pool = Mutex::new(Vec::new());
                for seed in (thread..).step_by(3) {
                    if STOP.load(Relaxed) {
                        return;
                    }
                    // Every other round on a thread that ends.
                    if seed % 2 == 0 {
                        churn(seed, 300, &pool);
                    } else {
                        thread::scope(|scope| _ = scope.spawn(|| churn(seed, 300, &pool)));
                    }
                    pool.lock().unwrap().truncate(100);
                }
            })
        })
        .collect();
    work();
    STOP.store(true, Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Forks, does `work` in the child, and waits for it to end well.
fn in_a_fork(work: impl FnOnce()) {
    // SAFETY: what the child may do after this is the test.
    let process = unsafe { libc::fork() };
    assert!(process >= 0);
    if process == 0 {
        // SAFETY: no preconditions; ends a child that hangs.
        unsafe { libc::alarm(60) };
        // The thread that unwinds would be the last one, and the child end as if all were well.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(done.is_err().into()) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child.
    assert_eq!(unsafe { libc::waitpid(process, &raw mut status, 0) }, process);
    assert_eq!(status, 0, "of the child");
}

/// Children of a process at work inherit its blocks, allocate, start threads.
fn fork_and_go_on() {
    const FORKS: u64 = 60;
    let mut random = Random(3);
    for seed in 0..FORKS {
        let mut inherited: Vec<_> = (0..200).map(|_| Block::random(&mut random)).collect();
        in_a_fork(|| {
            inherited.iter_mut().step_by(2).for_each(|block| block.resize(500));
            drop(inherited);
            let pool = Mutex::new(Vec::new());
            churn(seed, 1000, &pool);
            drop(pool);
            churn_on_a_new_thread(seed + 1);
            let allocs = || spanalloc::stats().total().allocs;
            let before = allocs();
            churn(seed + 2, 100, &Mutex::new(Vec::new()));
            assert!(allocs() >= before + 10, "it counts what it allocates");
        });
    }
}

/// A child frees what a thread of its parent's had allocated, and builds the same again.
fn free_what_another_thread_built() {
    const STRINGS: usize = 200_000;
    const STRING_BYTES: usize = 100;
    let build = || {
        let string = |number| vec![number as u8; STRING_BYTES];
        (0..STRINGS).map(string).collect::<Vec<_>>()
    };
    let check = |built: &[Vec<u8>]| {
        let right = |(number, bytes): (usize, &Vec<u8>)| *bytes == [number as u8; STRING_BYTES];
        assert!(built.iter().enumerate().all(right));
    };
    let held = || {
        let memory = spanalloc::stats().memory;
        (memory.live + memory.cached + memory.spare + memory.free_pages) as usize
    };
    // The thread that built it sleeps on.
    let (give, take) = std::sync::mpsc::channel();
    thread::spawn(move || {
        give.send(build()).unwrap();
        thread::sleep(2 * PATIENCE);
    });
    let mut built = take.recv().unwrap();
    for child in 0..20 {
        in_a_fork(|| {
            let before = held();
            for _ in 0..4 {
                check(&built);
                built.clear();
                built = build();
            }
            let after = held();
            assert!(after < before + STRINGS * STRING_BYTES / 2, "{before} bytes, then {after}");
            drop(mem::take(&mut built));
            churn(child, 1000, &Mutex::new(Vec::new()));
            let freed = spanalloc::release_free_memory();
            assert!(freed > STRINGS * STRING_BYTES / 2, "{freed} bytes went back");
        });
    }
}

fn fork_while_listeners_come_and_go() {
    let listener = thread::spawn(|| {
        while !STOP.load(Relaxed) {
            drop(spanalloc::on_pressure(|_| ()));
        }
    });
    for _ in 0..300 {
        in_a_fork(|| {
            drop(spanalloc::on_pressure(|_| ()));
            assert!(spanalloc::set_soft_limit(0).is_ok());
        });
    }
    STOP.store(true, Relaxed);
    listener.join().unwrap();
}

/// Whether the allocator's thread runs that gives memory back.
fn scavenges() -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let mut names = tasks.flat_map(|task| std::fs::read_to_string(task.path().join("comm")));
    names.any(|name| name.trim() == "spanalloc-idle")
}

/// Frees what makes the scavenger worth while under a limit of the address space: where no stack
/// can be mapped it does not start, once that goes again it does.
fn free_where_no_thread_starts(limit: libc::rlim_t) {
    let blocks = || (0..64).map(|_| vec![1u8; 200 << 10]).collect::<Vec<_>>();
    let (first, second) = (blocks(), blocks());
    let set = |bytes| {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: `limit` is live.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
    };
    set(limit);
    // SAFETY: this thread's own.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *errno = 0 };
    drop(first);
    // SAFETY: as above.
    let after = unsafe { *errno };
    set(libc::RLIM_INFINITY);
    assert_eq!(after, 0);
    let since = Instant::now();
    if limit == libc::RLIM_INFINITY {
        while !scavenges() {
            assert!(since.elapsed() < PATIENCE / 2, "it is not worth while");
        }
        return;
    }
    assert!(!scavenges(), "it was started without a stack");
    // Refused once, it is not tried again for a second.
    thread::sleep(Duration::from_millis(1100));
    drop(second);
    while spanalloc::stats().memory.free_pages > 4 << 20 {
        assert!(since.elapsed() < PATIENCE / 2, "nothing goes back");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Large blocks in the middle of what the kernel has merged, freed when the process has as many
/// mappings as it may have. Smaller ones are kept for a while.
fn free_where_no_mapping_may_be_split() {
    let mut blocks: Vec<_> = (0..9).map(|_| vec![1u8; 80 << 20]).collect();
    let most: usize =
        std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    if most > 1 << 20 {
        return skip::skip("mappings", &format!("{most} mappings are too many to make"));
    }
    let protections = [libc::PROT_READ, libc::PROT_NONE];
    let mut made = 0;
    let refused = |at: usize| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, which touches no other.
        unsafe {
            libc::mmap(ptr::null_mut(), 1, protections[at % 2], flags, -1, 0) == libc::MAP_FAILED
        }
    };
    while !refused(made) {
        made += 1;
        assert!(made <= 2 * most, "{made} mappings of {most}");
    }
    let resident_mib = || {
        let mut usage = [0; 64];
        // SAFETY: opens a file.
        let file = unsafe { libc::open(c"/proc/self/statm".as_ptr(), libc::O_RDONLY) };
        // SAFETY: the buffer is live and has that size.
        let count = unsafe { libc::read(file, usage.as_mut_ptr().cast(), usage.len()) };
        let text = std::str::from_utf8(&usage[..count as usize]).unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4 / 1024
    };
    let before = resident_mib();
    drop(blocks.swap_remove(4));
    drop(blocks.swap_remove(3));
    let after = resident_mib();
    assert!(after + 150 < before, "{before} MiB, then {after}");
}

/// In a forked child: without `std::thread`, whose new threads take a lock (of the
/// table of their stacks) that a thread of the parent may have held at the fork.
fn churn_on_a_new_thread(seed: u64) {
    extern "C" fn run(seed: *mut c_void) -> *mut c_void {
        churn(seed.addr() as u64, 300, &Mutex::new(Vec::new()));
        ptr::null_mut()
    }
    let mut thread = mem::MaybeUninit::uninit();
    let argument = ptr::without_provenance_mut(seed as usize);
    // SAFETY: an out-parameter, the usual attributes, and what `run` expects.
    let failure = unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), run, argument) };
    assert_eq!(failure, 0);
    // SAFETY: written by the call above.
    let thread = unsafe { thread.assume_init() };
    // SAFETY: joinable, and joined once.
    assert_eq!(unsafe { libc::pthread_join(thread, ptr::null_mut()) }, 0);
}

fn exec_again() {
    use std::os::unix::process::CommandExt;
    assert!(wait(command("done").spawn().unwrap()).success());
    panic!("{}", command("done").exec());
}

/// Allocates until there is no more, several times over: what fails is null, what
/// was there stays whole, and what is freed can be had again.
fn run_out_of_address_space() {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
    let limit = pages * 4096 + (100 << 20);
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: `limit` is live.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);

    for size in [30 << 20, 1000, 3000, 20_000, 100_000, 1 << 20, 1000, 1 << 20] {
        let mut blocks = Vec::with_capacity(0);
        let had = loop {
            if blocks.try_reserve(1).is_err() {
                break blocks.len();
            }
            match Block::try_new(size, 8, false) {
                Some(block) => blocks.push(block),
                None => break blocks.len(),
            }
        };
        assert!(had * size >= 20 << 20, "{had} blocks of {size} bytes");
        assert!(Vec::<u8>::new().try_reserve_exact(1 << 40).is_err());
        for block in blocks.iter_mut().take(100) {
            // Grows or not; is whole in either case.
            block.try_resize(size * 3);
        }
        drop(blocks);
        spanalloc::release_free_memory();
    }
}

static TICKS: AtomicU64 = AtomicU64::new(0);

extern "C" fn tick(_: libc::c_int) {
    TICKS.fetch_add(1, Relaxed);
}

/// Signals interrupt every wait and every system call.
fn be_interrupted() {
    // SAFETY: all zeroes are a valid value, an empty mask among them.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = tick as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the handler touches an atomic only.
    assert_eq!(unsafe { libc::sigaction(libc::SIGALRM, &action, ptr::null_mut()) }, 0);
    let often = libc::timeval { tv_sec: 0, tv_usec: 200 };
    let timer = libc::itimerval { it_interval: often, it_value: often };
    // SAFETY: `timer` is live.
    assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) }, 0);
    with_busy_threads(|| {
        let pool = Mutex::new(Vec::new());
        while TICKS.load(Relaxed) < 2000 {
            churn(TICKS.load(Relaxed), 100, &pool);
            pool.lock().unwrap().truncate(100);
        }
    });
}

/// 40 MiB of small blocks, freed.
fn burst() {
    drop((0..40_000).map(|_| Block::new(1000, 8, false)).collect::<Vec<_>>());
}

/// Forks while the scavenger runs, which the child has not.
fn fork_beside_the_scavenger() {
    let since = Instant::now();
    loop {
        burst();
        if scavenges() {
            break;
        }
        assert!(since.elapsed() < PATIENCE / 2, "it does not run");
    }
    in_a_fork(|| {
        let held = burst_and_idle();
        assert!(held <= 8 << 20, "{held} bytes are held");
    });
}

/// A burst, then nothing until it has gone back; what is held then.
fn burst_and_idle() -> u64 {
    burst();
    let since = Instant::now();
    let held = || {
        let memory = spanalloc::stats().memory;
        memory.live + memory.cached + memory.spare + memory.free_pages
    };
    while held() > 8 << 20 && since.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(10));
    }
    // The line about it may yet come.
    thread::sleep(Duration::from_millis(100));
    held()
}

#[test]
fn a_trace_says_what_the_scavenger_gave_back() {
    let run = |variable| {
        let child = command("idle").env("SPANALLOC", variable).stderr(Stdio::piped()).spawn();
        let said = child.unwrap().wait_with_output().unwrap();
        assert!(said.status.success(), "with SPANALLOC={variable}: {}", said.status);
        String::from_utf8(said.stderr).unwrap()
    };
    let said = run("trace=scavenge,decay=20ms");
    let kib = |line: &str| -> Vec<u64> {
        let words = line.split_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    };
    let lines = said.lines().filter(|line| line.starts_with("spanalloc: scavenged: held "));
    let ticks: Vec<_> = lines.map(kib).collect();
    assert!(!ticks.is_empty(), "{said}");
    for tick in &ticks {
        let [held, left, live] = tick[..] else { panic!("{said}") };
        assert!(live <= left && left < held, "{said}");
    }
    let (first, last) = (&ticks[0], &ticks[ticks.len() - 1]);
    assert!(first[0] > 40_000 && last[1] < 10_000, "{said}");
    assert_eq!(run("decay=20ms").lines().filter(|line| line.contains("scavenged")).count(), 0);
}
