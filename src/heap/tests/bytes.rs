//! Bytes as a program for a heap: what fuzzers drive, with an oracle.
//!
//! Every operation takes two bytes, the second one its argument. The oracle is the
//! list of live blocks with what must be in them and where they are; the heap's own `check()` and
//! a comparison of all counts run along. At the end all is freed, and the heap must be as empty as
//! before.

use core::sync::atomic::Ordering::Relaxed;
use std::collections::BTreeMap;

use super::super::class::CLASSES;
use super::super::counts::ClassCount;
use super::super::large::LargeCount;
use super::*;

/// Never more than this: a fuzzer's process has its own limit.
const BUDGET_BYTES: usize = 256 << 20;
const LIVE_BYTES_MAX: usize = 56 << 20;
/// Of the workers' samplers; 0 is off.
const INTERVALS: [u64; 4] = [0, 300, 20_000, 0];

static HEAP: Heap<Fake> = Heap::new(Fake::new(BUDGET_BYTES));

struct Program {
    workers: Vec<Worker>,
    pieces: Vec<Piece>,
    /// First byte of each live block, and the first behind it.
    places: BTreeMap<usize, usize>,
    live_bytes: usize,
    reached: Reached,
}

/// How often a program came where random ones may not.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Reached {
    resized: u32,
    /// Blocks with a mapping of their own.
    remapped: u32,
    zeroed: u32,
    sampled_small: u32,
    sampled_large: u32,
}

/// Runs `bytes` as a program. Dies if the heap does not hold what it promises.
/// One thread at a time.
pub(crate) fn run(bytes: &[u8]) -> Reached {
    let mut program = Program {
        workers: (0..3).map(|_| Worker::new(&HEAP)).collect(),
        pieces: Vec::new(),
        places: BTreeMap::new(),
        live_bytes: 0,
        reached: Reached::default(),
    };
    for (step, pair) in bytes.chunks_exact(2).enumerate() {
        program.step(pair[0], pair[1] as usize);
        if step % 64 == 0 {
            HEAP.check();
            program.check_counts();
        }
    }
    program.finish()
}

impl Program {
    fn step(&mut self, operation: u8, argument: usize) {
        let who = argument % self.workers.len();
        match operation % 16 {
            // The operation's upper bits and its argument choose a size and alignment.
            kind @ 0..7 => self.allocate(who, kind as usize, (operation / 16) as usize, argument),
            7..11 => {
                if !self.pieces.is_empty() {
                    let piece = self.pieces.swap_remove(argument * 7 % self.pieces.len());
                    self.left(&piece);
                    self.workers[who].free(piece);
                }
            }
            11 => self.resize(who, argument),
            12 => {
                self.workers[who].close();
                self.workers[who] = Worker::new(&HEAP);
                self.workers[who].interval = INTERVALS[argument / 3 % INTERVALS.len()];
            }
            13 => match argument % 8 {
                3 => _ = HEAP.thin(true),
                5 => _ = HEAP.release_free(),
                7 => HEAP.reap_in_need(),
                _ => _ = HEAP.scavenge_tick(),
            },
            14 => HEAP.os.refuse_every.store(argument % 6, Relaxed),
            _ => {
                HEAP.os.deny_map_at.store(argument & 1 != 0, Relaxed);
                HEAP.os.deny_purge.store(argument & 2 != 0, Relaxed);
            }
        }
    }

    fn allocate(&mut self, who: usize, kind: usize, more: usize, argument: usize) {
        let bytes = match kind {
            0..3 => 1 + argument + more * 16,
            3 => 500 + argument * 30 + more,
            4 => 8000 + argument * 100 + more,
            5 => 32_700 + argument * 4000 + more,
            _ => (16 << 20) - 100 + argument * 5000,
        };
        let align = if argument.is_multiple_of(5) { 1 << more } else { 8 };
        if self.live_bytes + bytes > LIVE_BYTES_MAX {
            return;
        }
        let (worker, layout) = (&self.workers[who], Worker::layout(bytes, align));
        let wants_zeroes = argument % 4 == 1;
        let piece = if wants_zeroes && ClassId::of(layout).is_none() {
            let got = worker.allocate_large(layout, true);
            self.reached.zeroed += u32::from(got.as_ref().is_some_and(|(_, zeroed)| *zeroed));
            got.map(|(piece, _)| piece)
        } else {
            worker.allocate(layout)
        };
        if let Some(piece) = piece {
            self.reached.sampled_large += u32::from(piece.sampled);
            let small = ClassId::of(layout).is_some();
            self.reached.sampled_small += u32::from(small && is_sampled(piece.start.as_ptr()));
            self.came(&piece);
            self.pieces.push(piece);
        }
    }

    /// Resizes one of the large blocks. What has a mapping of its own stays such, for only then
    /// its pages can move.
    fn resize(&mut self, who: usize, argument: usize) {
        let may_move =
            |piece: &Piece| ClassId::of(piece.layout).is_none() && piece.layout.align() == 8;
        let large: Vec<_> =
            (0..self.pieces.len()).filter(|at| may_move(&self.pieces[*at])).collect();
        let Some(at) = argument.checked_rem(large.len()) else { return };
        let mut piece = self.pieces.swap_remove(large[at]);
        let mapping = is_mapping(piece.layout);
        let bytes = match mapping {
            true => (16 << 20) + 1 + argument * 30_000,
            false => (40 << 10) + argument * 7000,
        };
        if self.live_bytes + bytes <= LIVE_BYTES_MAX {
            self.left(&piece);
            let resized = u32::from(self.workers[who].resize_large(&mut piece, bytes));
            self.reached.resized += resized;
            self.reached.remapped += resized * u32::from(mapping);
            self.came(&piece);
        }
        self.pieces.push(piece);
    }

    /// Enters a block. Dies if it lies where another one is.
    fn came(&mut self, piece: &Piece) {
        let start = piece.start.as_ptr().addr();
        let end = start + piece.layout.size();
        if let Some((other, other_end)) = self.places.range(..end).next_back() {
            assert!(*other_end <= start, "{start:x}..{end:x} lies in {other:x}..{other_end:x}");
        }
        self.places.insert(start, end);
        self.live_bytes += piece.layout.size();
    }

    fn left(&mut self, piece: &Piece) {
        let start = piece.start.as_ptr().addr();
        assert_eq!(self.places.remove(&start), Some(start + piece.layout.size()));
        self.live_bytes -= piece.layout.size();
    }

    /// Dies if the heap's counts are not those of the live blocks.
    fn check_counts(&self) {
        let mut live = [0; CLASSES];
        let (mut large_blocks, mut mappings, mut mapped_bytes) = (0, 0, 0);
        for piece in &self.pieces {
            let Some(class) = ClassId::of(piece.layout) else {
                large_blocks += 1;
                if is_mapping(piece.layout) {
                    mappings += 1;
                    mapped_bytes += large::block_bytes(piece.layout) as u64;
                }
                continue;
            };
            live[class.index()] += 1;
        }
        let counts = HEAP.counts();
        assert_eq!(counts.classes.each_ref().map(|count| count.live), live);
        assert_eq!(counts.large.iter().map(LargeCount::live_blocks).sum::<u64>(), large_blocks);
        assert_eq!((counts.mappings, counts.mapped_large_bytes), (mappings, mapped_bytes));
    }

    fn finish(mut self) -> Reached {
        HEAP.os.refuse_every.store(0, Relaxed);
        HEAP.os.deny_map_at.store(false, Relaxed);
        HEAP.os.deny_purge.store(false, Relaxed);
        for (index, piece) in self.pieces.drain(..).enumerate() {
            self.workers[index % self.workers.len()].free(piece);
        }
        self.workers.iter().for_each(Worker::close);
        HEAP.check();
        self.check_counts();
        // Lists of sampled blocks stay until memory is given back.
        if self.reached.sampled_small == 0 {
            assert_eq!(HEAP.slots_in_use(), HEAP.late_slots(), "spans that nobody needs");
        }
        assert_eq!(HEAP.counts().shelved_bytes, 0);
        HEAP.release_free();
        HEAP.check();
        assert_eq!(HEAP.slots_in_use(), HEAP.late_slots(), "spans that nobody needs");
        let counts = HEAP.counts();
        let slots = |(class, count): (ClassId, &ClassCount)| class.slots() as u64 * count.spans;
        let slots: u64 = ClassId::all().zip(&counts.classes).map(slots).sum();
        assert_eq!(slots, HEAP.late_slots() as u64);
        assert!(counts.large.iter().all(|count| count.live_bytes == 0));
        assert_eq!((counts.kept_bytes, counts.pages.free_dirty), (0, 0));
        self.reached
    }
}

#[test]
fn random_programs_leave_nothing_behind() {
    let mut random = Random(2024);
    let mut all = Reached::default();
    for _ in 0..25 {
        let length = 2 * random.below(1500);
        let bytes: Vec<_> = (0..length).map(|_| random.below(256) as u8).collect();
        let reached = run(&bytes);
        all.resized += reached.resized;
        all.remapped += reached.remapped;
        all.zeroed += reached.zeroed;
        all.sampled_small += reached.sampled_small;
        all.sampled_large += reached.sampled_large;
    }
    let Reached { resized, remapped, zeroed, sampled_small, sampled_large } = all;
    let least = [resized, remapped, zeroed, sampled_small, sampled_large].into_iter().min();
    assert!(least.is_some_and(|least| least >= 20), "hardly reached: {all:?}");
}
