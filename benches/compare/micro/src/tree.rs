//! Linked structures: many small nodes of one type.

use harness::{Kind, Run, Workload};
use std::collections::LinkedList;
use std::hint::black_box;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "tree",
        kind: Kind::Time,
        about: "build and drop binary trees of 2^18 nodes, per node",
        run: tree,
    },
    Workload {
        name: "list",
        kind: Kind::Time,
        about: "push to one end of a list of 10,000 and pop from the other",
        run: list,
    },
];

struct Node {
    left: Option<Box<Node>>,
    right: Option<Box<Node>>,
    depth: u64,
}

fn grow(depth: u64) -> Option<Box<Node>> {
    (depth > 0).then(|| Box::new(Node { left: grow(depth - 1), right: grow(depth - 1), depth }))
}

fn sum(node: &Option<Box<Node>>) -> u64 {
    node.as_ref().map_or(0, |node| node.depth + sum(&node.left) + sum(&node.right))
}

fn tree(run: &mut Run) {
    let trees = run.count(40);
    let sums = run.time(trees << 18, || {
        let mut sums = 0;
        for _ in 0..trees {
            sums += sum(black_box(&grow(18)));
        }
        sums
    });
    run.check(sums);
}

fn list(run: &mut Run) {
    let ops = run.count(30_000_000);
    let mut list: LinkedList<u64> = (0..10_000).collect();
    let popped = run.time(ops, || {
        let mut popped = 0u64;
        for i in 0..ops as u64 {
            list.push_back(i);
            popped = popped.wrapping_add(list.pop_front().unwrap_or(0));
        }
        popped
    });
    run.check(popped);
}
