//! Dropping all that is left, even when a value's `Drop` panics.

/// Calls `drop_next` until it returns false, which means that nothing is left. When it panics, what
/// is left is dropped before the panic goes on; a second one aborts, as in a `Vec`.
pub(crate) fn drop_rest(drop_next: impl FnMut() -> bool) {
    /// Goes on when a call has unwound.
    struct Rest<F: FnMut() -> bool>(F);

    impl<F: FnMut() -> bool> Rest<F> {
        fn drop_all(&mut self) {
            while (self.0)() {}
        }
    }

    impl<F: FnMut() -> bool> Drop for Rest<F> {
        fn drop(&mut self) {
            self.drop_all();
        }
    }

    Rest(drop_next).drop_all();
}
