//! `examples/seed_tables` runs, and its report is whole: a short run of three fast experiments is
//! taken apart, and opened in a browser where there is one.

#![cfg(all(feature = "collections", feature = "profile"))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

#[path = "support/skip.rs"]
mod skip;

use spanalloc::map::Map;
use spanalloc::pool::{Keep, Pool};

/// The experiments run: one with bars, one with lines, one of counts only.
const EXPERIMENTS: [&str; 3] = ["E15", "E5", "E21"];

/// The example's program, built with what this test was built with. `cargo test` has built it, but
/// not where it was told to run this test only.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let features =
        if cfg!(feature = "flamegraph") { "collections,flamegraph" } else { "collections,profile" };
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--examples", "--profile", profile])
        .args(["--no-default-features", "--features", features])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.is_ok_and(|status| status.success()), "cargo could not build the examples");
    folder.join("examples").join("seed_tables")
});

fn run(arguments: &[&str]) -> Output {
    // Without cargo at hand it does not build its sibling, which is there.
    Command::new(&*PROGRAM).args(arguments).env_remove("CARGO").output().unwrap()
}

/// The report of a short run, in a file of this name.
fn report(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut arguments = vec!["--quick", "--out", path.to_str().unwrap()];
    arguments.extend(EXPERIMENTS);
    let output = run(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = fs::read_to_string(&path).unwrap();
    (path, page)
}

/// What lies between the first `start` and the next `end`.
fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    let rest = &text[text.find(start)? + start.len()..];
    rest.find(end).map(|end| &rest[..end])
}

#[test]
fn a_report_has_a_table_a_plot_and_a_verdict_for_each_experiment() {
    let (_, page) = report("structure.html");
    assert_eq!(page.matches("class=\"experiment\"").count(), EXPERIMENTS.len());
    for id in EXPERIMENTS {
        let start = format!("<section id=\"{id}\"");
        let section = between(&page, &start, "</section>").unwrap_or_else(|| panic!("no {id}"));
        for part in
            ["<svg", "class=\"readings\"", "<dt>verdict</dt>", "<dt>article</dt>", "<dt>why</dt>"]
        {
            assert!(section.contains(part), "{id} without {part}");
        }
        assert!(section.contains(">system<") && section.contains(">spanalloc<"), "{id}: one only");
    }
    for fact in ["date", "processor", "kernel", "features", "allocators"] {
        let value = between(&page, &format!("<dt>{fact}</dt><dd>"), "</dd>").unwrap();
        assert!(!value.is_empty() && value != "unknown", "{fact} is {value:?}");
    }
    // A package has no repository.
    if Path::new(env!("CARGO_MANIFEST_DIR")).join(".git").exists() {
        let value = between(&page, "<dt>revision</dt><dd>", "</dd>").unwrap();
        assert!(value.len() >= 12, "revision is {value:?}");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "the report refers to something outside: {outside}");
    }
    for open in ["section", "table", "svg", "details", "dl"] {
        let count = |tag: String| page.matches(&tag).count();
        assert_eq!(
            count(format!("<{open}>")) + count(format!("<{open} ")),
            count(format!("</{open}>")),
            "{open}"
        );
    }
}

/// What is arithmetic is refuted, what is about Go holds here or not, part by part; without a
/// result in an article things are as expected. A row says what its experiment does.
#[test]
fn verdicts_say_what_a_claim_is_about() {
    let (_, page) = report("verdicts.html");
    for (id, row, verdict) in [
        ("E15", "R4", "<strong class=\"fails\">refuted</strong>"),
        ("E5", "P3", "<strong class=\"partly\">holds here in part</strong>"),
        ("E21", "O5", "<strong class=\"holds\">as expected</strong>"),
    ] {
        let start = format!("<section id=\"{id}\"");
        let section = between(&page, &start, "</section>").unwrap();
        assert!(section.contains(verdict), "{id} is not {verdict}: {section}");
        let row = between(&page, &format!("<tr><td>{row}</td>"), "</tr>").unwrap();
        assert!(row.contains(verdict), "not {verdict}: {row}");
    }
    let section = between(&page, "<section id=\"E5\"", "</section>").unwrap();
    assert!(section.contains("Allocations: yes; types kept apart: no."), "{section}");
}

#[test]
fn every_row_is_settled_and_the_tests_named_exist() {
    let (_, page) = report("rows.html");
    let rows = between(&page, "class=\"rows\"", "</table>").unwrap();
    let families = [("A", 10), ("M", 20), ("V", 5), ("P", 11), ("R", 5), ("O", 8)];
    for (family, count) in families {
        for number in 1..=count {
            let row = between(rows, &format!("<tr><td>{family}{number}</td>"), "</tr>");
            let row = row.unwrap_or_else(|| panic!("no row {family}{number}"));
            assert!(!row.contains("<td></td><td></td>"), "{family}{number} is not settled: {row}");
        }
    }
    let mut named = 0;
    for code in rows.split("<code>").skip(1) {
        let (file, test) = code.split("</code>").next().unwrap().split_once("::").unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let source = fs::read_to_string(&source).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(source.contains(&format!("fn {test}()")), "{file} has no test {test}");
        named += 1;
    }
    assert!(named >= 20, "{named} tests are named");
}

/// The page as a browser has it after loading, and what the browser wrote on its console about it.
/// None where there is no browser.
fn browse(page: &Path) -> Option<(String, Vec<String>)> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser-profile");
    let open = |name| {
        Command::new(name)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
            // Without it nothing of the console is written anywhere.
            .arg("--enable-logging=stderr")
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("file://{}", page.display()))
            .output()
            .ok()
    };
    let Some(output) = names.into_iter().find_map(open) else {
        skip::skip("chromium", &format!("none of {} is installed", names.join(", ")));
        return None;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let console = said.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned);
    Some((String::from_utf8_lossy(&output.stdout).into_owned(), console.collect()))
}

/// The report of a short run, and the one that is committed.
#[test]
fn a_browser_opens_the_reports() {
    let bad = Path::new(env!("CARGO_TARGET_TMPDIR")).join("complaint.html");
    fs::write(&bad, "<!DOCTYPE html><script>nowhere()</script>").unwrap();
    let Some((_, console)) = browse(&bad) else { return };
    assert_eq!(console.len(), 1, "a page with a mistake makes the browser complain: {console:?}");

    let (short, _) = report("browser.html");
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/seed/report.html");
    let pages = [(short, EXPERIMENTS.len()), (committed, 30)];
    // The crate's package has no benchmarks.
    for (page, experiments) in pages.into_iter().filter(|(page, _)| page.exists()) {
        let Some((dom, console)) = browse(&page) else { return };
        let page = page.display();
        assert_eq!(dom.matches("class=\"experiment\"").count(), experiments, "{page}");
        assert!(dom.matches("<svg").count() >= experiments, "{page}");
        assert_eq!(console, [""; 0], "{page} made the browser complain");
    }
}

#[test]
fn what_is_not_understood_is_named() {
    for (arguments, part) in [
        (&["E99"][..], "unknown argument \"E99\""),
        (&["--out"], "--out needs"),
        (&["--worker", "E1"], "--worker needs"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(part), "{said}");
    }
}

/// P8: a cursor from a pool goes back when its guard goes, is used again, and notices what happened
/// to the map in between.
#[test]
fn a_pooled_cursor_is_used_again() {
    let mut map: Map<u64, u64> = (0..100).map(|key| (key, key)).collect();
    let pool = Pool::new(|| Keep(None));
    let walk = |map: &Map<u64, u64>| {
        let mut pooled = pool.get();
        let cursor = pooled.insert(map.cursor());
        let mut keys = 0;
        while cursor.next(map).is_some() {
            keys += 1;
        }
        keys
    };
    assert_eq!(walk(&map), 100);
    map.extend((100..300).map(|key| (key, key)));
    assert_eq!(walk(&map), 300);
    let stale = pool.get().as_ref().map(|cursor| cursor.generation());
    map.extend((300..3000).map(|key| (key, key)));
    assert!(stale.is_some_and(|generation| generation < map.generation()));
    let stats = pool.stats();
    assert_eq!((stats.new, stats.reused()), (1, 2));
}
