//! What several tests of written files need.

use std::fs;
use std::path::{Path, PathBuf};
#[cfg(feature = "pprof")]
use std::process::Command;

#[allow(dead_code, reason = "each test uses a part")]
pub(crate) mod forked;
#[allow(dead_code, reason = "each test uses a part")]
pub(crate) mod skip;

/// A directory of one test, removed at its end.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn prefix(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Panics unless every tag that opens closes in turn.
#[cfg(feature = "flamegraph")]
pub(crate) fn check_tags(svg: &str) {
    let mut open = Vec::new();
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        rest = &rest[start..];
        let skipped = [("<![CDATA[", "]]>"), ("<!--", "-->"), ("<?", "?>"), ("<!", ">")];
        let end = match skipped.iter().find(|(begin, _)| rest.starts_with(begin)) {
            Some((_, end)) => rest.find(end).expect("an end") + end.len(),
            None => {
                let end = rest.find('>').expect("an end of the tag") + 1;
                let tag = &rest[1..end - 1];
                if let Some(name) = tag.strip_prefix('/') {
                    assert_eq!(open.pop(), Some(name), "closes what is not open");
                } else if !tag.ends_with('/') {
                    open.push(tag.split_whitespace().next().expect("a name"));
                }
                end
            }
        };
        rest = &rest[end..];
    }
    assert!(open.is_empty(), "left open: {open:?}");
    assert!(svg.trim_end().ends_with("</svg>"));
}

/// What `go tool pprof` prints; none where it is missing.
#[cfg(feature = "pprof")]
#[allow(dead_code, reason = "two tests run it")]
pub(crate) fn pprof(arguments: &[&str], file: &Path) -> Option<String> {
    let missing = Command::new("go").arg("version").output().is_err();
    if missing {
        skip::skip("go", "there is no `go` to run `go tool pprof` with");
        return None;
    }
    let output = Command::new("go")
        .args(["tool", "pprof"])
        .args(arguments)
        .arg(file)
        .env("PPROF_TMPDIR", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}
