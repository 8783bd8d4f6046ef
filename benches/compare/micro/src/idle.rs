//! What stays resident when nothing is in use, and what giving it back costs.

use harness::{Bytes, Kind, Rng, Run, Stops, Workload, bytes, cpu_ns_of_thread, resident_bytes};
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "idle_burst",
        kind: Kind::Idle,
        about: "32 threads allocate 16 MiB each in small blocks, free all and park; what stays",
        run: idle_burst,
    },
    Workload {
        name: "idle_survivors",
        kind: Kind::Idle,
        about: "the same, but one block in a hundred, at random, stays in use",
        run: idle_survivors,
    },
    Workload {
        name: "worst_free",
        kind: Kind::Figures,
        about: "the slowest single free and allocation of a thread, how many take long and what \
                stopped these, while another thread's bursts of 64 MiB go back to the system; and \
                the same of a write to each block just before its free, which is the share of \
                host and kernel",
        run: worst_free,
    },
    Workload {
        name: "idle_threads",
        kind: Kind::Figures,
        about: "256 threads (--size) that used 100 blocks each and wait; resident bytes of each",
        run: idle_threads,
    },
];

const BURST_THREADS: u64 = 32;
/// When the resident set is looked at, in seconds after everything was freed.
const LOOKS_S: [u64; 5] = [1, 2, 4, 8, 12];

fn idle_burst(run: &mut Run) {
    idle(run, |_| false);
}

fn idle_survivors(run: &mut Run) {
    idle(run, |rng| rng.between(1, 100) == 1);
}

/// Threads fill up, free all blocks but those that `stays` says, and park.
fn idle(run: &mut Run, stays: impl Fn(&mut Rng) -> bool + Sync) {
    let per_thread = run.pick(16 << 20, 1 << 20);
    let freed = Barrier::new(BURST_THREADS as usize + 1);
    let ended = Barrier::new(BURST_THREADS as usize + 1);
    let full = Barrier::new(BURST_THREADS as usize);
    let mut resident = Vec::new();
    thread::scope(|scope| {
        for seed in 0..BURST_THREADS {
            let (full, freed, ended, stays) = (&full, &freed, &ended, &stays);
            scope.spawn(move || {
                let mut blocks = fill(seed, per_thread);
                let mut rng = Rng::new(seed + BURST_THREADS);
                full.wait();
                blocks.retain(|_| stays(&mut rng));
                blocks.shrink_to_fit();
                freed.wait();
                ended.wait();
            });
        }
        freed.wait();
        let since = Instant::now();
        resident.push((0, resident_bytes()));
        run.parked();
        for look in LOOKS_S {
            thread::sleep(Duration::from_secs(look).saturating_sub(since.elapsed()));
            resident.push((look, resident_bytes()));
        }
        ended.wait();
    });
    for (look, bytes) in resident {
        run.figure(&format!("resident_after_{look:02}s_mib"), bytes as f64 / f64::from(1 << 20));
    }
    run.check(per_thread as u64);
}

/// Blocks of 16 to 512 bytes that sum to `total` bytes.
fn fill(seed: u64, total: usize) -> Vec<Bytes> {
    let mut rng = Rng::new(seed);
    let mut blocks = Vec::with_capacity(total / 264);
    let mut held = 0;
    while held < total {
        let size = rng.between(16, 512);
        held += size;
        blocks.push(bytes(size));
    }
    blocks
}

/// The longest of a kind, by the clock and by the thread's processor time, in nanoseconds; how
/// many the clock had above [`LONG_NS`], and what stopped these.
#[derive(Clone, Copy, Default)]
struct Worst {
    wall: u64,
    cpu: u64,
    long: u64,
    /// The thread waited for something.
    waited: u64,
    /// It did not wait, but the kernel took its processor.
    preempted: u64,
    /// Neither, and a page was missing.
    faulted: u64,
}

/// Blocks of the timed thread, 4 MiB of them.
const TIMED_BLOCKS: usize = 16_000;
const BURST_BYTES: usize = 64 << 20;
/// Between two and three times as long as memory stays by default under ours.
const BURST_PAUSE: Duration = Duration::from_millis(1300);
/// What no single free is to take.
const LONG_NS: u64 = 200_000;

impl Worst {
    fn time(&mut self, work: impl FnOnce()) {
        let before = Stops::of_thread();
        // The inner clock is the processor's, for what falls between the two readings is not its.
        let (wall, cpu) = (Instant::now(), cpu_ns_of_thread());
        work();
        self.cpu = self.cpu.max(cpu_ns_of_thread() - cpu);
        let wall = wall.elapsed().as_nanos() as u64;
        self.wall = self.wall.max(wall);
        if wall > LONG_NS {
            self.blame(before, Stops::of_thread());
        }
    }

    fn blame(&mut self, before: Stops, after: Stops) {
        self.long += 1;
        if after.waits > before.waits {
            self.waited += 1;
        } else if after.preemptions > before.preemptions {
            self.preempted += 1;
        } else if after.minor_faults > before.minor_faults {
            self.faulted += 1;
        }
    }

    fn report(self, run: &mut Run, what: &str) {
        let long = format!("{what}_above_{}_us", LONG_NS / 1000);
        run.figure(&format!("worst_{what}_wall_us"), self.wall as f64 / 1e3);
        run.figure(&format!("worst_{what}_cpu_us"), self.cpu as f64 / 1e3);
        run.figure(&long, self.long as f64);
        run.figure(&format!("{long}_waited"), self.waited as f64);
        run.figure(&format!("{long}_preempted"), self.preempted as f64);
        run.figure(&format!("{long}_faulted"), self.faulted as f64);
    }
}

/// One thread allocates and frees all the time, and each of its frees and allocations is timed.
/// Beside it another one allocates much, frees it and waits, for longer than any of the allocators
/// takes to give that back: so some of what is timed comes while memory goes back to the system.
/// How much went back is a figure, too; under who gives nothing back it is 0.
fn worst_free(run: &mut Run) {
    let bursts = run.pick(4, 1);
    let is_over = AtomicBool::new(false);
    let (worst, given_back) = thread::scope(|scope| {
        let timed = scope.spawn(|| timed_until(&is_over));
        let given_back: u64 = (0..bursts).map(burst).sum();
        is_over.store(true, Relaxed);
        (timed.join().expect("the timed thread ends"), given_back)
    });
    for (worst, what) in worst.into_iter().zip(["free", "touch", "alloc"]) {
        worst.report(run, what);
    }
    run.figure("given_back_mib", given_back as f64 / f64::from(1 << 20));
    run.check(bursts);
}

/// Of frees, of writes to the same blocks just before, of allocations.
fn timed_until(is_over: &AtomicBool) -> [Worst; 3] {
    let [mut free, mut touch, mut alloc] = [Worst::default(); 3];
    let mut rng = Rng::new(1);
    while !is_over.load(Relaxed) {
        let mut blocks: Vec<Bytes> = Vec::with_capacity(TIMED_BLOCKS);
        for _ in 0..TIMED_BLOCKS {
            let size = rng.between(16, 512);
            alloc.time(|| blocks.push(bytes(size)));
        }
        rng.shuffle(&mut blocks);
        for mut block in blocks {
            touch.time(|| {
                block[0].write(black_box(1));
            });
            free.time(|| drop(block));
        }
    }
    [free, touch, alloc]
}

/// Frees much, waits, and returns how many bytes less are resident then.
fn burst(seed: u64) -> u64 {
    drop(fill(seed, BURST_BYTES));
    let before = resident_bytes();
    thread::sleep(BURST_PAUSE);
    before.saturating_sub(resident_bytes())
}

fn idle_threads(run: &mut Run) {
    let threads = run.size(256);
    let before = resident_bytes();
    let used = Barrier::new(threads + 1);
    let ended = Barrier::new(threads + 1);
    let mut after = 0;
    thread::scope(|scope| {
        for seed in 0..threads {
            let (used, ended) = (&used, &ended);
            scope.spawn(move || {
                drop(fill(seed as u64, 100 * 264));
                used.wait();
                ended.wait();
            });
        }
        used.wait();
        after = resident_bytes();
        ended.wait();
    });
    let each = after.saturating_sub(before) as f64 / threads as f64;
    run.figure("resident_per_thread_kib", each / 1024.0);
    run.check(threads as u64);
}
