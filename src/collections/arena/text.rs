//! Text that is formatted straight into an arena.

use super::Arena;
use std::fmt::{self, Write};

impl Arena {
    /// Formats into the arena. Formats twice, first to learn the length, and allocates nowhere
    /// else; text without arguments is copied.
    ///
    /// # Panics
    ///
    /// When a `Display` or the like returns an error, or writes more the second time.
    ///
    /// ```
    /// let arena = spanalloc::arena::Arena::new();
    /// let name = arena.alloc_fmt(format_args!("{}-{:03}", "part", 7));
    /// assert_eq!(name, "part-007");
    /// assert_eq!(arena.stats().live_bytes, 8);
    /// ```
    pub fn alloc_fmt(&self, arguments: fmt::Arguments<'_>) -> &mut str {
        if let Some(text) = arguments.as_str() {
            return self.alloc_str(text);
        }
        let mut length = Length(0);
        length.write_fmt(arguments).expect("a Display returned an error");
        let mut room = Room { bytes: self.alloc_slice_fill_with(length.0, |_| b' '), written: 0 };
        room.write_fmt(arguments).expect("a Display returned an error, or wrote more than before");
        let Room { bytes, written } = room;
        str::from_utf8_mut(&mut bytes[..written]).expect("whole texts were written")
    }
}

/// Counts what is written.
struct Length(usize);

impl Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.checked_add(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

/// Takes what is written, as far as there is room.
struct Room<'a> {
    bytes: &'a mut [u8],
    written: usize,
}

impl Write for Room<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.written.checked_add(text.len()).ok_or(fmt::Error)?;
        let place = self.bytes.get_mut(self.written..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.written = end;
        Ok(())
    }
}
