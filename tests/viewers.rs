//! A headless Chromium opens our page, our pictures, and in speedscope and DHAT's viewer
//! our files: the expected functions are there, search and zoom work, by address and by
//! click and key. What is not installed is skipped, with a message: `chromium`, `valgrind`
//! and, after `npm ci --prefix tests/browser`, `node`.
#![cfg(feature = "flamegraph")]

#[allow(dead_code, reason = "each test uses a part")]
mod support;

use std::fs::File;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;

use spanalloc::SpanAlloc;
use spanalloc::profile;
use spanalloc::report::Weight;

use support::Scratch;
use support::skip::skip;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const OBJECTS: usize = 3000;

/// Its method's name, as one searches for it, is a regular expression of another meaning.
trait Copied {
    fn copied(&self) -> Vec<u8>;
}

impl Copied for [u8] {
    #[inline(never)]
    fn copied(&self) -> Vec<u8> {
        let mut copy = black_box(vec![1; self.len()]);
        copy.copy_from_slice(self);
        copy
    }
}

#[inline(never)]
fn few() -> Vec<Vec<u8>> {
    (0..OBJECTS / 10).map(|_| [1; 400][..].copied()).collect()
}

#[inline(never)]
fn many() -> Vec<Vec<u8>> {
    (0..OBJECTS).map(|_| black_box(vec![1; 400])).collect()
}

#[inline(never)]
fn both() -> [Vec<Vec<u8>>; 2] {
    drop(many());
    black_box([few(), many()])
}

/// Writes the page of a program that holds nothing any more; sizes are estimated.
fn write_freed(directory: &Path) {
    profile::reset();
    profile::start(4096).unwrap();
    for size in (1..=16).map(|sixteenths| sixteenths * 16) {
        drop((0..2 * OBJECTS).map(|_| black_box(vec![1_u8; size])).collect::<Vec<_>>());
    }
    let captured = profile::capture();
    profile::stop();
    let page = File::create(directory.join("freed.html")).unwrap();
    captured.write_html(&spanalloc::stats(), page).unwrap();
}

/// The first of the browsers that is installed.
fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = || std::env::split_paths(&path);
    let names = ["chromium", "chromium-browser", "google-chrome"].into_iter();
    let found = names.flat_map(|name| places().map(move |place| place.join(name)));
    let found = found.into_iter().find(|browser| browser.is_file());
    if found.is_none() {
        skip("chromium", "there is no chromium to open the page with");
    }
    found
}

/// The document after its scripts ran; none where there is no browser.
fn dom(directory: &Path, file: &str, fragment: &str) -> Option<String> {
    let browser = browser()?;
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
    let thread = std::thread::Builder::new().name("allocates".into()).spawn(both).unwrap();
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
    captured
        .write_speedscope(File::create(directory.join("app.speedscope.json")).unwrap())
        .unwrap();
    write_freed(directory);
    by_click_and_key(directory);
    let mut dhat = Vec::new();
    captured.write_dhat(&mut dhat).unwrap();
    in_dhats_viewer(directory, &String::from_utf8(dhat).unwrap());
    drop(held);
}

/// Has a script use the page, the picture and speedscope as a person would.
fn by_click_and_key(directory: &Path) {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let installed = scripts.join("node_modules/playwright-core").is_dir();
    if !installed || Command::new("node").arg("--version").output().is_err() {
        return skip("node", "no clicks and keys without `node`, `npm ci --prefix tests/browser`");
    }
    let Some(browser) = browser() else { return };
    let output = Command::new("node")
        .arg(scripts.join("viewers.mjs"))
        .args([&browser, directory])
        .args(["viewers::few", "viewers::both", "viewers::many"])
        .output()
        .unwrap();
    let (text, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}{error}");
    for viewer in ["page", "keys", "freed", "picture", "speedscope"] {
        assert!(text.contains(&format!("{viewer}: passed")), "{text}");
    }
}

/// Opens a profile in the viewer that valgrind brings.
fn in_dhats_viewer(directory: &Path, profile: &str) {
    let installed = ["/usr/libexec/valgrind", "/usr/lib/valgrind", "/usr/local/libexec/valgrind"];
    let script = installed.iter().map(|place| Path::new(place).join("dh_view.js"));
    let Some(script) = script.into_iter().find(|script| script.exists()) else {
        return skip("valgrind", "there is no valgrind with DHAT's viewer");
    };
    // The viewer reads a file that its user chooses; this does what follows.
    let page = format!(
        "<!doctype html><meta charset=utf-8><body><script type=application/json id=profile>{}\
         </script><script>{}</script><script>onLoad();gFilename='profile';\
         gData=JSON.parse(document.getElementById('profile').textContent);\
         buildTree();displayTree(0,0,0);</script></body>",
        profile.replace('<', "\\u003c"),
        std::fs::read_to_string(script).unwrap(),
    );
    std::fs::write(directory.join("dhat.html"), page).unwrap();
    let Some(viewer) = dom(directory, "dhat.html", "") else { return };
    let (_, tree) = viewer.split_once("displayTree(0,0,0)").expect("the script");
    assert!(tree.contains("viewers::many"), "{viewer}");
    assert!(tree.contains("1,320,000 bytes"), "{viewer}");
}
