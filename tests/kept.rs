//! What a profile keeps beside what is allocated and in use: the peak, lifetimes,
//! threads; and that its memory goes back. One test: the profiler is the process's.
#![cfg(feature = "profile")]

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use spanalloc::SpanAlloc;
use spanalloc::profile::{self, Amount, Profile};
use spanalloc::report::{Dump, Weight};

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const OBJECT_BYTES: usize = 5000;

type Object = Box<[u8; OBJECT_BYTES]>;

#[inline(never)]
fn objects(count: usize) -> Vec<Object> {
    (0..count).map(|_| black_box(Box::new([0; OBJECT_BYTES]))).collect()
}

/// The sum of an amount over all sites of 5000-byte objects.
fn sum(profile: &Profile, amount: impl Fn(&profile::Site) -> Amount) -> u64 {
    let size = |amount: Amount| amount.objects * OBJECT_BYTES as u64 == amount.bytes;
    let of_objects = profile.sites.iter().filter(|site| size(site.allocated));
    of_objects.map(|site| amount(site).objects).sum()
}

#[test]
fn peak_lifetimes_and_threads_are_exact_at_an_interval_of_one() {
    profile::start(1).unwrap();
    thread::Builder::new()
        .name("holder-of-much-and-more".into())
        .spawn(|| {
            let many = objects(700);
            thread::sleep(Duration::from_millis(20));
            drop(many);
            let few = objects(100);
            (0..50).for_each(|_| drop(objects(1)));
            few
        })
        .unwrap()
        .join()
        .map(|few| {
            thread::sleep(Duration::from_millis(5));
            let profile = profile::capture();
            assert_eq!(sum(&profile, |site| site.allocated), 850);
            assert_eq!(sum(&profile, |site| site.in_use), 100);
            assert_eq!(sum(&profile, |site| site.peak), 700);

            let of_objects = |site: &&profile::Site| {
                site.allocated.bytes == site.allocated.objects * OBJECT_BYTES as u64
            };
            let ages_us: u64 =
                profile.sites.iter().filter(of_objects).map(|site| site.in_use_ages_us).sum();
            let most_us = 100 * profile.duration_ns / 1000;
            assert!((500_000..most_us - 2_000_000).contains(&ages_us), "{ages_us} of {most_us}");
            let mut lived = vec![0; profile::Lifetimes::buckets()];
            for site in profile.sites.iter().filter(of_objects) {
                let objects = &site.lifetimes.objects;
                lived.iter_mut().zip(objects).for_each(|(sum, objects)| *sum += objects);
            }
            // Below 16 ms, and from there on.
            let bound = (0..lived.len())
                .find(|at| profile::Lifetimes::bound(*at).unwrap() > Duration::from_millis(15))
                .unwrap();
            let (short, long) = lived.split_at(bound + 1);
            assert_eq!(long.iter().sum::<u64>(), 750 - short.iter().sum::<u64>(), "{lived:?}");
            // Two may have met with a pause of the machine's.
            let short: u64 = short.iter().sum();
            assert!((48..=50).contains(&short), "{lived:?}");

            // The same by size class, which other blocks may share.
            let class = |size: &&profile::BlockSize| size.block_bytes >= OBJECT_BYTES as u64;
            let lived = &profile.sizes.iter().find(class).unwrap().lifetimes;
            let long = lived.total() - lived.within(bound);
            assert!((700..722).contains(&long) && lived.within(bound) >= 48, "{lived:?}");

            // The kernel keeps 15 bytes of a name.
            let name = |group: &&profile::Group| group.name == "holder-of-much-";
            let thread = profile.threads.iter().find(name).unwrap();
            assert!(thread.allocated.bytes >= 850 * OBJECT_BYTES as u64);
            // Of what another thread holds now the one that allocated it is told.
            assert!(thread.in_use.bytes >= 100 * OBJECT_BYTES as u64);
            assert!(thread.in_use.bytes < 120 * OBJECT_BYTES as u64);
            drop(few);
        })
        .unwrap();

    a_thread_that_gets_another_name();
    what_is_captured_at_once_is_written_and_read_again();
    profile::stop();
    assert_eq!(profile::interval(), 0);
    let held = spanalloc::held_bytes();
    let before = spanalloc::stats().memory.profiler;
    profile::reset();
    let after = spanalloc::stats().memory.profiler;
    assert!(before > 16 << 10 && after == 0, "{before} {after}");
    assert!(
        held - spanalloc::held_bytes() >= before,
        "what is held has no tables of the profiler's"
    );
    assert!(profile::capture().sites.is_empty());
    assert!(profile::capture().threads.is_empty());
}

fn what_is_captured_at_once_is_written_and_read_again() {
    assert_eq!(profile::interval(), 1);
    let kept = objects(30);
    let dump = Dump::capture();
    assert_eq!(sum(&dump.profile, |site| site.in_use), 30);
    assert!(dump.stats.total().live_bytes >= 30 * OBJECT_BYTES as u64);
    let mut written = Vec::new();
    dump.write_json(&mut written).unwrap();
    let read = Dump::read_json(&written[..]).unwrap();
    assert_eq!(read.stats, dump.stats);
    assert_eq!(sum(&read.profile, |site| site.in_use), 30);
    let top = read.profile.top(100, Weight::InUseObjects).to_string();
    assert!(top.contains("kept::objects"), "{top}");
    drop(kept);
}

/// It is asked for its name now and then.
fn a_thread_that_gets_another_name() {
    const COUNT: u64 = 200;
    let renamed = thread::Builder::new().name("first".into()).spawn(|| {
        drop(objects(COUNT as usize));
        // SAFETY: a terminated name, which the kernel copies.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_NAME, c"second".as_ptr()) }, 0);
        drop(objects(2 * COUNT as usize));
    });
    renamed.unwrap().join().unwrap();
    let profile = profile::capture();
    let [first, second] = ["first", "second"].map(|name| {
        let thread = profile.threads.iter().find(|group| group.name == name);
        thread.map_or(0, |thread| thread.allocated.bytes / OBJECT_BYTES as u64)
    });
    assert!((COUNT..2 * COUNT).contains(&first), "{first} and {second}");
    assert!((COUNT + 1..=2 * COUNT + 2).contains(&second), "{first} and {second}");
    let most_first = |group: &profile::Group| std::cmp::Reverse(group.allocated.bytes);
    assert!(profile.threads.len() >= 3 && profile.threads.is_sorted_by_key(most_first));
}
