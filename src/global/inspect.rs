//! What is at an address, for a debugger's questions: public types and the call.

use std::fmt;

use super::slow::{HEAP, cache};
use crate::heap::inspect::{Found, InSpan, Used, What};

/// What is at an address: see [`inspect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The address of its first byte.
    pub start: usize,
    /// How many bytes it has.
    pub bytes: usize,
    /// What it is.
    pub what: Place,
    /// Whether it is in use, as far as known.
    pub state: BlockState,
    /// Whether the sampler chose it.
    pub sampled: bool,
}

/// What memory of the allocator's is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A block of a size class.
    Block {
        /// Which block of its span it is, from 0.
        index: u32,
        /// How many blocks the span has.
        blocks: u32,
        /// The address of the span's first byte.
        span_start: usize,
        /// Bytes of the span.
        span_bytes: usize,
    },
    /// A block above the size classes: a span of its own.
    LargeSpan,
    /// A block of more than 16 MiB: a mapping of its own.
    Mapping,
    /// The end of a span, too short for another block.
    SpanEnd,
    /// Free pages, of which one slot of 64 KiB is shown.
    FreePages,
    /// Records of the allocator's.
    Headers,
}

/// Whether memory is in use, as far as known without a count of every block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockState {
    /// Allocated. Exact for large blocks; of blocks in spans of the calling thread one
    /// that another thread has freed a moment ago counts as live too; a sampled block
    /// is live while the profile has it.
    Live,
    /// Freed, and still in memory; it will be allocated again. A mapping stays so for a while, if
    /// at all; then it is nothing of the allocator's any more.
    Free,
    /// Never handed out.
    Unused,
    /// Free, and its pages given back to the system.
    Returned,
    /// Allocated or free: it lies in a span of another thread, whose lists cannot be
    /// read while it uses them; or it was sampled, hence lies in a span that threads share, and the
    /// profile does not have it any more, as after its free.
    Unknown,
}

/// What lies at `address`: which block of which span, of what size, sampled or not,
/// live or free as far as known; `None` for memory that is not the allocator's, such
/// as the stack, statics and C libraries' `malloc`.
///
/// An answer to "is this pointer still valid?" that does not touch what it points
/// to. It is true of the moment of the call; only the owner of a block knows that it
/// stays so.
///
/// Cost: two locks and a look at each chunk of 64 MiB and at this thread's free
/// blocks of the class, so microseconds. The fast paths do not notice.
///
/// # Examples
///
/// ```
/// use spanalloc::{SpanAlloc, BlockState};
///
/// #[global_allocator]
/// static GLOBAL: SpanAlloc = SpanAlloc::new();
///
/// fn main() {
///     let word = Box::new(37_u64);
///     let address: *const u64 = &*word;
///     let found = spanalloc::inspect(address.cast()).unwrap();
///     assert_eq!((found.start, found.bytes), (address.addr(), 8));
///     assert_eq!(found.state, BlockState::Live);
///     drop(word);
///     assert_eq!(spanalloc::inspect(address.cast()).unwrap().state, BlockState::Free);
///     assert_eq!(spanalloc::inspect((&raw const found).cast()), None, "the stack");
/// }
/// ```
pub fn inspect(address: *const u8) -> Option<Inspection> {
    let found = HEAP.inspect(cache(), address.addr())?;
    Some(Inspection::of(found))
}

impl Inspection {
    fn of(found: Found) -> Self {
        let Found { start, bytes, what } = found;
        let (what, state, sampled) = match what {
            What::Block(block) => {
                let InSpan { span_start, span_bytes, index, blocks, sampled, .. } = block;
                let what = Place::Block { index, blocks, span_start, span_bytes };
                (what, state_of(start, block), sampled)
            }
            What::Tail => (Place::SpanEnd, BlockState::Unused, false),
            What::Large { sampled } => (Place::LargeSpan, BlockState::Live, sampled),
            What::Mapping { sampled } => (Place::Mapping, BlockState::Live, sampled),
            What::Kept => (Place::Mapping, BlockState::Free, false),
            What::FreeSlot { dirty: true } => (Place::FreePages, BlockState::Free, false),
            What::FreeSlot { dirty: false } => (Place::FreePages, BlockState::Returned, false),
            What::Headers => (Place::Headers, BlockState::Live, false),
        };
        Self { start, bytes, what, state, sampled }
    }
}

fn state_of(start: usize, block: InSpan) -> BlockState {
    match block.used {
        Used::Unknown if block.sampled && super::sampling::is_live(start) => BlockState::Live,
        Used::Unknown => BlockState::Unknown,
        Used::Live => BlockState::Live,
        Used::Free => BlockState::Free,
        Used::Returned => BlockState::Returned,
        Used::Never => BlockState::Unused,
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, bytes, what, state, sampled } = self;
        let state = match state {
            BlockState::Live => "live",
            BlockState::Free => "free",
            BlockState::Unused => "never used",
            BlockState::Returned => "given back to the system",
            BlockState::Unknown => "live or free",
        };
        match what {
            Place::Block { index, blocks, span_start, span_bytes } => write!(
                f,
                "block {index} of {blocks} of {bytes} bytes in the span of {span_bytes} bytes at \
                 {span_start:#x}"
            ),
            Place::LargeSpan => write!(f, "large block of {bytes} bytes at {start:#x}"),
            Place::Mapping => write!(f, "mapping of {bytes} bytes at {start:#x}"),
            Place::SpanEnd => write!(f, "end of a span, {bytes} bytes at {start:#x}"),
            Place::FreePages => write!(f, "free pages, {bytes} bytes at {start:#x}"),
            Place::Headers => write!(f, "headers of the chunk at {start:#x}"),
        }?;
        write!(f, ", {state}{}", if *sampled { ", sampled" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_heap_finds_is_told_with_its_state_and_whether_it_was_sampled() {
        use BlockState::{Free, Live, Returned, Unknown, Unused};
        let told = |what| {
            let found = Inspection::of(Found { start: 16, bytes: 32, what });
            assert_eq!((found.start, found.bytes), (16, 32));
            (found.what, found.state, found.sampled)
        };
        for sampled in [false, true] {
            assert_eq!(told(What::Large { sampled }), (Place::LargeSpan, Live, sampled));
            assert_eq!(told(What::Mapping { sampled }), (Place::Mapping, Live, sampled));
        }
        assert_eq!(told(What::Tail), (Place::SpanEnd, Unused, false));
        assert_eq!(told(What::Kept), (Place::Mapping, Free, false));
        assert_eq!(told(What::FreeSlot { dirty: true }), (Place::FreePages, Free, false));
        assert_eq!(told(What::FreeSlot { dirty: false }), (Place::FreePages, Returned, false));
        assert_eq!(told(What::Headers), (Place::Headers, Live, false));
        let (span_start, span_bytes, index, blocks) = (8, 64, 3, 5);
        for (used, state) in [
            (Used::Live, Live),
            (Used::Free, Free),
            (Used::Returned, Returned),
            (Used::Never, Unused),
            // The profile has no block at that address.
            (Used::Unknown, Unknown),
        ] {
            for sampled in [false, true] {
                let block = InSpan { span_start, span_bytes, index, blocks, sampled, used };
                let place = Place::Block { index, blocks, span_start, span_bytes };
                assert_eq!(told(What::Block(block)), (place, state, sampled));
            }
        }
    }
}
