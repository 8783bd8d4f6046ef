//! See `src/README.md`.

#[cfg(feature = "collections")]
pub(crate) mod sync;
