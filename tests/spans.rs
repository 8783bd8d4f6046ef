//! Live bytes by span of `tracing`, right across `.await` and whichever thread
//! polls. One test: the profiler is the process's.
#![cfg(feature = "tracing")]

#[cfg(feature = "pprof")]
#[allow(dead_code, reason = "each test uses a part")]
mod support;

use std::collections::HashMap;
use std::hint::black_box;

use spanalloc::profile;
use spanalloc::{SpanAlloc, SpanLayer};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

/// Large blocks: none of them comes from a list that was granted before sampling.
const BYTES: usize = 1 << 20;

/// Allocates in turns with other tasks, on any thread, and keeps every second block.
async fn work(rounds: usize) -> Vec<Vec<u8>> {
    let mut held = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let block = black_box(vec![0; BYTES]);
        tokio::task::yield_now().await;
        if round % 2 == 0 {
            held.push(block);
        }
    }
    held
}

#[test]
fn bytes_count_for_the_span_they_were_allocated_in() {
    tracing_subscriber::registry().with(SpanLayer::new().by_field("kind")).init();
    profile::start(1).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    let held = runtime.block_on(async {
        let mut tasks = Vec::new();
        for task in 0..12 {
            let kind = ["upload", "search", "report"][task % 3];
            let request = tracing::info_span!("request", kind, number = task);
            // A span without the field counts for the one around it.
            let inner = async { work(8).instrument(tracing::info_span!("inner")).await };
            tasks.push(tokio::spawn(inner.instrument(request)));
        }
        tasks.push(tokio::spawn(work(4)));
        let mut held = Vec::new();
        for task in tasks {
            held.push(task.await.unwrap());
        }
        held
    });

    // Recorded later, and left in another order than entered.
    let late = tracing::info_span!("late", kind = tracing::field::Empty);
    let first = late.clone().entered();
    late.record("kind", "late");
    let second = tracing::info_span!("other", kind = 7).entered();
    drop(first);
    let seven = black_box(vec![0_u8; BYTES]);
    drop(second);
    let none = black_box(vec![0_u8; BYTES]);
    let late_block = late.in_scope(|| black_box(vec![0_u8; BYTES]));

    // Recorded inside.
    let within = tracing::info_span!("within", kind = tracing::field::Empty);
    let within_block = within.in_scope(|| {
        within.record("kind", "within");
        black_box(vec![0_u8; BYTES])
    });

    // Recorded after a span inside it had begun.
    let outer = tracing::info_span!("outer", kind = tracing::field::Empty);
    let inside = outer.in_scope(|| tracing::info_span!("inside"));
    outer.record("kind", "afterwards");
    let inside_block = inside.in_scope(|| black_box(vec![0_u8; BYTES]));

    let profile = profile::capture();
    profile::stop();
    let blocks = |bytes: u64| bytes / BYTES as u64;
    let spans: HashMap<_, _> = profile
        .spans
        .iter()
        .map(|span| (&*span.name, (blocks(span.allocated.bytes), blocks(span.in_use.bytes))))
        .collect();
    for kind in ["upload", "search", "report"] {
        assert_eq!(spans[kind], (32, 16), "{spans:?}");
    }
    assert_eq!((spans["7"], spans["late"]), ((1, 1), (1, 1)), "{spans:?}");
    assert_eq!((spans["afterwards"], spans["within"]), ((1, 1), (1, 1)), "{spans:?}");
    assert_eq!(spans[""], (5, 3), "{spans:?}");

    // Each site knows its span, so the sites of a span add up to it.
    for (at, span) in profile.spans.iter().enumerate() {
        let of_span = profile.sites.iter().filter(|site| site.span == Some(at as u32));
        let bytes: u64 = of_span.map(|site| site.in_use.bytes).sum();
        assert_eq!(bytes, span.in_use.bytes, "{span:?}");
    }
    #[cfg(feature = "pprof")]
    by_tag(&profile);
    drop((held, seven, none, late_block, within_block, inside_block));
}

/// `go tool pprof` tells spans apart by their label.
#[cfg(feature = "pprof")]
fn by_tag(profile: &profile::Profile) {
    let scratch = support::Scratch::new("spans");
    let path = scratch.prefix("spans.pb.gz");
    profile.write_pprof(std::fs::File::create(&path).unwrap()).unwrap();
    let focus = ["-top", "-unit=MB", "-tagfocus=span=upload"];
    let Some(top) = support::pprof(&focus, &path) else { return };
    // 16 blocks of 1 MiB, and what is not ours of the tasks.
    let total = top.lines().find(|line| line.contains("accounting for")).unwrap();
    assert!(total.contains("for 16") && top.contains("work"), "{top}");
}
