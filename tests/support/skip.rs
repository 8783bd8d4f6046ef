//! Tests that need what a machine may not have.

/// Says why a test does not look at what it is there for; then it passes. In CI it fails: the
/// variable `SPANALLOC_NO_SKIPS` is set there, to the names, with commas between, of what may be
/// missing. `what` is such a name.
#[track_caller]
pub(crate) fn skip(what: &str, why: &str) {
    if let Ok(allowed) = std::env::var("SPANALLOC_NO_SKIPS") {
        let is_allowed = allowed.split(',').any(|name| name == what);
        assert!(is_allowed, "{why}; SPANALLOC_NO_SKIPS does not name \"{what}\"");
    }
    eprintln!("skipped: {why}");
}
