//! Reports: the allocator's counts ([`Stats`]), the sites of a profile ([`Top`], [`Diff`]), and
//! dumps read again ([`Dump`]). [`Weight`] chooses the figure.

// Floor 4: snapshots in, bytes out. No clock, no globals, no allocator.
//
// | file | report |
// | --- | --- |
// | `stats`, `table` | what the heap counts exactly, as data and as a table |
// | `heat` | reuse by size class, as a picture |
// | `calls` | a profile as named stacks: trimmed, merged, sorted |
// | `top` | the largest sites as text |
// | `rows` | the rows of `top` and `diff` as data |
// | `shown` | which frames of a stack a text shows |
// | `standard` | which of them are the standard library's |
// | `folded`, `flame` | folded stacks and flamegraphs |
// | `diff` | what changed between two profiles: text, folded stacks, a flamegraph |
// | `pprof`, `dropped`, `protobuf` | `profile.proto`, for `go tool pprof` and what reads the like |
// | `dhat`, `speedscope` | the formats of two viewers |
// | `html`, `page.*` | one page to look at |
// | `json` | everything, for machines |
// | `prometheus` | the counts for a scrape by Prometheus |
// | `units` | how figures are written |
// | `whole` | a report through a buffer, flushed |

#![forbid(unsafe_code)]

#[cfg(feature = "profile")]
pub(crate) mod calls;
#[cfg(feature = "profile")]
pub(crate) mod dhat;
#[cfg(feature = "profile")]
mod diff;
#[cfg(feature = "pprof")]
mod dropped;
#[cfg(feature = "profile")]
mod facts;
#[cfg(feature = "flamegraph")]
pub(crate) mod flame;
#[cfg(feature = "profile")]
pub(crate) mod folded;
mod heat;
#[cfg(feature = "profile")]
pub(crate) mod html;
#[cfg(feature = "profile")]
pub(crate) mod json;
#[cfg(feature = "pprof")]
mod pprof;
mod prometheus;
#[cfg(feature = "pprof")]
mod protobuf;
#[cfg(feature = "profile")]
mod rows;
#[cfg(feature = "profile")]
mod shown;
#[cfg(feature = "profile")]
pub(crate) mod speedscope;
#[cfg(feature = "profile")]
mod standard;
mod stats;
mod table;
#[cfg(all(test, feature = "profile"))]
mod tests;
#[cfg(feature = "profile")]
pub(crate) mod top;
mod units;
#[cfg(feature = "profile")]
pub(crate) mod whole;

#[cfg(feature = "profile")]
pub use calls::Weight;
#[cfg(feature = "profile")]
pub use diff::Diff;
#[cfg(feature = "profile")]
pub use json::{Dump, DumpError};
pub use prometheus::Prometheus;
#[cfg(feature = "profile")]
pub use rows::{DiffRow, NamedFrame, TopRow};
pub use stats::{ClassStats, Memory, Requested, Stats};
#[cfg(feature = "profile")]
pub use top::Top;
