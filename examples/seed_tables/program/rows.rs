//! All rows of the table: what is said, our verdict, and where in the project it is shown.
//!
//! A row is settled by an experiment of this report or by a test, whose name it gives; the test
//! `tests/seed_tables.rs` sees to it that the tests named exist.

use std::fmt::Write;

use super::experiments::About::{self, Implementation};
use super::experiments::Verdict::{self, Fails, Holds};
use super::page::{self, Outcome, escape};

/// What settles a claim.
enum By {
    /// An experiment whose rule is the claim.
    Experiment(&'static str),
    /// A test that asserts it of what is in this crate, or its opposite.
    Test(Verdict, &'static str),
    /// There is nothing to measure: why.
    Design(&'static str),
}

use By::{Design, Experiment, Test};

/// A row: its number, the claim, what settles it, and where else it is shown.
type Row = (&'static str, &'static str, By, &'static str);

#[rustfmt::skip]
const ROWS: [Row; 59] = [
    ("A1", "An allocation is tiny, of a class, or large", Experiment("A1"), "stats()"),
    ("A2", "Tiny objects share blocks of 16 bytes: 12 % fewer allocations", Experiment("A2"), "arena::Arena::alloc_box"),
    ("A3", "Spans of 8/16/24 bytes hold 8192/4096/2730 objects", Experiment("A3"), "Stats::classes"),
    ("A4", "Classes in steps of 8 to 128, then of 12.5 %, waste at most 12.5 %", Experiment("E14"), "examples/seed_tables_trace"),
    ("A5", "Thread cache, central lists, page heap; a refill swaps a span", Experiment("A5"), "ClassStats::refills, lock_waits"),
    ("A6", "Map growth is served by the thread cache", Test(Fails, "tiers:a6_each_tier_serves_some_growth"), "map::Tier, Stats::arrays_by_tier"),
    ("A7", "Slots are reused less in larger classes: 92.3/76.1/41.7 %", Experiment("A7"), "Stats::reuse_svg; map::Heat::to_svg for maps"),
    ("A8", "Objects of a leaking class rise from 1200 to 45,000 in an hour", Experiment("E19"), "Snapshots; observe::TrendDetector"),
    ("A9", "A race of map and append corrupts span lists", Design("such a race does not compile"), "loom models and stress tests of heap and pool"),
    ("A10", "A map in an arena: 10,000 → 1 allocations, 82 → 24 ns", Experiment("E22"), "map::HandleMap"),
    ("M1", "A map grows above 6.5 entries per bucket", Test(Holds, "structure:m1_doubles_above_six_and_a_half_per_bucket"), "map::Stats"),
    ("M2", "make(m, 4) has 4 buckets, one seed per process", Test(Fails, "structure:m2_one_bucket_packed_cells_seed_per_map"), "map::BucketLayout"),
    ("M3", "Values above 128 bytes lie in an extra bucket", Test(Fails, "structure:m3_large_values_are_stored_by_pointer"), "E12"),
    ("M4", "Load grows to the same size, overflow doubles", Test(Fails, "structure:m4_same_size_growth_packs_chains"), "E9"),
    ("M5", "A map shrinks gradually", Test(Fails, "structure:m5_never_shrinks_by_itself"), "Map::shrink_to_fit"),
    ("M6", "Each overflow bucket is an allocation", Test(Fails, "structure:m6_spare_buckets_first_then_heap"), "Stats::chains"),
    ("M7", "While growing, writes go to both buckets", Test(Fails, "structure:m7_evacuates_first_then_writes"), "map::OldStats"),
    ("M8", "A deleted value stays in its cell", Test(Fails, "structure:m8_removal_drops_and_marks_the_rest"), "map::Tophashes"),
    ("M9", "A cell is reused only for the same tophash", Test(Fails, "structure:m9_the_first_empty_cell_is_taken"), "map::Inserts"),
    ("M10", "Deleted entries stay reachable", Test(Fails, "cost:m10_live_is_len"), "Stats::dropped"),
    ("M11", "Deletes are deferred and swept", Test(Fails, "cost:m11_deferred_deletion_has_a_backlog"), "map::Lazy, which does so"),
    ("M12", "Iterating values saves the copy of keys", Test(Fails, "cost:m12_iterating_allocates_and_copies_nothing"), "Map::values"),
    ("M13", "Cost jumps at 2.3 and 5.7 entries per bucket", Experiment("E7"), "map::LoadFactor"),
    ("M14", "100,000 pairs of delete and insert (no figure)", Test(Holds, "cost:m14_churn_reuses_cells"), "E6"),
    ("M15", "Reuse of a bucket saves 72 % of the cache misses", Experiment("E6"), "perf_event_open"),
    ("M16", "Compare-and-swap on tophashes fails more than 35 %", Experiment("E11"), "map::CasTable, which is not Go"),
    ("M17", "Padding of structures", Test(Fails, "cost:m17_padding"), "two of three rows hold"),
    ("M18", "Appending empty structures allocates 16 bytes", Test(Fails, "cost:m18_units_allocate_nothing"), "Vec<()>"),
    ("M19", "Growth invalidates preallocated slices", Test(Fails, "cost:m19_growth_moves_headers_only"), "E3"),
    ("M20", "Growth hashes twice and costs collections", Test(Fails, "cost:m20_growth_holds_both_arrays"), "Stats::bytes_peak, E8"),
    ("V1", "Values of any type are boxed", Test(Holds, "cost:v1_boxes_allocate_enums_do_not"), "enums and small values are not"),
    ("V2", "24 bytes cost no allocation, 2048 bytes 1.2", Experiment("E12"), "map::INLINE_MAX_BYTES"),
    ("V3", "Parsing allocates 2.5 times, or not at all", Test(Holds, "cost:v3_parsing_allocates_what_it_owns"), "measure, assert_no_allocs!"),
    ("V4", "A field by tag 824 ns, by offset 47 ns", Experiment("E13"), ""),
    ("V5", "Pointers allow updates in place", Test(Holds, "cost:v5_values_change_in_place"), "Entry::and_modify"),
    ("P1", "A pool has private, shared, and steals", Test(Holds, "pool:sources_come_in_the_order_of_sync_pool"), "pool::Pool"),
    ("P2", "A pool of maps: 182 → 23 ns", Experiment("E1"), "pool::Reset"),
    ("P3", "A pool takes 0.02 allocations instead of 1.0 because it buckets by type", Experiment("E5"), "pool::AnyPool"),
    ("P4", "Each collection empties the pool", Experiment("E17"), "Pool::advance, pool::Epochs"),
    ("P5", "The hit rate is Mallocs − Frees", Test(Fails, "pool:counters_equal_a_ledger"), "pool::PoolStats"),
    ("P6", "Reset before giving back", Test(Holds, "pool:guards_reset_on_drop"), "pool::PoolGuard"),
    ("P7", "A bitmap pool over pages populated in advance", Experiment("E16"), "pool::BitmapPool"),
    ("P8", "An iterator of a map that returns to a pool", Test(Holds, "tests/seed_tables.rs:a_pooled_cursor_is_used_again"), "map::Cursor"),
    ("P9", "32 or 64 shards and a pool of slices", Experiment("E10"), "map::Sharded, pool::SlicePool"),
    ("P10", "A pool of objects for numbers", Design("about a JVM; the object pools cover it"), "pool::Pool, E2"),
    ("P11", "Listeners are never removed", Experiment("E19"), "observe::Listeners"),
    ("R1", "A map migrates in an arena by rebinding pointers", Test(Fails, "cost:r1_handles_need_no_rebinding"), "E22"),
    ("R2", "Three tiers: 89.2/22.7/9.3/6.1 ns", Experiment("E2"), "arena::Arena"),
    ("R3", "Doubling twice runs out of memory; preallocate", Experiment("E3"), "examples/before_after, aggregate"),
    ("R4", "The P95 of a Poisson distribution of mean 16/64/256 is 24/82/295", Experiment("E15"), "arena::CapacityEstimator"),
    ("R5", "Build tags choose fast, safe or default", Design("Cargo features profile, flamegraph, collections; debug builds poison"), "Cargo.toml"),
    ("O1", "A leak of 1000 blocks, an alarm at 95 %", Experiment("E4"), "Snapshotter; observe::TrendDetector"),
    ("O2", "Allocated and in-use space and objects", Experiment("O2"), "profile::Site"),
    ("O3", "A rising Z of the collector's X → Y → Z is a leak", Experiment("O3"), "SPANALLOC=trace=scavenge; there is no collector"),
    ("O4", "Whether a bucket is still mapped", Test(Holds, "memory:a_thread_tells_its_live_blocks_from_its_free_ones"), "inspect, map::Stats::array_address"),
    ("O5", "Limits on tags of 10, 50 and 1000 KB", Experiment("E21"), "observe::TagBudget"),
    ("O6", "Clock readings below a nanosecond", Experiment("O6"), "observe::Timer"),
    ("O7", "A soft limit lowers memory and pauses", Experiment("E20"), "set_soft_limit, on_pressure, set_decay"),
    ("O8", "Alerts on size, time and rate", Test(Holds, "observe:rules_are_broken_by_size_and_by_rate"), "observe::SloRule"),
];

/// The table, as HTML.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let mut page = String::from(
        "<section id=\"rows\"><h2>All rows</h2>\n<div class=\"scroll\"><table class=\"rows\"><thead>\
         <tr><th></th><th>claim</th><th>verdict</th><th>shown by</th><th>see</th></tr></thead>\
         <tbody>",
    );
    for (id, claim, by, see) in &ROWS {
        let (verdict, shown) = settle(by, outcomes);
        let verdict = verdict
            .map_or_else(|why| escape(&why), |(verdict, about)| page::verdict(verdict, about));
        let (claim, see) = (escape(claim), escape(see));
        let _ = write!(
            page,
            "<tr><td>{id}</td><td>{claim}</td><td>{verdict}</td><td>{shown}</td><td>{see}</td></tr>"
        );
    }
    page.push_str("</tbody></table></div></section>\n");
    page
}

/// The verdict and what it is about, or why there is none, and a link or a name for what it rests
/// on.
fn settle(by: &By, outcomes: &[Outcome]) -> (Result<(Verdict, About), String>, String) {
    match by {
        Experiment(id) => {
            let outcome = outcomes.iter().find(|(experiment, ..)| experiment.id == *id);
            let found = outcome.map(|(experiment, _, found)| (found.verdict, experiment.about));
            let found = found.ok_or_else(|| String::from("not run"));
            (found, format!("<a href=\"#{id}\">{id}</a>"))
        }
        Test(verdict, test) => {
            let (file, name) = test.split_once(':').unwrap_or((test, ""));
            (Ok((*verdict, Implementation)), format!("<code>{}::{name}</code>", path(file)))
        }
        Design(why) => (Err((*why).to_owned()), String::from("by design")),
    }
}

/// The file that a test's short name stands for.
fn path(file: &str) -> &str {
    match file {
        "structure" => "tests/map_claims_structure.rs",
        "cost" => "tests/map_claims_cost.rs",
        "tiers" => "tests/map_tiers.rs",
        "pool" => "tests/collections/pool.rs",
        "observe" => "tests/collections/observe.rs",
        "memory" => "tests/memory.rs",
        other => other,
    }
}
