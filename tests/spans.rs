//! Live bytes by span of `tracing`, right across `.await` and whichever thread
//! polls. One test, and what a child runs: the profiler is the process's.
#![cfg(feature = "tracing")]

#[cfg(feature = "pprof")]
#[allow(dead_code, reason = "each test uses a part")]
mod support;

use std::collections::HashMap;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use spanalloc::profile;
use spanalloc::{SpanAlloc, SpanLayer};
use tracing::span::{Id, Record};
use tracing::{Instrument, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

/// Large blocks: none of them comes from a list that was granted before sampling.
const BYTES: usize = 1 << 20;
const CHILD: &str = "SPANS_TEST_CHILD";

/// A layer that fails while it holds what a span keeps, inside a span that it entered.
struct Failing;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Failing {
    fn on_record(&self, id: &Id, _: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let _inner = tracing::info_span!("inner").entered();
        let _held = span.extensions_mut();
        panic!("this layer fails");
    }
}

/// Spans are left by unwinding; one of them cannot be asked for its label any more.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    tracing_subscriber::registry().with(SpanLayer::new()).with(Failing).init();
    profile::start(1).unwrap();
    let around = tracing::info_span!("around").entered();
    let failed = tracing::info_span!("failed", field = tracing::field::Empty);
    let fail = || _ = failed.in_scope(|| failed.record("field", 1));
    catch_unwind(AssertUnwindSafe(fail)).unwrap_err();
    let block = black_box(vec![0_u8; BYTES]);
    let spans = profile::capture().spans;
    let span = spans.iter().find(|span| span.name == "around").expect("the span around");
    assert_eq!(span.in_use.bytes / BYTES as u64, 1, "{spans:?}");
    // Later, too.
    failed.in_scope(|| tracing::info_span!("within").in_scope(|| ()));
    drop((around, block));
}

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
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--test-threads=1"]);
    command.env(CHILD, "1").env("RUST_BACKTRACE", "0");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");

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

    // Entered again inside a span inside it.
    let again = tracing::info_span!("again", kind = "again");
    let between = tracing::info_span!("between", kind = "between");
    let once_more = || again.in_scope(|| black_box(vec![0_u8; BYTES]));
    let between_block = || (once_more(), black_box(vec![0_u8; BYTES]));
    let again_blocks = again.in_scope(|| between.in_scope(between_block));

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
    assert_eq!((spans["again"], spans["between"]), ((1, 1), (1, 1)), "{spans:?}");
    assert_eq!(spans[""], (5, 3), "{spans:?}");

    // Each site knows its span, so the sites of a span add up to it.
    for (at, span) in profile.spans.iter().enumerate() {
        let of_span = profile.sites.iter().filter(|site| site.span == Some(at as u32));
        let bytes: u64 = of_span.map(|site| site.in_use.bytes).sum();
        assert_eq!(bytes, span.in_use.bytes, "{span:?}");
    }
    #[cfg(feature = "pprof")]
    by_tag(&profile);
    drop((held, seven, none, late_block, within_block, inside_block, again_blocks));
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
