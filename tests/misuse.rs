//! What wrong frees of large blocks end with: one line, also where the block's slots have
//! joined others on the shelf or were divided there. Each in a child, which is this program again
//! with a scenario's name in its environment.

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
    // Neighbours, which join on the shelf.
    let blocks = [allocate(2), allocate(2), allocate(2)];
    assert!(blocks[1] == blocks[0].wrapping_add(2 * SLOT), "they are no neighbours");
    free(blocks[0]);
    free(blocks[1]);
    match scenario.as_str() {
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

fn is_noticed(scenario: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    let output = command.env(SCENARIO, scenario).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{scenario} was not noticed");
    assert!(said.contains("a large block was freed or resized that is not"), "{scenario}: {said}");
}

#[test]
fn a_second_free_of_a_block_that_joined_others() {
    is_noticed("first");
    is_noticed("joined");
}

#[test]
fn a_free_of_a_place_inside_a_block_that_joined_slots_became() {
    is_noticed("inside");
}

#[test]
fn a_free_of_what_is_left_of_a_divided_span() {
    is_noticed("rest");
}

#[test]
fn a_free_of_an_address_inside_a_block() {
    is_noticed("beside");
}
