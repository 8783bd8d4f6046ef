//! One line on standard error, composed in a fixed buffer and written by one
//! system call: usable inside the allocator, before `main` and after it.
//!
//! What does not fit is cut, and the line then ends in `…`.

use super::os::keep_errno;

/// Longest line, in bytes, without its newline.
const LINE_BYTES_MAX: usize = 480;
/// The most bytes of a name or value of a user's that are shown.
const SHORT_BYTES_MAX: usize = 160;
const ELLIPSIS: &str = "…";

/// A line under composition.
pub(crate) struct Line {
    /// The last bytes are reserved for [`ELLIPSIS`] and the newline.
    bytes: [u8; LINE_BYTES_MAX + ELLIPSIS.len() + 1],
    length: usize,
    cut: bool,
}

impl Line {
    /// A line that begins with the name of the library.
    pub(crate) const fn new() -> Self {
        let line = Self { bytes: [0; LINE_BYTES_MAX + ELLIPSIS.len() + 1], length: 0, cut: false };
        line.text("spanalloc: ")
    }

    /// Appends `text`.
    pub(crate) const fn text(self, text: &str) -> Self {
        self.raw(text.as_bytes())
    }

    /// Appends a number, in decimal digits.
    pub(crate) const fn number(self, number: u64) -> Self {
        let line = if number >= 10 { self.number(number / 10) } else { self };
        line.raw(&[b'0' + (number % 10) as u8])
    }

    /// Appends an address, in hexadecimal digits.
    pub(crate) const fn address(self, address: usize) -> Self {
        let mut line = self.text("0x");
        let mut left =
            if address == 0 { 1 } else { (usize::BITS - address.leading_zeros()).div_ceil(4) };
        while left > 0 {
            left -= 1;
            line = line.raw(&[b"0123456789abcdef"[address >> (left * 4) & 15]]);
        }
        line
    }

    /// Appends bytes that need not be UTF-8; control bytes become `?`.
    pub(crate) const fn raw(mut self, bytes: &[u8]) -> Self {
        let mut at = 0;
        while at < bytes.len() {
            if self.length == LINE_BYTES_MAX {
                self.cut = true;
                break;
            }
            self.bytes[self.length] = if bytes[at] < b' ' { b'?' } else { bytes[at] };
            self.length += 1;
            at += 1;
        }
        self
    }

    /// Appends bytes as [`raw`](Self::raw) does, but no more than leave room for what is to follow;
    /// what was left out in the middle is shown as `…`.
    pub(crate) const fn shortened(self, bytes: &[u8]) -> Self {
        let ends = SHORT_BYTES_MAX / 2;
        if bytes.len() <= SHORT_BYTES_MAX {
            return self.raw(bytes);
        }
        let (begin, rest) = bytes.split_at(ends);
        let (_, end) = rest.split_at(rest.len() - ends);
        self.raw(begin).text(ELLIPSIS).raw(end)
    }

    /// The line as it would be written, newline included.
    fn finish(&mut self) -> &[u8] {
        let mut end = self.length;
        if self.cut {
            for &byte in ELLIPSIS.as_bytes() {
                self.bytes[end] = byte;
                end += 1;
            }
        }
        self.bytes[end] = b'\n';
        &self.bytes[..=end]
    }

    /// Writes the line. A standard error that is closed or full is not an error.
    pub(crate) fn write(mut self) {
        let bytes = self.finish();
        // Not by `write`, in which the thread could be cancelled: what allocates is no such place.
        // SAFETY: the pointer and length are those of a live slice.
        keep_errno(|| unsafe {
            libc::syscall(libc::SYS_write, libc::STDERR_FILENO, bytes.as_ptr(), bytes.len())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composes_and_replaces_control_bytes() {
        let mut line = Line::new().text("key ").raw(b"a\nb\xff");
        assert_eq!(line.finish(), b"spanalloc: key a?b\xff\n");
        let mut line = Line::new().number(0).text(" ").number(u64::MAX);
        assert_eq!(line.finish(), b"spanalloc: 0 18446744073709551615\n");
        let mut line = Line::new().address(0).text(" ").address(0x7f00_00a0_0010);
        assert_eq!(line.finish(), b"spanalloc: 0x0 0x7f0000a00010\n");
    }

    #[test]
    fn shortens_in_the_middle_what_is_long() {
        let long: Vec<u8> = (0..400).map(|at| b'a' + (at / 20) as u8).collect();
        let mut line = Line::new().shortened(&long).text(" is too long");
        let text = String::from_utf8(line.finish().to_vec()).unwrap();
        assert_eq!(text.len(), "spanalloc: ".len() + 160 + "… is too long\n".len());
        assert!(
            text.contains("aab") && text.contains("dd…qq") && text.contains("ttt is"),
            "{text}"
        );
        let mut line = Line::new().shortened(&long[..160]);
        assert_eq!(line.finish().len(), "spanalloc: ".len() + 161);
    }

    #[test]
    fn cuts_what_does_not_fit() {
        let long = [b'x'; 1000];
        let mut line = Line::new().raw(&long).text("more");
        let bytes = line.finish();
        assert_eq!(bytes.len(), LINE_BYTES_MAX + ELLIPSIS.len() + 1);
        assert!(bytes.ends_with("x…\n".as_bytes()));
    }
}
