//! What bundles list: every block once, in as few bundles as their size allows.

use std::collections::HashSet;

use super::Worker;
use crate::heap::Heap;
use crate::heap::bundle::Bundles;
use crate::heap::chain::Block;
use crate::heap::class::ClassId;
use crate::heap::span::Span;
use crate::sys::fake::Fake;

/// Blocks of one span of `class`, as many as there are up to `most`.
fn blocks_of_a_span(worker: &Worker, class: ClassId, most: usize) -> (Span, Vec<*mut Block>) {
    let first = worker.allocate_small(class).cast::<Block>();
    // SAFETY: a live block of that class.
    let span_of = |block| unsafe { Span::of_class(class, block) };
    let mut blocks = vec![first];
    while blocks.len() < most {
        let block = worker.allocate_small(class).cast();
        if span_of(block) != span_of(first) {
            break;
        }
        blocks.push(block);
    }
    (span_of(first), blocks)
}

#[test]
fn each_block_is_listed_once_in_as_few_bundles_as_their_size_allows() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = Worker::new(&HEAP);
    for class in ClassId::all() {
        // A link, and a word for each other block.
        let words = class.block_bytes() / 2;
        let (span, blocks) = blocks_of_a_span(&worker, class, 3 * words + 2);
        for count in [1, 2, words - 1, words, words + 1, 2 * words, 3 * words + 2] {
            let Some(blocks) = blocks.get(..count) else { continue };
            let bundles = Bundles::new();
            // SAFETY: the blocks are this test's, and hold nothing.
            blocks.iter().for_each(|block| unsafe { bundles.add(span, *block) });
            let parcel = bundles.take();
            assert_eq!((parcel.blocks as usize, bundles.blocks()), (count, 0));
            // SAFETY: nothing follows.
            unsafe { parcel.link(0) };

            let (mut first, mut links) = (u32::from(span.short_of(parcel.head)), 0);
            while first != 0 {
                links += 1;
                // SAFETY: the first block of a bundle.
                first = unsafe { span.block_at(first).cast::<u16>().read() }.into();
            }
            assert_eq!(links, count.div_ceil(words), "{count} of {} bytes", class.block_bytes());

            // SAFETY: the bundles are this test's.
            let chain = unsafe { span.unpack(span.short_of(parcel.head).into()) };
            assert_eq!(chain.blocks as usize, count);
            let mut next = chain.head;
            let mut linked = HashSet::new();
            while !next.is_null() && linked.insert(next) {
                // SAFETY: a block of the chain.
                next = unsafe { (*next).next };
            }
            assert_eq!(linked, blocks.iter().copied().collect());
        }
    }
}
