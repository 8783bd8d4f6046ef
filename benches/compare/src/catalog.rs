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

/// A workload binary and its rows of the table, in its own order.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) workloads: &'static [&'static str],
}

/// The programs, quickest to build first. Their workloads are named here once more, so that
/// `--only` is understood, or refused, before anything is built.
pub(crate) const PROGRAMS: [Program; 3] = [
    Program {
        name: "micro",
        workloads: &[
            "pair64",
            "pair64_runtime",
            "pair_mixed",
            "ring1024",
            "live1m",
            "live1m_64",
            "batch_order",
            "batch_reverse",
            "batch_shuffled",
            "tree",
            "list",
            "ring_2_threads",
            "ring_16_threads",
            "larson",
            "thread_churn",
            "producer_consumer",
            "many_to_many",
            "many_to_one",
            "large_handed_over",
            "vec_grow_small",
            "vec_grow_512m",
            "realloc_strings",
            "large_32k_1m",
            "large_1m_16m",
            "large_32m",
            "zeroed_small",
            "zeroed_1m",
            "aligned",
            "aligned_large",
            "fragmentation",
            "idle_burst",
            "idle_survivors",
            "worst_free",
            "idle_threads",
        ],
    },
    Program {
        name: "real",
        workloads: &[
            "json_values",
            "json_typed",
            "syn_parse",
            "regex_compile",
            "hashmap_strings",
            "btreemap_strings",
            "word_count",
            "tokio_spawn",
            "tokio_pipeline",
            "rhai_script",
            "rhai_compile",
            "gzip",
        ],
    },
    Program {
        name: "engines",
        workloads: &["tantivy_index", "tantivy_query", "sql_insert", "sql_select"],
    },
];

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

/// The loops of some of them, without their calls: what is left of a count is the allocator's.
pub(crate) const LOOPS: [(&str, &str); 2] =
    [("pair64", "loop64"), ("pair64_runtime", "loop64_runtime")];

/// Workloads that run what those do not: threads' ends, large blocks, the scavenger. No count of
/// theirs is the same twice.
pub(crate) const UNCOUNTED: [&str; 5] =
    ["larson", "many_to_many", "large_32k_1m", "large_1m_16m", "vec_grow_512m"];

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
    use super::{ALLOCATORS, PROGRAMS, family, is_ours};
    use std::fs;

    #[test]
    fn a_profiled_variant_is_of_the_family() {
        assert_eq!(family("stoolap-profiled"), family("stoolap"));
        assert_eq!(ALLOCATORS.iter().filter(|name| is_ours(name)).count(), 2);
    }

    #[test]
    fn every_allocator_is_a_feature_of_peer_and_of_each_program() {
        for manifest in ["peer", "micro", "real", "engines"] {
            let path = format!("{}/{manifest}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
            for allocator in ALLOCATORS {
                let feature = format!("\n{allocator} = [");
                assert!(text.contains(&feature), "{path} lacks the feature {allocator}");
            }
        }
    }

    #[test]
    fn the_workloads_are_those_of_the_programs_sources() {
        for program in &PROGRAMS {
            let folder = format!("{}/{}/src", env!("CARGO_MANIFEST_DIR"), program.name);
            let mut found = Vec::new();
            for file in fs::read_dir(&folder).unwrap() {
                let text = fs::read_to_string(file.unwrap().path()).unwrap();
                let entries = text.split("name: \"").skip(1).filter_map(|rest| {
                    let (name, rest) = rest.split_once("\",\n")?;
                    let kind = rest.trim_start().strip_prefix("kind: Kind::")?;
                    (!kind.starts_with("Scaling") && !kind.starts_with("Loop"))
                        .then(|| name.to_owned())
                });
                found.extend(entries);
            }
            found.sort();
            let mut named = program.workloads.to_vec();
            named.sort_unstable();
            assert_eq!(found, named, "left: {folder}");
        }
    }
}
