//! The global allocator of the binary this crate is linked into.
//!
//! A workload binary is built once per allocator; the feature of the same name
//! chooses which. Everything else in the binary stays the same, so a difference
//! between two binaries is a difference between two allocators.
//!
//! Each allocator is installed the way its own documentation says first, with
//! its default settings; what deviates is said at its `static`.

macro_rules! allocators {
    ($($feature:literal => $(#[$note:meta])* $type:ty = $init:expr;)*) => {
        $(
            #[cfg(feature = $feature)]
            $(#[$note])*
            #[global_allocator]
            static GLOBAL: $type = $init;

            #[cfg(feature = $feature)]
            /// The name of the allocator in this binary, as the feature spells it.
            pub const NAME: &str = $feature;
        )*
        const CHOSEN: usize = 0 $(+ cfg!(feature = $feature) as usize)*;
    };
}

allocators! {
    "spanalloc" => spanalloc::SpanAlloc = spanalloc::SpanAlloc::new();
    "spanalloc-sampled" =>
        spanalloc::SpanAlloc = spanalloc::SpanAlloc::new().sample_every(512 * 1024);
    "system" => std::alloc::System = std::alloc::System;
    "mimalloc" => mimalloc::MiMalloc = mimalloc::MiMalloc;
    "jemalloc" => tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
    "snmalloc" => snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc;
    "rpmalloc" => rpmalloc::RpMalloc = rpmalloc::RpMalloc;
    "rusty_alloc" => rusty_alloc_api::RustyAlloc = rusty_alloc_api::RustyAlloc;
    "stoolap" => stoolap_jemalloc::Jemalloc = stoolap_jemalloc::Jemalloc::new();
    "stoolap-profiled" =>
        stoolap_jemalloc::Jemalloc = stoolap_jemalloc::Jemalloc::new().with_profiling();
}

const _: () =
    assert!(CHOSEN == 1, "choose exactly one allocator: `--features mimalloc`, for example");
