//! A pattern drawn at random: `--size` is its seed (see [`harness::Pattern`]).

use harness::{Bytes, Kind, Pattern, Rng, Run, Shape, Workload};
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::sync::{Barrier, Mutex};
use std::thread;

pub(crate) const WORKLOADS: &[Workload] = &[Workload {
    name: "pattern",
    kind: Kind::Scaling,
    about: "a pattern drawn at random; --size is its seed",
    run: pattern,
}];

fn pattern(run: &mut Run) {
    let pattern = Pattern::of(run.size(1) as u64);
    let allocations = run.count(pattern.allocations);
    let inboxes: Vec<Mutex<Vec<Bytes>>> = (0..pattern.threads).map(|_| Mutex::default()).collect();
    let barrier = Barrier::new(pattern.threads + 1);
    thread::scope(|scope| {
        for number in 0..pattern.threads {
            let (barrier, inboxes) = (&barrier, &inboxes[..]);
            scope.spawn(move || {
                let rng = Rng::new(number as u64 + 1);
                let player = Player { pattern, allocations, rng, done: 0 };
                barrier.wait();
                player.play(number, inboxes);
                // The kernel counts it at its own ticks else.
                harness::cpu_ns_of_thread();
                barrier.wait();
            });
        }
        run.time(allocations * pattern.threads, || {
            barrier.wait();
            barrier.wait();
        });
    });
    run.check(pattern.live as u64);
}

/// A thread of a pattern.
struct Player {
    pattern: Pattern,
    allocations: usize,
    rng: Rng,
    done: usize,
}

impl Player {
    fn goes_on(&self) -> bool {
        self.done < self.allocations
    }

    /// A block of `times` a size that is drawn.
    #[inline]
    fn block_of(&mut self, times: usize) -> Bytes {
        self.done += 1;
        let bytes = times * self.pattern.sizes.draw(&mut self.rng);
        let mut block =
            if self.pattern.zeroed { Box::new_zeroed_slice(bytes) } else { harness::bytes(bytes) };
        if self.pattern.touched {
            block.fill(MaybeUninit::new(1));
        } else if let Some(first) = block.first_mut() {
            first.write(1);
        }
        block
    }

    #[inline]
    fn block(&mut self) -> Bytes {
        self.block_of(1)
    }

    /// Fills `blocks` up to `live`.
    fn fill(&mut self, blocks: &mut Vec<Bytes>, live: usize) {
        while blocks.len() < live {
            let block = self.block();
            blocks.push(block);
        }
    }

    fn play(mut self, number: usize, inboxes: &[Mutex<Vec<Bytes>>]) {
        let live = self.pattern.live;
        let mut blocks = Vec::with_capacity(live);
        match self.pattern.shape {
            Shape::Queue => self.queue(),
            Shape::Growth => self.growth(),
            Shape::ShortThreads => self.short_threads(),
            Shape::HandOver => self.hand_over(number, inboxes),
            Shape::Phases => self.phases(blocks),
            Shape::FillAndDrain => self.fill_and_drain(blocks),
            Shape::Stack => {
                while self.goes_on() {
                    self.fill(&mut blocks, live);
                    while blocks.pop().is_some() {}
                }
            }
            Shape::Shuffled => {
                while self.goes_on() {
                    self.fill(&mut blocks, live);
                    self.rng.shuffle(&mut blocks);
                    blocks.clear();
                }
            }
            Shape::Halves => {
                let mut rest = Vec::with_capacity(live);
                while self.goes_on() {
                    self.fill(&mut blocks, live);
                    for (at, block) in blocks.drain(..).enumerate() {
                        if at % 2 == 0 {
                            drop(block);
                        } else {
                            rest.push(block);
                        }
                    }
                    rest.clear();
                }
            }
            Shape::Replace => {
                self.fill(&mut blocks, live);
                while self.goes_on() {
                    let at = self.rng.below(live);
                    blocks[at] = self.block();
                }
            }
            Shape::Generations => {
                while self.goes_on() {
                    let (short, long) = (self.block(), self.block());
                    drop(short);
                    if self.rng.below(20) > 0 {
                        drop(long);
                    } else if blocks.len() < live {
                        blocks.push(long);
                    } else {
                        blocks[self.rng.below(live)] = long;
                    }
                }
            }
            Shape::Sawtooth => {
                let mut height = live / 2 + 1;
                while self.goes_on() {
                    self.fill(&mut blocks, height);
                    height = self.rng.between(1, live);
                    while blocks.len() > height / 2 {
                        blocks.pop();
                    }
                }
            }
        }
    }

    fn queue(mut self) {
        let mut blocks = VecDeque::with_capacity(self.pattern.live + 1);
        while self.goes_on() {
            blocks.push_back(self.block());
            if blocks.len() > self.pattern.live {
                blocks.pop_front();
            }
        }
    }

    fn growth(mut self) {
        let growing = self.pattern.at_once();
        let mut blocks: Vec<Vec<u8>> = Vec::with_capacity(growing);
        while self.goes_on() {
            for _ in 0..growing {
                let mut block = Vec::with_capacity(self.pattern.sizes.draw(&mut self.rng));
                block.push(1);
                blocks.push(block);
                self.done += 1;
            }
            for _ in 0..8 {
                for block in &mut blocks {
                    let bytes = block.capacity();
                    if self.rng.below(4) == 0 {
                        block.shrink_to(bytes / 2 + 8);
                    } else {
                        block.reserve_exact(bytes + bytes / 2 + 8);
                    }
                    self.done += 1;
                }
            }
            blocks.clear();
        }
    }

    fn phases(mut self, mut blocks: Vec<Bytes>) {
        for times in [1, 3, 2, 5, 1, 7].into_iter().cycle() {
            if !self.goes_on() {
                break;
            }
            while blocks.len() < (self.pattern.live / times).max(1) {
                let block = self.block_of(times);
                blocks.push(block);
            }
            blocks.clear();
        }
    }

    fn short_threads(mut self) {
        let live = self.pattern.at_once();
        while self.goes_on() {
            let of_the_thread = || {
                let mut blocks = Vec::with_capacity(live);
                self.fill(&mut blocks, live);
                blocks.split_off(live / 2)
            };
            let rest = thread::scope(|scope| scope.spawn(of_the_thread).join());
            drop(rest.expect("a thread that only allocates"));
        }
    }

    fn hand_over(mut self, number: usize, inboxes: &[Mutex<Vec<Bytes>>]) {
        let batch = self.pattern.at_once();
        let next = &inboxes[(number + 1) % inboxes.len()];
        let (mut sent, mut got) = (Vec::with_capacity(batch), Vec::new());
        while self.goes_on() {
            self.fill(&mut sent, batch);
            std::mem::swap(&mut sent, &mut next.lock().expect("nobody panics"));
            // What the next thread has not fetched meanwhile.
            sent.clear();
            std::mem::swap(&mut got, &mut inboxes[number].lock().expect("nobody panics"));
            got.clear();
        }
    }

    fn fill_and_drain(mut self, mut blocks: Vec<Bytes>) {
        let mut fills = true;
        while self.goes_on() {
            let is_seldom = self.rng.below(6) == 0;
            if (fills == is_seldom && !blocks.is_empty()) || blocks.len() == self.pattern.live {
                let at = self.rng.below(blocks.len());
                blocks.swap_remove(at);
            } else {
                let block = self.block();
                blocks.push(block);
            }
            if fills {
                fills = blocks.len() < self.pattern.live;
            } else {
                fills = blocks.is_empty();
            }
        }
    }
}
