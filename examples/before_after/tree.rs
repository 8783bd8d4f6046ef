//! A compiler's front end in miniature: parse a source into a tree, fold constants into a new tree,
//! evaluate that. The nodes are boxes, or live in an arena that is reset after each source.

use crate::{Way, compare};
use spanalloc::arena::Arena;
use std::hint::black_box;

const SOURCES: u64 = 20_000;

/// A node that refers to others through `R`: a box, or a reference into an arena.
enum Node<R> {
    Number(i64),
    Variable(u8),
    Sum(R, R),
    Product(R, R),
}

struct Boxed(Box<Node<Boxed>>);

#[derive(Clone, Copy)]
struct InArena<'a>(&'a Node<InArena<'a>>);

/// What differs between the two ways.
trait Link: Sized {
    type Memory: Copy;
    fn new(memory: Self::Memory, node: Node<Self>) -> Self;
    fn node(&self) -> &Node<Self>;
}

impl Link for Boxed {
    type Memory = ();
    fn new((): (), node: Node<Self>) -> Self {
        Self(Box::new(node))
    }
    fn node(&self) -> &Node<Self> {
        &self.0
    }
}

impl<'a> Link for InArena<'a> {
    type Memory = &'a Arena;
    fn new(arena: &'a Arena, node: Node<Self>) -> Self {
        Self(arena.alloc(node))
    }
    fn node(&self) -> &Node<Self> {
        self.0
    }
}

pub(crate) fn run() {
    let sources: Vec<String> = (1..=16).map(|number| source(number, 9)).collect();
    let source = |number: u64| sources[number as usize % sources.len()].as_bytes();
    let (mut boxed_sum, mut arena_sum) = (0i64, 0i64);
    let boxed = Way::measure("boxes", || {
        for number in 0..SOURCES {
            boxed_sum = boxed_sum.wrapping_add(compile::<Boxed>((), source(number)));
        }
    });
    let mut arena = Arena::new();
    let in_arena = Way::measure("arena", || {
        for number in 0..SOURCES {
            arena_sum = arena_sum.wrapping_add(compile::<InArena<'_>>(&arena, source(number)));
            arena.reset();
        }
    });
    assert_eq!(black_box(boxed_sum), arena_sum, "both ways compute the same");
    compare("tree", "source", SOURCES, [boxed, in_arena]);
    compile::<InArena<'_>>(&arena, source(0));
    println!("after one more source: {}\n", arena.stats());
}

#[inline(never)]
fn compile<R: Link>(memory: R::Memory, source: &[u8]) -> i64 {
    let tree: R = parse(memory, &mut &*source);
    evaluate(&fold(memory, &tree))
}

/// Reads `(a+b)`, `(a*b)`, a digit or a letter.
fn parse<R: Link>(memory: R::Memory, rest: &mut &[u8]) -> R {
    let first = rest[0];
    *rest = &rest[1..];
    let node = match first {
        b'(' => {
            let left = parse(memory, rest);
            let operator = rest[0];
            *rest = &rest[1..];
            let right = parse(memory, rest);
            *rest = &rest[1..];
            if operator == b'+' { Node::Sum(left, right) } else { Node::Product(left, right) }
        }
        b'0'..=b'9' => Node::Number(i64::from(first - b'0')),
        _ => Node::Variable(first),
    };
    R::new(memory, node)
}

/// A copy of the tree with operations on numbers done.
fn fold<R: Link>(memory: R::Memory, tree: &R) -> R {
    let node = match tree.node() {
        Node::Number(number) => Node::Number(*number),
        Node::Variable(name) => Node::Variable(*name),
        Node::Sum(left, right) | Node::Product(left, right) => {
            let is_sum = matches!(tree.node(), Node::Sum(..));
            let (left, right): (R, R) = (fold(memory, left), fold(memory, right));
            match (left.node(), right.node(), is_sum) {
                (Node::Number(a), Node::Number(b), true) => Node::Number(a.wrapping_add(*b)),
                (Node::Number(a), Node::Number(b), false) => Node::Number(a.wrapping_mul(*b)),
                (_, _, true) => Node::Sum(left, right),
                (_, _, false) => Node::Product(left, right),
            }
        }
    };
    R::new(memory, node)
}

/// The tree's value where each variable has the value of its letter.
fn evaluate<R: Link>(tree: &R) -> i64 {
    match tree.node() {
        Node::Number(number) => *number,
        Node::Variable(name) => i64::from(*name),
        Node::Sum(left, right) => evaluate(left).wrapping_add(evaluate(right)),
        Node::Product(left, right) => evaluate(left).wrapping_mul(evaluate(right)),
    }
}

/// An expression as deep as `depth`, another one for each number.
fn source(number: u64, depth: u32) -> String {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(depth);
    if depth == 0 || mixed.is_multiple_of(11) {
        let leaf = if mixed.is_multiple_of(3) {
            b'a' + (mixed % 26) as u8
        } else {
            b'0' + (mixed % 10) as u8
        };
        return char::from(leaf).to_string();
    }
    let operator = if mixed & 8 == 0 { '+' } else { '*' };
    let (left, right) = (source(mixed, depth - 1), source(mixed + 1, depth - 1));
    format!("({left}{operator}{right})")
}
