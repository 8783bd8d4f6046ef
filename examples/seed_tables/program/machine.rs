//! The machine, the build and the time that a report belongs to. Names no host.

use std::fs;
use std::process::Command;

/// Facts for the report's head: what, and its value.
pub(crate) fn facts() -> Vec<(&'static str, String)> {
    let features = [
        ("profile", cfg!(feature = "profile")),
        ("flamegraph", cfg!(feature = "flamegraph")),
        ("collections", cfg!(feature = "collections")),
    ];
    let features: Vec<_> = features.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let counters = super::perf::CacheMisses::open().map_or_else(
        |error| format!("not available: {error}"),
        |_| String::from("perf_event_open"),
    );
    let mut facts = vec![
        ("date", command("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("load", text("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(", ")),
        ("processor", format!("{processors} × {}", processor())),
        ("kernel", release(&text("/proc/sys/kernel/osrelease"))),
        ("architecture", std::env::consts::ARCH.to_owned()),
        ("huge pages", text("/sys/kernel/mm/transparent_hugepage/enabled").trim().to_owned()),
        ("compiler", command("rustc", &["--version"])),
        ("build", if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned()),
        ("features", features.join(", ")),
        ("allocators", format!("spanalloc {}; the system's", env!("CARGO_PKG_VERSION"))),
        ("clock", spanalloc::observe::Timer::calibrate().to_string()),
        ("hardware counters", counters),
    ];
    facts.extend(revision().map(|revision| ("revision", revision)));
    facts.sort_by_key(|(name, _)| !matches!(*name, "date" | "revision"));
    facts
}

/// The commit that the sources are of, and whether they differ from it; `None` where the project is
/// not at the top of a repository, as in a package, or git is missing.
fn revision() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(["-C", env!("CARGO_MANIFEST_DIR")])
            .args(arguments)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let at_top = git(&["rev-parse", "--show-prefix"])?.is_empty();
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).filter(|_| at_top)?;
    // The report itself may be on its way.
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", ":!benches/seed"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit}, with changes since") })
}

fn processor() -> String {
    let info = text("/proc/cpuinfo");
    let named = |name: &str| info.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    let line = named("model name").or_else(|| named("CPU part")).unwrap_or_default();
    line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|_| String::from("unknown"))
}

fn command(name: &str, arguments: &[&str]) -> String {
    match Command::new(name).args(arguments).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(_) => String::from("unknown"),
    }
}

/// The kernel's version without what its builder appended.
fn release(text: &str) -> String {
    text.trim().split('-').next().unwrap_or_default().to_owned()
}
