//! The global allocator of a binary, which calls [`install`] for it: in an application the `static`
//! is in the program's own crate, too.
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
            /// The allocator of this binary.
            pub type Allocator = $type;

            #[cfg(feature = $feature)]
            $(#[$note])*
            /// What it begins as.
            pub const ALLOCATOR: Allocator = $init;
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

/// Makes the chosen allocator that of the binary that calls this, once.
#[macro_export]
macro_rules! install {
    () => {
        #[global_allocator]
        static GLOBAL: $crate::Allocator = $crate::ALLOCATOR;
    };
}

const _: () =
    assert!(CHOSEN == 1, "choose exactly one allocator: `--features mimalloc`, for example");
