//! Arenas: words, records, a tree, text and slices, each with a reset at the end of the turn; and
//! boxes that are dropped one by one.

use crate::race::{Contender, row};
use bumpalo::Bump;
use spanalloc::arena::Arena;
use std::hint::black_box;

const OPERATIONS: u64 = 100_000;

/// A bump arena.
trait Peer {
    #[expect(clippy::mut_from_ref, reason = "the shape of an arena's alloc")]
    fn alloc<T: Copy>(&self, value: T) -> &mut T;
    fn text(&self, text: &str) -> &str;
    fn slice(&self, values: &[u32]) -> &[u32];
    fn reset(&mut self);
}

macro_rules! peer {
    ($arena:ty) => {
        impl Peer for $arena {
            #[inline(always)]
            fn alloc<T: Copy>(&self, value: T) -> &mut T {
                <$arena>::alloc(self, value)
            }
            #[inline(always)]
            fn text(&self, text: &str) -> &str {
                self.alloc_str(text)
            }
            #[inline(always)]
            fn slice(&self, values: &[u32]) -> &[u32] {
                self.alloc_slice_copy(values)
            }
            fn reset(&mut self) {
                <$arena>::reset(self);
            }
        }
    };
}

peer!(Arena);
peer!(Bump);

#[derive(Clone, Copy)]
enum Tree<'a> {
    Leaf,
    Node(&'a Tree<'a>, &'a Tree<'a>),
}

fn tree<A: Peer>(arena: &A, depth: u32) -> &Tree<'_> {
    match depth {
        0 => arena.alloc(Tree::Leaf),
        _ => arena.alloc(Tree::Node(tree(arena, depth - 1), tree(arena, depth - 1))),
    }
}

fn leaves(tree: &Tree<'_>) -> u64 {
    match tree {
        Tree::Leaf => 1,
        Tree::Node(left, right) => leaves(left) + leaves(right),
    }
}

#[inline(never)]
fn words<A: Peer>(arena: &mut A) {
    for number in 0..OPERATIONS {
        black_box(arena.alloc(number));
    }
    arena.reset();
}

#[inline(never)]
fn records<A: Peer>(arena: &mut A) {
    for number in 0..OPERATIONS {
        black_box(arena.alloc([number; 6]));
    }
    arena.reset();
}

#[inline(never)]
fn mixed<A: Peer>(arena: &mut A) {
    for number in 0..OPERATIONS / 4 {
        black_box(arena.alloc(number as u8));
        black_box(arena.alloc(number));
        black_box(arena.alloc(number as u16));
        black_box(arena.alloc([number as u32; 3]));
    }
    arena.reset();
}

#[inline(never)]
fn trees<A: Peer>(arena: &mut A) {
    black_box(leaves(tree(arena, 16)));
    arena.reset();
}

#[inline(never)]
fn texts<A: Peer>(arena: &mut A, texts: &[&str]) {
    for number in 0..OPERATIONS as usize {
        black_box(arena.text(texts[number % texts.len()]));
    }
    arena.reset();
}

#[inline(never)]
fn slices<A: Peer>(arena: &mut A, values: &[u32]) {
    for number in 0..OPERATIONS as usize {
        black_box(arena.slice(&values[..number % values.len()]));
    }
    arena.reset();
}

#[inline(never)]
fn fresh<A: Peer + Default>(values: u64) {
    for _ in 0..OPERATIONS / values {
        let arena = A::default();
        for number in 0..values {
            black_box(arena.alloc(number));
        }
    }
}

/// A row of two contenders that do the same to an arena of their own each.
macro_rules! duel {
    ($title:literal, $rounds:expr, $operations:expr, |$arena:ident| $work:expr) => {{
        let (mut ours, mut bump) = (Arena::new(), Bump::new());
        let ours = {
            let $arena = &mut ours;
            Contender::new("spanalloc::arena", move || $work)
        };
        let bump = {
            let $arena = &mut bump;
            Contender::new("bumpalo", move || $work)
        };
        row($title, $rounds, $operations, vec![ours, bump]);
    }};
}

pub fn run(rounds: usize) {
    let text = "the names in a source file are short but a few_of_them_are_rather_long x y index";
    let names: Vec<&str> = text.split(' ').collect();
    let names = &names[..];
    let values: [u32; 37] = std::array::from_fn(|value| value as u32);
    let values = &values[..];
    duel!("arena: u64", rounds, OPERATIONS, |arena| words(arena));
    duel!("arena: 48 bytes", rounds, OPERATIONS, |arena| records(arena));
    duel!("arena: 1, 8, 2 and 12 bytes", rounds, OPERATIONS, |arena| mixed(arena));
    duel!("arena: a tree of 131,071 nodes", rounds, (1 << 17) - 1, |arena| trees(arena));
    duel!("arena: names", rounds, OPERATIONS, |arena| texts(arena, names));
    duel!("arena: slices of 0 to 36 u32", rounds, OPERATIONS, |arena| slices(arena, values));
    row(
        "arena: a fresh arena for each 20 u64",
        rounds,
        OPERATIONS,
        vec![
            Contender::new("spanalloc::arena", || fresh::<Arena>(20)),
            Contender::new("bumpalo", || fresh::<Bump>(20)),
        ],
    );
    let (ours, bump, mut kept) = (Arena::new(), Bump::new(), Bump::new());
    row(
        "arena: box and drop a Vec",
        rounds,
        OPERATIONS,
        vec![
            Contender::new("spanalloc::arena", || {
                for _ in 0..OPERATIONS {
                    black_box(ours.alloc_box(Vec::<u8>::new()));
                }
            }),
            // Gives the block back, as ours does, if it is the youngest.
            Contender::new("bumpalo, allocator-api2", || {
                for _ in 0..OPERATIONS {
                    black_box(allocator_api2::boxed::Box::new_in(Vec::<u8>::new(), &bump));
                }
            }),
            // Gives nothing back: its memory grows until the reset.
            Contender::new("bumpalo, its own box", || {
                for _ in 0..OPERATIONS {
                    black_box(bumpalo::boxed::Box::new_in(Vec::<u8>::new(), &kept));
                }
                kept.reset();
            }),
        ],
    );
    let (ours, mut bump) = (Arena::new(), Bump::new());
    row(
        "arena: box 16 Vecs, drop them oldest first",
        rounds,
        OPERATIONS,
        vec![
            Contender::new("spanalloc::arena", || {
                for _ in 0..OPERATIONS / 16 {
                    drop(black_box([(); 16].map(|()| ours.alloc_box(Vec::<u8>::new()))));
                }
            }),
            // Gives back the last one only: without a reset its memory would grow for ever.
            Contender::new("bumpalo, allocator-api2", || {
                for _ in 0..OPERATIONS / 16 {
                    drop(black_box(
                        [(); 16]
                            .map(|()| allocator_api2::boxed::Box::new_in(Vec::<u8>::new(), &bump)),
                    ));
                }
                bump.reset();
            }),
        ],
    );
}
