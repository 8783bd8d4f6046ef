//! The last line of a process that cannot go on.

/// Writes `spanalloc: ` and `message` as one line to standard error, without
/// allocating or formatting. Errors are ignored: there is nowhere to report them.
pub(crate) fn warn(message: &str) {
    let parts: [&[u8]; 3] = [b"spanalloc: ", message.as_bytes(), b"\n"];
    let vectors = parts
        .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
    // SAFETY: each vector names a live, readable slice; `writev` only reads them.
    unsafe { libc::writev(libc::STDERR_FILENO, vectors.as_ptr(), vectors.len() as i32) };
}

/// Says why in one line and aborts. For misuse that has corrupted, or would
/// corrupt, the heap: unwinding out of an allocator would run more of it.
#[cold]
#[inline(never)]
pub(crate) fn die(message: &str) -> ! {
    warn(message);
    // SAFETY: `abort` has no preconditions.
    unsafe { libc::abort() }
}
