//! Everything a dump knows, as JSON for machines and for later versions.
//!
//! `version` is raised when a field changes its meaning; new fields may come
//! without.

use std::io;

use serde::Serialize;

use super::stats::Stats;
use crate::profile::symbols::Symbols;
use crate::profile::{self, Profile};

/// Version of the format.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    format: &'static str,
    version: u32,
    stats: &'a Stats,
    profile: &'a Profile,
    symbols: Vec<Symbol<'a>>,
}

/// The names of a return address.
#[derive(Serialize)]
struct Symbol<'a> {
    address: u64,
    /// Inlined functions from the innermost outwards.
    functions: Vec<Function<'a>>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

/// Writes the document.
pub(crate) fn write(stats: &Stats, profile: &Profile, out: impl io::Write) -> io::Result<()> {
    profile::quietly(|| {
        let symbols = symbols(profile, profile.symbols());
        let document = Document { format: "spanalloc", version: VERSION, stats, profile, symbols };
        serde_json::to_writer(out, &document).map_err(io::Error::from)
    })
}

fn symbols<'a>(profile: &Profile, symbols: &'a Symbols) -> Vec<Symbol<'a>> {
    let mut addresses: Vec<u64> =
        profile.sites.iter().flat_map(|site| site.frames.iter().copied()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let functions = |address| {
        symbols.frames(address).iter().map(|frame| Function {
            name: &frame.function,
            file: frame.file.as_deref(),
            line: frame.line,
        })
    };
    addresses
        .into_iter()
        .map(|address| Symbol { address, functions: functions(address).collect() })
        .collect()
}
