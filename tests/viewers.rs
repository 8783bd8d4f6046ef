//! A headless Chromium opens our page and our pictures: the expected functions are
//! there, search and zoom work. Skipped, with a message, where it is not installed.
#![cfg(feature = "flamegraph")]

#[allow(dead_code, reason = "each test uses a part")]
mod support;

use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use spanalloc::SpanAlloc;
use spanalloc::profile;
use spanalloc::report::Weight;

use support::Scratch;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const OBJECTS: usize = 3000;

#[inline(never)]
fn few() -> Vec<Vec<u8>> {
    (0..OBJECTS / 10).map(|_| black_box(vec![1; 400])).collect()
}

#[inline(never)]
fn many() -> Vec<Vec<u8>> {
    (0..OBJECTS).map(|_| black_box(vec![1; 400])).collect()
}

/// The document after its scripts ran; none where there is no browser.
fn dom(directory: &Path, file: &str, fragment: &str) -> Option<String> {
    let browser = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok());
    let Some(browser) = browser else {
        eprintln!("skipped: there is no chromium to open the page with");
        return None;
    };
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .arg(format!("--user-data-dir={}", directory.join("browser").display()))
        // Every request to a network fails.
        .arg("--host-resolver-rules=MAP * ~NOTFOUND")
        .args(["--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("file://{}#{fragment}", directory.join(file).display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The texts of the frames that the page shows, with their classes.
fn frames(dom: &str) -> Vec<(&str, &str)> {
    let frame = |piece| {
        let (class, rest): (&str, &str) = str::split_once(piece, '"')?;
        let (_, rest) = rest.split_once("title=\"")?;
        Some((class, rest.split_once('"')?.0))
    };
    dom.split("<div class=\"frame").skip(1).filter_map(frame).collect()
}

#[test]
fn the_page_and_the_pictures_work_in_a_browser() {
    let scratch = Scratch::new("viewers");
    let directory = &scratch.0;

    profile::start(1).unwrap();
    let work = || {
        drop(many());
        (few(), many())
    };
    let thread = std::thread::Builder::new().name("allocates".into()).spawn(work).unwrap();
    let held = thread.join().unwrap();
    let (stats, captured) = (spanalloc::stats(), profile::capture());
    profile::stop();
    let page = File::create(directory.join("app.html")).unwrap();
    captured.write_html(&stats, page).unwrap();

    let Some(whole) = dom(directory, "app.html", "") else { return };
    let shown = frames(&whole);
    for function in ["viewers::few", "viewers::many"] {
        assert!(shown.iter().any(|(_, text)| text.starts_with(&format!("{function}:"))), "{whole}");
    }
    assert!(!shown.iter().any(|(_, text)| text.contains("spanalloc::")));
    // Peak and lifetimes, the thread's name, the largest site with its error.
    for text in ["Bytes in use at the peak", "allocates", "exact", "&lt;4.0 µs", "size classes"] {
        let lower = whole.to_lowercase();
        assert!(lower.contains(&text.to_lowercase()), "no {text} in {whole}");
    }

    let searched = dom(directory, "app.html", "search=viewers::few").unwrap();
    let (hits, others): (Vec<_>, Vec<_>) =
        frames(&searched).into_iter().partition(|(class, _)| class.contains("match"));
    assert!(!hits.is_empty() && hits.iter().all(|(_, text)| text.contains("viewers::few")));
    assert!(others.iter().any(|(_, text)| text.contains("viewers::many")));
    assert!(searched.contains("found in "), "{searched}");

    let zoomed = dom(directory, "app.html", "zoom=viewers::many&type=alloc_space").unwrap();
    assert!(frames(&zoomed).iter().any(|(_, text)| text.starts_with("viewers::many:")));
    assert!(!frames(&zoomed).iter().any(|(_, text)| text.starts_with("viewers::few:")));

    let picture = File::create(directory.join("app.svg")).unwrap();
    captured.write_flamegraph(Weight::InUseBytes, picture).unwrap();
    let picture = dom(directory, "app.svg", "").unwrap();
    assert!(picture.contains("viewers::many") && picture.contains("viewers::few"));
    drop(held);
}
