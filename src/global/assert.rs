//! Assertions about what code allocates. A failure prints the sites that did.

use std::fmt::Display;

use super::measure::{Meter, uncounted};

/// Sites shown when an assertion fails.
#[cfg(feature = "profile")]
const SITES_SHOWN: usize = 5;

/// Evaluates an expression, and panics unless what it allocates on this thread
/// keeps to every condition; returns its value.
///
/// A condition is a field of [`Usage`](crate::Usage), or `left_blocks` or `left_block_bytes`
/// for what its methods of these names return, then a comparison, and a limit. The value of
/// the expression is still there when the conditions are looked at, so that what it holds counts
/// as left. The message gives the condition, all of what was counted, and the sites that
/// allocated most. The expression becomes the body of a closure. Each of its
/// allocations costs about a microsecond, for its stack.
///
/// # Examples
///
/// ```
/// # #[global_allocator]
/// # static GLOBAL: spanalloc::SpanAlloc = spanalloc::SpanAlloc::new();
/// let words = spanalloc::assert_usage!(
///     "one two three".split(' ').collect::<Vec<_>>();
///     allocs == 1, peak_block_bytes <= 128,
/// );
/// assert_eq!(words.len(), 3);
///
/// // Nothing may be left of what a request allocates.
/// spanalloc::assert_usage!(drop(words.clone()); left_blocks == 0, left_block_bytes == 0);
/// ```
#[macro_export]
macro_rules! assert_usage {
    ($work:expr; $($field:ident $compare:tt $limit:expr),+ $(,)?) => {{
        let meter = $crate::__meter();
        let value = meter.count(|| $work);
        let usage = meter.usage();
        $({
            let limit = $limit;
            if !($crate::__figure!(usage $field) $compare limit) {
                let condition = ::core::concat!(
                    ::core::stringify!($field), " ", ::core::stringify!($compare)
                );
                $crate::__assertion_failed(&meter, condition, &limit);
            }
        })+
        value
    }};
}

/// A figure of a usage by its name.
#[doc(hidden)]
#[macro_export]
macro_rules! __figure {
    ($usage:ident left_blocks) => {
        $usage.left_blocks()
    };
    ($usage:ident left_block_bytes) => {
        $usage.left_block_bytes()
    };
    ($usage:ident $field:ident) => {
        $usage.$field
    };
}

/// Evaluates an expression, and panics if it allocates on this thread; returns
/// its value. See [`assert_usage!`](crate::assert_usage).
///
/// # Examples
///
/// ```
/// # #[global_allocator]
/// # static GLOBAL: spanalloc::SpanAlloc = spanalloc::SpanAlloc::new();
/// let mut buffer = String::with_capacity(16);
/// spanalloc::assert_no_allocs!(buffer.push_str("fits"));
/// ```
#[macro_export]
macro_rules! assert_no_allocs {
    ($work:expr $(,)?) => {
        $crate::assert_usage!($work; allocs == 0)
    };
}

/// The meter of an assertion. Panics if it would see nothing.
#[doc(hidden)]
#[track_caller]
#[must_use]
pub fn __meter() -> Meter {
    let probed = uncounted(|| {
        let probe = Meter::new();
        probe.count(|| drop(std::hint::black_box(Box::new(0_u8))));
        probe.usage()
    });
    assert!(
        probed.allocs == 1,
        "spanalloc is not this program's global allocator, so that there is nothing to assert: add `#[global_allocator] static GLOBAL: spanalloc::SpanAlloc = spanalloc::SpanAlloc::new();`"
    );
    #[cfg(feature = "profile")]
    return Meter::with_sites();
    #[cfg(not(feature = "profile"))]
    Meter::new()
}

/// Panics with what an assertion found.
#[doc(hidden)]
#[track_caller]
pub fn __assertion_failed(meter: &Meter, condition: &str, limit: &dyn Display) -> ! {
    let message = format!("expected {condition} {limit}, found {}", meter.usage());
    #[cfg(feature = "profile")]
    if let Some(profile) = meter.profile() {
        let top = profile.top(SITES_SHOWN, crate::report::Weight::AllocatedBytes);
        panic!("{message}\n{top}");
    }
    panic!("{message}");
}

// By preload all memory is the allocator's, that of tests, too.
#[cfg(all(test, not(feature = "preload")))]
mod tests {
    #[test]
    fn where_nothing_is_seen_nothing_is_asserted() {
        let refused = std::panic::catch_unwind(super::__meter).err().unwrap();
        let message = refused.downcast::<&str>().unwrap();
        assert!(message.contains("is not this program's global allocator"), "{message}");
    }
}
