//! Collections that show what allocation and reuse do; see `src/README.md`.

pub mod map;
