//! What must be in a block: words of a number that no other block has, mixed with the number of
//! the page. So memory that two blocks share shows, and so does a page that was lost or came to
//! another place. Also for the tests of the global allocator, in `tests/common`.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

const PAGE: usize = 4096;

/// A number that no block had before.
pub(crate) fn new_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

fn word(id: u64, page: usize) -> [u8; 8] {
    // An odd factor: other ids have other words, and so have all pages of one.
    let mixed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (page as u64) << 8;
    mixed.max(1).to_ne_bytes()
}

/// Fills a block.
pub(crate) fn fill(bytes: &mut [u8], id: u64) {
    for (number, page) in bytes.chunks_mut(PAGE).enumerate() {
        let (word, mut filled) = (word(id, number), page.len().min(8));
        page[..filled].copy_from_slice(&word[..filled]);
        // By doubling, which is fast where nothing is optimized.
        while filled < page.len() {
            let more = filled.min(page.len() - filled);
            page.copy_within(..more, filled);
            filled += more;
        }
    }
}

/// Whether these are the first bytes of a block that [`fill`] filled.
pub(crate) fn holds(bytes: &[u8], id: u64) -> bool {
    bytes.chunks(PAGE).enumerate().all(|(number, page)| {
        let (word, begins) = (word(id, number), page.len().min(8));
        // All words are equal to the one before: as fast as `memcmp`.
        page[..begins] == word[..begins] && page[begins..] == page[..page.len() - begins]
    })
}

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|first| *first == 0 && bytes[1..] == bytes[..bytes.len() - 1])
}
