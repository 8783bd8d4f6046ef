//! A forked child that may make no process of its own cannot have one go to the loader first: it
//! keeps the names and the unwinder that its parent had.
#![cfg(feature = "profile")]

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

use spanalloc::report::Weight;
use spanalloc::{SpanAlloc, profile};

#[allow(dead_code, reason = "each test uses a part")]
mod support;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

/// Has the system refuse `clone` from here on; whether it agreed.
fn refuse_clone() -> bool {
    let statement = |code, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        // The number of the call.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_clone as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EAGAIN as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: takes numbers.
    let barred = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == 0;
    // SAFETY: the program is there while the call copies it.
    let taken = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) };
    barred && taken == 0
}

#[inline(never)]
fn held_by_the_child() -> Vec<u8> {
    black_box(vec![1; 100_000])
}

const REFUSED: i32 = 77;

#[test]
fn a_child_that_may_not_clone_keeps_names_and_unwinder() {
    profile::start(1).unwrap();
    let before = profile::capture();
    let (begun, end) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            let held = black_box(vec![1_u8; 1000]);
            begun.wait();
            end.wait();
            drop(held);
        });
        begun.wait();
        // SAFETY: the child calls nothing that a thread it does not have may hold a lock of.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = if refuse_clone() { in_child(before.modules.len()) } else { REFUSED };
            // SAFETY: ends the child.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: our child, and a live out-parameter.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        end.wait();
        if libc::WEXITSTATUS(status) == REFUSED {
            return support::skip::skip("seccomp", "the system takes no filter of calls");
        }
        assert_eq!(status, 0);
    });
}

fn in_child(modules: usize) -> i32 {
    let held = held_by_the_child();
    let profile = profile::capture();
    let top = profile.top(1, Weight::InUseBytes).to_string();
    drop(held);
    let later = profile::capture();
    println!("{} of {modules} modules, then {}\n{top}", profile.modules.len(), later.modules.len());
    let has_all = profile.modules.len() == modules && later.modules.len() == modules;
    i32::from(!(has_all && top.contains("held_by_the_child")))
}
