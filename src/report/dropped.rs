//! What `go tool pprof` is asked to leave out of profiles that it names itself: the allocator's own
//! functions, as reports here leave them out.

/// Functions at the leaf that a reader is asked to leave out once it has names.
/// What else is in `global` and `preload` may run the program's: a measurement, a listener, a
/// library that is opened.
pub(super) const DROPPED: &str = "<?spanalloc::(base|heap|profile|sys)::.*|\
    <?spanalloc::global::(alloc|by_pointer|sampling|slow)::.*|<?spanalloc::SpanAlloc.*|\
    <?spanalloc::preload::(c|cpp|glibc|next|own|rules)::.*|\
    (__libc_)?((c|m|re|v|pv)alloc|reallocarray|(posix_)?memalign|aligned_alloc|free)|\
    operator new(\\[\\])?|_Zn[aw]m.*|\
    (__rustc(\\[.*\\])?::)?__r(ust|dl|g)_(alloc|realloc).*";

#[cfg(test)]
#[path = "../../tests/support/skip.rs"]
mod skip;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::pprof::{encoded, gzip};
    use super::*;
    use crate::profile::Profile;
    use crate::profile::symbols::{Frame, Symbols};

    /// What the reader makes of a stack of these functions, leaf first, if there is one.
    fn top(names: &[&str]) -> Option<String> {
        if std::process::Command::new("go").arg("version").output().is_err() {
            skip::skip("go", "there is no `go` to run `go tool pprof` with");
            return None;
        }
        let frames: Vec<u64> = (1..=names.len() as u64).collect();
        let mut profile = Profile::of_sites(&[(&frames, 30, 30)]);
        let frame = |name: &str| Arc::new(Frame { function: name.into(), file: None, line: None });
        let known =
            names.iter().enumerate().map(|(at, name)| (at as u64 + 1, [frame(name)].into()));
        profile.symbols = std::sync::OnceLock::from(Symbols::known(known.collect()));
        let thread = std::thread::current().id();
        let name = format!("dropped-{}-{thread:?}.pb.gz", std::process::id());
        let path = std::env::temp_dir().join(name);
        gzip(&encoded(&profile, true, true), std::fs::File::create(&path).unwrap()).unwrap();
        let mut go = std::process::Command::new("go");
        let top = go.args(["tool", "pprof", "-top"]).arg(&path).output().unwrap();
        std::fs::remove_file(path).unwrap();
        Some(String::from_utf8(top.stdout).unwrap())
    }

    /// What the reader finds in a binary, and does with it.
    #[test]
    fn what_runs_inside_a_measurement_is_not_asked_to_be_left_out() {
        let names = ["app::work", "spanalloc::global::measure::Meter::count", "app::main"];
        let Some(top) = top(&names) else { return };
        assert!(names.iter().all(|name| top.contains(name)), "{top}");
    }

    /// What the reader leaves out of a program that runs on the allocator by preload, and what of
    /// that library may run the program's.
    #[test]
    fn what_a_preloaded_library_runs_is_asked_to_be_left_out() {
        let leaves: [&[&str]; 5] = [
            &["spanalloc::preload::rules::allocate", "malloc"],
            &["by_pointer", "operator new(unsigned long)"],
            &["otherwise", "operator new[](unsigned long, std::nothrow_t const&)"],
            &["spanalloc::preload::own::pvalloc", "__libc_pvalloc"],
            &["spanalloc::preload::rules::allocate_aligned", "posix_memalign"],
        ];
        let kept = ["init", "spanalloc::preload::hooks::open", "malloc_all", "main"];
        for leaf in leaves {
            let Some(top) = top(&[leaf, &kept].concat()) else { return };
            assert!(kept.iter().all(|name| top.contains(name)), "{top}");
            let left = leaf.iter().filter(|name| top.contains(&format!("{name}\n")));
            assert_eq!(left.count(), 0, "{top}");
        }
    }
}
