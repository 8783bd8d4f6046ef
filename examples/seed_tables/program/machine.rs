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
    vec![
        ("date", command("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
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
    ]
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
