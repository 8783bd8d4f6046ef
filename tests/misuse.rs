//! What wrong frees end with: one line. Of large blocks also where the block's slots have joined
//! others on the shelf or were divided there; of small ones when their lists go home, or their
//! spans are looked at, which `release_free_memory` does at once. Each in a child, which is this
//! program again with a scenario's name in its environment.

use std::alloc::{GlobalAlloc, Layout};
use std::process::Command;

use spanalloc::SpanAlloc;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const SCENARIO: &str = "MISUSE_TEST_SCENARIO";
const SLOT: usize = 64 << 10;
const TWO: Layout = match Layout::from_size_align(2 * SLOT, 8) {
    Ok(layout) => layout,
    Err(_) => panic!(),
};

/// Of a class that nothing else here allocates, with four blocks to a page.
const SMALL: Layout = match Layout::from_size_align(1000, 8) {
    Ok(layout) => layout,
    Err(_) => panic!(),
};

/// Bytes of its blocks.
const SMALL_BYTES: usize = 1024;

fn free_small(block: *mut u8) {
    // SAFETY: none in some scenarios: the allocator is to notice.
    unsafe { GLOBAL.dealloc(block, SMALL) };
}

fn allocate_small(count: usize) -> Vec<*mut u8> {
    // SAFETY: not of size 0.
    (0..count).map(|_| unsafe { GLOBAL.alloc(SMALL) }).collect()
}

fn free(block: *mut u8) {
    // SAFETY: none: the allocator is to notice.
    unsafe { GLOBAL.dealloc(block, TWO) };
}

fn allocate(slots: usize) -> *mut u8 {
    let layout = Layout::from_size_align(slots * SLOT, 8).unwrap();
    // SAFETY: not of size 0.
    unsafe { GLOBAL.alloc(layout) }
}

/// What the child does; a test that passes at once where there is no scenario.
#[test]
fn child() {
    let Ok(scenario) = std::env::var(SCENARIO) else { return };
    // SAFETY: no preconditions; ends a child that follows a chain without end.
    unsafe { libc::alarm(20) };
    match scenario.as_str() {
        "wrong size" => free_small(allocate(2)),
        "twice" => {
            let blocks = allocate_small(10);
            blocks.iter().for_each(|block| free_small(*block));
            free_small(blocks[0]);
        }
        "by both" => {
            let blocks = allocate_small(10);
            let all: Vec<_> = blocks.iter().map(|block| block.expose_provenance()).collect();
            let free_all = |all: Vec<usize>| {
                all.into_iter()
                    .for_each(|at| free_small(std::ptr::with_exposed_provenance_mut(at)));
            };
            let theirs = all.clone();
            std::thread::spawn(move || free_all(theirs)).join().unwrap();
            free_all(all);
        }
        "written" => {
            let blocks = allocate_small(40);
            let freed: Vec<_> =
                blocks[..30].iter().map(|block| block.expose_provenance()).collect();
            // By another thread: they wait in the span's word, in bundles, and not on a list.
            let free_all = move || {
                freed
                    .into_iter()
                    .for_each(|at| free_small(std::ptr::with_exposed_provenance_mut(at)));
            };
            std::thread::spawn(free_all).join().unwrap();
            // Of those that a bundle lists only the first one is looked at.
            for block in &blocks[..30] {
                // SAFETY: none: the block was freed; its memory is mapped still.
                unsafe { block.write_bytes(0x41, 16) };
            }
        }
        "in no block" => written_to_a_chain(8),
        "never used" => written_to_a_chain(50 * SMALL_BYTES),
        _ => return of_large(&scenario),
    }
    spanalloc::release_free_memory();
    println!("it was not noticed");
}

/// Has blocks that their own thread freed, and that went home, point to `offset` bytes from the
/// start of their span.
fn written_to_a_chain(offset: usize) {
    // 32 of the span's 64 are cut.
    let blocks = allocate_small(20);
    let start = blocks[0].map_addr(|address| address & !(SLOT - 1));
    assert!(blocks.iter().all(|block| block.addr() - start.addr() < 32 * SMALL_BYTES));
    // No page of theirs is free throughout.
    let freed = || blocks.iter().step_by(2);
    freed().for_each(|block| free_small(*block));
    spanalloc::release_free_memory();
    let link = start.wrapping_add(offset);
    for block in freed() {
        // SAFETY: none: the block was freed; its memory is mapped still.
        unsafe { block.cast::<*mut u8>().write(link) };
    }
    // Or the span would be as it was at the last look.
    free_small(blocks[1]);
}

fn of_large(scenario: &str) {
    // Neighbours, which join on the shelf.
    let blocks = [allocate(2), allocate(2), allocate(2)];
    assert!(blocks[1] == blocks[0].wrapping_add(2 * SLOT), "they are no neighbours");
    free(blocks[0]);
    free(blocks[1]);
    match scenario {
        "first" => free(blocks[0]),
        "joined" => free(blocks[1]),
        "inside" => {
            assert_eq!(allocate(4), blocks[0]);
            free(blocks[1]);
        }
        "rest" => {
            assert_eq!(allocate(1), blocks[0]);
            free(blocks[0].wrapping_add(SLOT));
        }
        "beside" => free(blocks[2].wrapping_add(4096)),
        _ => panic!("unknown scenario {scenario}"),
    }
    println!("it was not noticed");
}

const LARGE: &str = "a large block was freed or resized that is not allocated";

fn is_noticed(scenario: &str, message: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    let output = command.env(SCENARIO, scenario).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{scenario} was not noticed");
    assert!(said.contains(message), "{scenario}: {said}");
    assert_eq!(said.lines().filter(|line| line.contains("spanalloc: ")).count(), 1, "{said}");
}

#[test]
fn a_second_free_of_a_block_that_joined_others() {
    is_noticed("first", LARGE);
    is_noticed("joined", LARGE);
}

#[test]
fn a_free_of_a_place_inside_a_block_that_joined_slots_became() {
    is_noticed("inside", LARGE);
}

#[test]
fn a_free_of_what_is_left_of_a_divided_span() {
    is_noticed("rest", LARGE);
}

#[test]
fn a_free_of_an_address_inside_a_block() {
    is_noticed("beside", LARGE);
}

#[test]
fn a_free_of_a_large_block_as_a_small_one() {
    is_noticed("wrong size", "a pointer was freed that is not allocated, or with another size");
}

#[test]
fn a_second_free_of_a_small_block() {
    is_noticed("twice", "more blocks were freed than allocated");
    is_noticed("by both", "more blocks were freed than allocated");
}

#[test]
fn a_write_to_a_small_block_that_was_freed() {
    for scenario in ["written", "in no block", "never used"] {
        is_noticed(scenario, "a block was written to after it had been freed");
    }
}
