//! Floor 0: limits, forks, counts in texts, quantities, single-writer words, random numbers and
//! gaps. Uses `core` only.

pub(crate) mod counted;
pub(crate) mod forks;
pub(crate) mod limits;
pub(crate) mod marks;
pub(crate) mod math;
pub(crate) mod own;
pub(crate) mod random;
pub(crate) mod sync;
pub(crate) mod zeroed;
