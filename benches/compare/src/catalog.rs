//! The allocators and the programs there are.

/// The allocators, as the features of the crate `peer` spell them.
pub(crate) const ALLOCATORS: [&str; 10] = [
    "spanalloc",
    "spanalloc-sampled",
    "system",
    "mimalloc",
    "jemalloc",
    "snmalloc",
    "rpmalloc",
    "rusty_alloc",
    "stoolap",
    "stoolap-profiled",
];

/// The allocator whose binaries are asked for the list of workloads.
pub(crate) const LISTER: &str = "system";

/// The workload binaries, quickest to build first.
pub(crate) const PROGRAMS: [&str; 3] = ["micro", "real", "engines"];

/// The workloads whose instructions are counted: those in which the allocator is
/// most of the work, on one thread, so that the count is the same each time.
pub(crate) const COUNTED: [&str; 10] = [
    "pair64",
    "pair64_runtime",
    "pair_mixed",
    "ring1024",
    "batch_order",
    "batch_shuffled",
    "list",
    "vec_grow_small",
    "realloc_strings",
    "zeroed_small",
];

/// The crates whose versions a result states.
pub(crate) const CRATES: [&str; 10] = [
    "spanalloc",
    "mimalloc",
    "libmimalloc-sys",
    "tikv-jemallocator",
    "tikv-jemalloc-sys",
    "snmalloc-rs",
    "rpmalloc",
    "rpmalloc-sys",
    "rusty_alloc-api",
    "stoolap-jemalloc",
];

/// The system an allocator belongs to: the same one with and without profiling
/// is no rival of itself.
pub(crate) fn family(allocator: &str) -> &str {
    allocator.split('-').next().unwrap_or(allocator)
}

/// Whether this is the allocator the arena is for.
pub(crate) fn is_ours(allocator: &str) -> bool {
    family(allocator) == "spanalloc"
}

#[cfg(test)]
mod tests {
    use super::{ALLOCATORS, family, is_ours};

    #[test]
    fn a_profiled_variant_is_of_the_family() {
        assert_eq!(family("stoolap-profiled"), family("stoolap"));
        assert_eq!(ALLOCATORS.iter().filter(|name| is_ours(name)).count(), 2);
    }

    #[test]
    fn every_allocator_is_a_feature_of_peer_and_of_each_program() {
        for manifest in ["peer", "micro", "real", "engines"] {
            let path = format!("{}/{manifest}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
            for allocator in ALLOCATORS {
                let feature = format!("\n{allocator} = [");
                assert!(text.contains(&feature), "{path} lacks the feature {allocator}");
            }
        }
    }
}
