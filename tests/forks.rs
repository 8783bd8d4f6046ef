//! Forks at bad moments, and what is left of the parent in the child. A program rather than tests
//! of the harness, whose threads would be there in each of them: it runs itself again for each
//! scenario, and a process that does not get on is a failure.

#[allow(dead_code, reason = "others look at pictures, too")]
mod support;

use std::hint::black_box;
use std::process::{Command, Stdio};
#[cfg(feature = "profile")]
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use spanalloc::SpanAlloc;
use support::Scratch;
use support::forked::code_of;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const SCENARIO: &str = "FORKS_TEST_SCENARIO";
const PREFIX: &str = "FORKS_TEST_PREFIX";
const PATIENCE: Duration = Duration::from_secs(60);
/// The code of a process in which all went well.
const WELL: i32 = 3;
/// The same where the system does not let it be seen.
const SKIPPED: i32 = 4;

#[cfg(feature = "profile")]
static STOP: AtomicBool = AtomicBool::new(false);

type Scenario = (&'static str, fn());

const SCENARIOS: &[Scenario] = &[
    ("a_handler_of_an_abort_of_ours_may_fork", fork_while_dying),
    #[cfg(feature = "profile")]
    ("a_child_writes_at_exit_whatever_threads_were_starting", exit_beside_threads_that_start),
    #[cfg(feature = "profile")]
    ("a_child_is_not_held_up_by_who_counts_sites", fork_while_sites_are_counted),
    #[cfg(feature = "profile")]
    ("a_thread_without_a_heap_may_be_in_the_loader", fork_beside_one_in_the_loader),
    ("of_processes_of_one_number_one_writes_at_exit", exit_in_namespaces),
    #[cfg(feature = "collections")]
    ("a_child_of_the_same_number_waits_for_no_thread", drop_in_namespaces),
];

fn main() {
    if let Ok(name) = std::env::var(SCENARIO) {
        let (_, scenario) = SCENARIOS.iter().find(|(known, _)| *known == name).unwrap();
        scenario();
        // SAFETY: ends the process.
        unsafe { libc::_exit(WELL) };
    }
    for (name, _) in SCENARIOS {
        let scratch = Scratch::new(&format!("forks-{name}"));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(SCENARIO, name).env("SPANALLOC", "formats=text");
        command.env(PREFIX, scratch.prefix("app")).stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > 2 * PATIENCE {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{name} does not end");
            }
            thread::sleep(Duration::from_millis(5));
        };
        match status.code() {
            Some(WELL) => println!("forks: {name}: passed"),
            Some(SKIPPED) => {
                support::skip::skip("namespaces", "there are no namespaces of processes here");
            }
            _ => panic!("{name}: {status}"),
        }
    }
}

/// What a forked child that runs `work` ends with; 9 if it has to be killed.
fn code_in_child(work: impl FnOnce()) -> i32 {
    // SAFETY: what the child may do is the test.
    let process = unsafe { libc::fork() };
    assert!(process >= 0, "fork failed");
    if process == 0 {
        work();
        // SAFETY: ends the process.
        unsafe { libc::_exit(WELL) };
    }
    code_of(process, PATIENCE / 4)
}

/// As a reporter of crashes does, whose work is in a process of its own.
fn fork_while_dying() {
    extern "C" fn report(_: libc::c_int) {
        // SAFETY: the child does nothing but end.
        let process = unsafe { libc::fork() };
        if process == 0 {
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: waits for our own child.
        let ended = unsafe { libc::waitpid(process, &raw mut status, 0) };
        let well = process > 0 && ended == process && status == 0;
        // SAFETY: ends the process.
        unsafe { libc::_exit(if well { WELL } else { 1 }) };
    }
    // Another thread, so that there is a lock of its own to wait for, too.
    let other = thread::spawn(|| black_box(vec![1_u8; 100]).len());
    assert_eq!(other.join().unwrap(), 100);
    // SAFETY: a handler that forks, waits and ends.
    unsafe { libc::signal(libc::SIGABRT, report as *const () as libc::sighandler_t) };
    let layout = std::alloc::Layout::from_size_align(20 << 20, 8).unwrap();
    // SAFETY: the size is not zero.
    let block = black_box(unsafe { std::alloc::alloc(layout) });
    for _ in 0..2 {
        // SAFETY: the second time it is not, which the allocator is to find.
        unsafe { std::alloc::dealloc(block, layout) };
    }
    // SAFETY: ends the process.
    unsafe { libc::_exit(1) };
}

/// A child's report at exit is written on a thread of its own where the stack is small.
#[cfg(feature = "profile")]
fn exit_beside_threads_that_start() {
    let mut prefix = std::env::var_os(PREFIX).unwrap();
    prefix.push("-%p");
    spanalloc::dump_at_exit(&prefix).unwrap();
    for _ in 0..4 {
        thread::spawn(|| {
            while !STOP.load(SeqCst) {
                thread::spawn(|| ()).join().unwrap();
            }
        });
    }
    let forks = || {
        for round in 0..600 {
            assert_eq!(code_in_child(exit_as_in_c), WELL, "round {round}");
        }
    };
    let small = thread::Builder::new().stack_size(256 << 10);
    small.spawn(forks).unwrap().join().unwrap();
    let directory = std::path::Path::new(&prefix).parent().unwrap();
    let is_table = |name: std::ffi::OsString| name.to_string_lossy().ends_with(".classes.txt");
    let entries = std::fs::read_dir(directory).unwrap();
    let tables = entries.filter(|entry| is_table(entry.as_ref().unwrap().file_name())).count();
    assert!(tables >= 500, "{tables} reports");
    STOP.store(true, SeqCst);
}

#[cfg(feature = "profile")]
fn fork_while_sites_are_counted() {
    let meter = spanalloc::Meter::with_sites();
    let allocate = || drop(black_box(Box::new([1_u8; 100])));
    thread::scope(|scope| {
        let other = &meter;
        for _ in 0..2 {
            scope.spawn(move || {
                other.count(|| {
                    while !STOP.load(SeqCst) {
                        allocate();
                    }
                });
            });
        }
        for round in 0..200 {
            let in_child = || {
                (0..20).for_each(|_| allocate());
                assert!(meter.profile().is_none(), "of the parent's");
            };
            let code = meter.count(|| code_in_child(in_child));
            assert_eq!(code, WELL, "round {round}");
            // A child that begins to count, and one that has counted of its own.
            let code = code_in_child(|| {
                meter.count(allocate);
                let own = spanalloc::Meter::with_sites();
                own.count(allocate);
                assert_eq!(own.profile().unwrap().sites.len(), 1);
                drop(own);
                assert!(meter.usage().allocs > 0);
            });
            assert_eq!(code, WELL, "round {round}, in the child alone");
        }
        STOP.store(true, SeqCst);
    });
    assert!(!meter.profile().unwrap().sites.is_empty());
}

/// A thread of C, which allocates nothing, holds the loader's lock; the child asks for a profile.
#[cfg(feature = "profile")]
fn fork_beside_one_in_the_loader() {
    use std::ffi::c_void;
    static IN_LOADER: AtomicU32 = AtomicU32::new(0);
    unsafe extern "C" fn stay(_: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> i32 {
        IN_LOADER.store(1, SeqCst);
        loop {
            // SAFETY: waits for nothing but the time.
            unsafe { libc::poll(std::ptr::null_mut(), 0, 1000) };
        }
    }
    extern "C" fn ask(_: *mut c_void) -> *mut c_void {
        // SAFETY: `stay` looks at nothing.
        unsafe { libc::dl_iterate_phdr(Some(stay), std::ptr::null_mut()) };
        std::ptr::null_mut()
    }
    let mut thread = std::mem::MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: an out-parameter, and a function that any thread may run.
    let made = unsafe {
        libc::pthread_create(thread.as_mut_ptr(), std::ptr::null(), ask, std::ptr::null_mut())
    };
    assert_eq!(made, 0);
    while IN_LOADER.load(SeqCst) == 0 {
        thread::yield_now();
    }
    let code = code_in_child(|| drop(black_box(spanalloc::profile::capture())));
    assert_eq!(code, WELL);
}

/// Runs `work` in the first process of a namespace; `work` may then [`fork_the_same`].
fn in_namespace(work: impl FnOnce()) {
    let code = code_in_child(|| {
        // SAFETY: concerns this process, which has one thread, and those that it makes.
        if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) } != 0 {
            // SAFETY: ends the process.
            unsafe { libc::_exit(SKIPPED) };
        }
        let code = code_in_child(work);
        // SAFETY: ends the process.
        unsafe { libc::_exit(code) };
    });
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) };
}

/// What a child ends with that has the number of this process, which starts no thread any more.
fn fork_the_same(work: impl FnOnce()) -> i32 {
    assert_eq!(std::process::id(), 1);
    // SAFETY: concerns the processes that this one makes.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
    code_in_child(|| {
        assert_eq!(std::process::id(), 1);
        work();
    })
}

fn exit_as_in_c() {
    // SAFETY: ends the process, with its handlers.
    unsafe { libc::exit(WELL) };
}

fn exit_in_namespaces() {
    in_namespace(|| {
        let prefix = std::env::var_os(PREFIX).unwrap();
        spanalloc::dump_at_exit(&prefix).unwrap();
        let table = std::path::PathBuf::from(prefix).with_extension("classes.txt");
        assert_eq!(fork_the_same(exit_as_in_c), WELL);
        assert!(!table.exists(), "the child wrote its parent's");
        exit_as_in_c();
    });
}

#[cfg(feature = "collections")]
fn drop_in_namespaces() {
    use spanalloc::pool::{Epochs, Pool};
    in_namespace(|| {
        let pool: Pool<Vec<u8>> = Pool::new(Vec::new);
        let epochs = Epochs::every(&pool, PATIENCE).unwrap();
        let snapshotter = spanalloc::Snapshotter::start(PATIENCE, 5).unwrap();
        let code = fork_the_same(|| {
            drop(epochs);
            assert_eq!(snapshotter.stop().iter().count(), 2);
        });
        assert_eq!(code, WELL);
    });
}
