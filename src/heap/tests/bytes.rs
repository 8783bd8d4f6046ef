//! Bytes as a program for a heap: what fuzzers drive, with an oracle.
//!
//! Every operation takes two bytes, the second one its argument. The oracle is the
//! list of live blocks with what must be in them; the heap's own `check()` runs
//! along. At the end all is freed, and the heap must be as empty as before.

use core::sync::atomic::Ordering::Relaxed;

use super::*;

/// Never more than this: a fuzzer's process has its own limit.
const BUDGET_BYTES: usize = 256 << 20;
const LIVE_BYTES_MAX: usize = 48 << 20;

static HEAP: Heap<Fake> = Heap::new(Fake::new(BUDGET_BYTES));

struct Program {
    workers: Vec<Worker>,
    pieces: Vec<Piece>,
    live_bytes: usize,
}

/// Runs `bytes` as a program. Dies if the heap does not hold what it promises.
/// One thread at a time.
pub(crate) fn run(bytes: &[u8]) {
    let workers = (0..3).map(|_| Worker::new(&HEAP)).collect();
    let mut program = Program { workers, pieces: Vec::new(), live_bytes: 0 };
    for (step, pair) in bytes.chunks_exact(2).enumerate() {
        program.step(pair[0], pair[1] as usize);
        if step % 64 == 0 {
            HEAP.check();
        }
    }
    program.finish();
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
                    self.live_bytes -= piece.layout.size();
                    self.workers[who].free(piece);
                }
            }
            11 => self.resize(who, argument),
            12 => {
                self.workers[who].close();
                self.workers[who] = Worker::new(&HEAP);
            }
            13 if argument % 4 == 3 => _ = HEAP.thin(true),
            13 => _ = HEAP.scavenge_tick(),
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
        if self.live_bytes + bytes <= LIVE_BYTES_MAX {
            let piece = self.workers[who].allocate(Worker::layout(bytes, align));
            self.live_bytes += piece.as_ref().map_or(0, |piece| piece.layout.size());
            self.pieces.extend(piece);
        }
    }

    fn resize(&mut self, who: usize, argument: usize) {
        let Some(at) = argument.checked_rem(self.pieces.len()) else { return };
        let piece = &mut self.pieces[at];
        let bytes = (40 << 10) + argument * 7000;
        let both_large = ClassId::of(piece.layout).is_none();
        if both_large && piece.layout.align() == 8 && self.live_bytes + bytes <= LIVE_BYTES_MAX {
            self.live_bytes -= piece.layout.size();
            self.workers[who].resize_large(piece, bytes);
            self.live_bytes += piece.layout.size();
        }
    }

    fn finish(mut self) {
        HEAP.os.refuse_every.store(0, Relaxed);
        HEAP.os.deny_map_at.store(false, Relaxed);
        HEAP.os.deny_purge.store(false, Relaxed);
        for (index, piece) in self.pieces.drain(..).enumerate() {
            self.workers[index % self.workers.len()].free(piece);
        }
        self.workers.iter().for_each(Worker::close);
        HEAP.check();
        assert_eq!(HEAP.slots_in_use(), HEAP.late_slots(), "spans that nobody needs");
        HEAP.release_free();
        assert!(HEAP.counts().classes.iter().all(|count| count.live == 0));
    }
}

#[test]
fn random_programs_leave_nothing_behind() {
    let mut random = Random(2024);
    for _ in 0..25 {
        let length = 2 * random.below(1500);
        let bytes: Vec<_> = (0..length).map(|_| random.below(256) as u8).collect();
        run(&bytes);
    }
}
