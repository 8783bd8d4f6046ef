//! Large blocks, zeroed blocks, and blocks of every alignment.

use harness::{Bytes, Kind, Rng, Run, Workload, touched};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::hint::black_box;
use std::ops::RangeInclusive;
use std::ptr::NonNull;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "large_32k_1m",
        kind: Kind::Time,
        about: "64 live blocks of 32 KiB to 1 MiB, a random one replaced, each page touched",
        run: |run| large(run, 64, 32 << 10, 1 << 20, 60_000),
    },
    Workload {
        name: "large_1m_16m",
        kind: Kind::Time,
        about: "8 live blocks of 1 to 16 MiB, a random one replaced, each page touched",
        run: |run| large(run, 8, 1 << 20, 16 << 20, 500),
    },
    Workload {
        name: "large_32m",
        kind: Kind::Time,
        about: "one vector of 32 MiB after the other, each filled",
        run: |run| frames(run, 32 << 20, 100),
    },
    Workload {
        name: "zeroed_small",
        kind: Kind::Time,
        about: "vec![0; n] of 16 to 1024 bytes in a ring of 256",
        run: |run| zeroed(run, 256, 16, 1024, 8_000_000),
    },
    Workload {
        name: "zeroed_1m",
        kind: Kind::Time,
        about: "vec![0; 1 MiB] in a ring of 8, one byte in 64 KiB written",
        run: |run| zeroed(run, 8, 1 << 20, 1 << 20, 8_000),
    },
    Workload {
        name: "aligned",
        kind: Kind::Time,
        about: "blocks of 16 to 4096 bytes aligned to 16 to 4096, in a ring of 512",
        run: |run| aligned::<512>(run, 5_000_000, 16..=4096, 16..=4096),
    },
    Workload {
        name: "aligned_large",
        kind: Kind::Time,
        about: "blocks of 1 to 256 KiB aligned to 8 KiB to 1 MiB, in a ring of 64",
        run: |run| aligned::<64>(run, 200_000, 1 << 10..=256 << 10, 8 << 10..=1 << 20),
    },
];

fn large(run: &mut Run, slots: usize, low: usize, high: usize, ops: usize) {
    let ops = run.count(ops);
    let mut rng = Rng::new(6);
    let mut live: Vec<Bytes> = (0..slots).map(|_| touched(rng.between(low, high))).collect();
    let asked = run.time(ops, || {
        let mut asked = 0;
        for _ in 0..ops {
            let block = touched(rng.between(low, high));
            asked += block.len() as u64;
            live[rng.below(slots)] = block;
        }
        asked
    });
    black_box(&live);
    run.check(asked);
}

/// What decodes pictures does: 32 MiB are one of 3840 by 2160 pixels.
fn frames(run: &mut Run, bytes: usize, ops: usize) {
    let ops = run.count(ops);
    let sum = run.time(ops, || {
        let mut sum = 0;
        for i in 0..ops {
            let mut frame = Vec::with_capacity(bytes);
            frame.resize(bytes, i as u8);
            sum += u64::from(black_box(&frame)[i]);
        }
        sum
    });
    run.check(sum);
}

fn zeroed(run: &mut Run, slots: usize, low: usize, high: usize, ops: usize) {
    let ops = run.count(ops);
    let mut rng = Rng::new(7);
    let mut live = vec![Vec::<u8>::new(); slots];
    let sum = run.time(ops, || {
        let mut sum = 0;
        for i in 0..ops {
            let mut block = vec![0u8; rng.between(low, high)];
            for byte in block.iter_mut().step_by(64 << 10) {
                sum += u64::from(*byte) + 1;
                *byte = 1;
            }
            live[i % slots] = block;
        }
        sum
    });
    run.check(sum);
}

/// A block of any layout. `start` is valid for `layout.size()` bytes until the
/// drop, which is the only free.
struct Aligned {
    start: NonNull<u8>,
    layout: Layout,
}

impl Aligned {
    fn new(layout: Layout) -> Self {
        assert!(layout.size() > 0);
        // SAFETY: the size was just asserted not to be zero.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        // SAFETY: the block has at least one byte.
        unsafe { start.write(1) };
        Self { start, layout }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc` with this layout and is freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

fn aligned<const LIVE: usize>(
    run: &mut Run,
    ops: usize,
    sizes: RangeInclusive<usize>,
    aligns: RangeInclusive<usize>,
) {
    let ops = run.count(ops);
    let mut rng = Rng::new(8);
    let powers = (aligns.end() / aligns.start()).ilog2() as usize + 1;
    let mut layout = || {
        let align = aligns.start() << rng.below(powers);
        let bytes = rng.between(*sizes.start(), *sizes.end());
        Layout::from_size_align(bytes, align).expect("a power of two, not too large")
    };
    let mut live: Vec<Aligned> = (0..LIVE).map(|_| Aligned::new(layout())).collect();
    let misaligned = run.time(ops, || {
        let mut misaligned = 0u64;
        for i in 0..ops {
            let block = Aligned::new(layout());
            misaligned += (block.start.addr().get() % block.layout.align()) as u64;
            live[i % LIVE] = block;
        }
        misaligned
    });
    assert_eq!(misaligned, 0, "the allocator ignored an alignment");
    run.check(ops as u64);
}
