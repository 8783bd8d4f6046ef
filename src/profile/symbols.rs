//! From addresses to names: function, file and line, inlined frames included.
//!
//! Runs when a report is written, never while sampling. The modules' files are read
//! once per profile, one after the other and each in batches, so the memory held is
//! that of one batch's tables; names alone are kept, each once. A module without debug
//! information still has its symbol table; one without that yields `file+0xoffset`.
//! What a distribution stripped is read from where it puts it, if it is installed, by the
//! library that is preloaded to C programs.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::debug_info::{build_id, name_all};
use super::snapshot::{Module, Profile};

/// A function on a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Frame {
    /// Demangled, without the hash.
    pub(crate) function: Arc<str>,
    pub(crate) file: Option<Arc<str>>,
    pub(crate) line: Option<u32>,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.called(&self.function).fmt(f)
    }
}

impl Frame {
    /// The frame, displayed with another name for its function.
    pub(crate) fn called(&self, function: &str) -> impl fmt::Display {
        fmt::from_fn(move |f| {
            write_printable(f, function)?;
            let (Some(file), Some(line)) = (&self.file, self.line) else { return Ok(()) };
            f.write_str(" (")?;
            write_printable(f, file)?;
            write!(f, ":{line})")
        })
    }
}

/// Writes a text of a binary's, which may be anybody's: what would move a terminal's cursor or
/// end the line is escaped, as in `\n` and `\u{1b}`.
fn write_printable(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut rest = text;
    while let Some((at, control)) = rest.char_indices().find(|(_, char)| char.is_control()) {
        write!(f, "{}{}", &rest[..at], control.escape_default())?;
        rest = &rest[at + control.len_utf8()..];
    }
    f.write_str(rest)
}

/// The names of a profile's addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Symbols {
    /// By return address; inlined frames from the innermost outwards.
    frames: HashMap<u64, Box<[Arc<Frame>]>>,
}

/// Frames and their texts, each distinct one once.
#[derive(Default)]
pub(crate) struct Interner {
    frames: HashSet<Arc<Frame>>,
    texts: HashSet<Arc<str>>,
}

impl Interner {
    pub(crate) fn frame(
        &mut self,
        function: &str,
        file: Option<&str>,
        line: Option<u32>,
    ) -> Arc<Frame> {
        let function = self.text(function);
        let frame = Frame { function, file: file.map(|file| self.text(file)), line };
        if let Some(known) = self.frames.get(&frame) {
            return known.clone();
        }
        let frame = Arc::new(frame);
        self.frames.insert(frame.clone());
        frame
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let text = Arc::<str>::from(text);
        self.texts.insert(text.clone());
        text
    }
}

thread_local! {
    /// Whether files are left alone.
    static READS_NOTHING: Cell<bool> = const { Cell::new(false) };
}

/// Has addresses be named by their modules alone in what `work` writes on this thread: the process
/// has no memory for more.
pub(crate) fn without_files<R>(work: impl FnOnce() -> R) -> R {
    struct Reads;
    impl Drop for Reads {
        fn drop(&mut self) {
            READS_NOTHING.set(false);
        }
    }
    READS_NOTHING.set(true);
    let _again = Reads;
    work()
}

impl Symbols {
    /// The frames at a return address, innermost first; empty for an address
    /// that is not in the profile.
    pub(crate) fn frames(&self, address: u64) -> &[Arc<Frame>] {
        self.frames.get(&address).map_or(&[], AsRef::as_ref)
    }

    /// Names that were resolved before.
    pub(crate) fn known(frames: HashMap<u64, Box<[Arc<Frame>]>>) -> Self {
        Self { frames }
    }

    pub(crate) fn resolve(profile: &Profile) -> Self {
        let addresses = profile.addresses();
        let mut modules: Vec<&Module> = profile.modules.iter().collect();
        modules.sort_unstable_by_key(|module| module.start);
        let mut resolver =
            Resolver { here: profile.process == std::process::id(), ..Resolver::default() };
        let mut rest = addresses.as_slice();
        for module in modules {
            let (outside, from_start) = rest.split_at(rest.partition_point(|a| *a <= module.start));
            let (inside, after) =
                from_start.split_at(from_start.partition_point(|a| *a <= module.end));
            outside.iter().for_each(|address| resolver.unknown(*address, None));
            if !inside.is_empty() {
                resolver.module(module, inside);
            }
            rest = after;
        }
        rest.iter().for_each(|address| resolver.unknown(*address, None));
        Self { frames: resolver.frames }
    }
}

#[derive(Default)]
struct Resolver {
    /// The profile is of this process.
    here: bool,
    frames: HashMap<u64, Box<[Arc<Frame>]>>,
    interner: Interner,
}

impl Resolver {
    /// Return addresses in `addresses` lie in `module`.
    fn module(&mut self, module: &Module, addresses: &[u64]) {
        // A distribution's files are compressed, and unpacking the C library's takes 24 MiB:
        // for a Rust program, of which it is a frame or two, that is too much.
        let reads = !READS_NOTHING.get();
        let debug = (reads && cfg!(feature = "preload"))
            .then(|| debug_file(Path::new(DEBUG_FILES), &module.build_id))
            .flatten();
        // The call is the instruction before the one it returns to.
        let offset = module.bias.wrapping_add(1);
        let probes: Vec<u64> =
            addresses.iter().map(|address| address.wrapping_sub(offset)).collect();
        let here = self.here;
        let (frames, interner) = (&mut self.frames, &mut self.interner);
        let file = debug.as_deref().or_else(|| file_of(module, here));
        if let Some(file) = file.filter(|_| reads) {
            name_all(file, &probes, interner, |probe, named| {
                if !named.is_empty() {
                    frames.insert(probe.wrapping_add(offset), named.into());
                }
            });
        }
        for address in addresses {
            if !self.frames.contains_key(address) {
                self.unknown(*address, Some(module));
            }
        }
    }

    fn unknown(&mut self, address: u64, module: Option<&Module>) {
        let placeholder = module.and_then(|module| module.placeholder(address));
        let function = placeholder.unwrap_or_else(|| format!("{:#x}", address - 1));
        self.frames.insert(address, [self.interner.frame(&function, None, None)].into());
    }
}

impl Module {
    /// What stands for the name of the function at a return address inside; none where the
    /// module's path has no file's name.
    fn placeholder(&self, address: u64) -> Option<String> {
        let name = self.path.file_name()?.to_string_lossy();
        Some(format!("{name}+{:#x}", (address - 1).wrapping_sub(self.bias)))
    }

    /// Whether a frame inside has no name but what stands for it.
    #[cfg(feature = "pprof")]
    pub(crate) fn is_placeholder(&self, frame: &Frame) -> bool {
        let name = self.path.file_name().map(|name| name.to_string_lossy());
        let rest = name.and_then(|name| frame.function.strip_prefix(&*name)?.strip_prefix("+0x"));
        frame.file.is_none() && rest.is_some()
    }
}

pub(super) fn demangled(symbol: &str) -> String {
    #[cfg(feature = "preload")]
    if let Some(name) = demangled_cpp(symbol) {
        return name;
    }
    // The alternate form leaves out the hash.
    format!("{:#}", rustc_demangle::demangle(symbol))
}

/// The name of a C++ function, without its parameters and its result.
#[cfg(feature = "preload")]
fn demangled_cpp(symbol: &str) -> Option<String> {
    if !symbol.starts_with("_Z") || rustc_demangle::try_demangle(symbol).is_ok() {
        return None;
    }
    let options = cpp_demangle::DemangleOptions::new().no_return_type().no_params();
    cpp_demangle::Symbol::new(symbol).ok()?.demangle_with_options(&options).ok()
}

/// Where distributions put the debug information that they strip, by build-id.
const DEBUG_FILES: &str = "/usr/lib/debug/.build-id";

/// The file below `root` with the debug information of what has this build-id, if it is
/// there.
fn debug_file(root: &Path, build_id: &str) -> Option<PathBuf> {
    let (directory, name) = build_id.split_at_checked(2)?;
    let file = root.join(directory).join(format!("{name}.debug"));
    file.exists().then_some(file)
}

/// The file to read for `module`, which is one of this process or not; none if it is there no
/// more. A path may by now name another file, as after a new build, an upgrade, or where another
/// library was opened at the same place; of the program that runs the kernel still has its file.
fn file_of(module: &Module, here: bool) -> Option<&Path> {
    const RUNNING: &str = "/proc/self/exe";
    let running = (here && module.main).then(|| Path::new(RUNNING));
    let is_it = |path: &&Path| module.build_id.is_empty() || build_id(path) == module.build_id;
    running.into_iter().chain([&*module.path]).find(is_it)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn demangles_without_the_hash() {
        assert_eq!(
            demangled("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"),
            "core::fmt::Write::write_fmt"
        );
        assert_eq!(demangled("_RNvCs1234_7mycrate3foo"), "mycrate::foo");
        assert_eq!(demangled("malloc"), "malloc");
    }

    #[cfg(feature = "preload")]
    #[test]
    fn demangles_cpp_without_parameters() {
        assert_eq!(demangled("_ZN3app5TableIlE4growEi"), "app::Table<long>::grow");
        assert_eq!(demangled("_Znwm"), "operator new");
        assert_eq!(demangled("_Zsomething"), "_Zsomething");
    }

    #[test]
    fn debug_information_is_found_by_build_id() {
        let root = std::env::temp_dir().join(format!("spanalloc-debug-{}", std::process::id()));
        fs::create_dir_all(root.join("ab")).unwrap();
        fs::write(root.join("ab/cdef.debug"), "").unwrap();
        assert_eq!(debug_file(&root, "abcdef"), Some(root.join("ab/cdef.debug")));
        assert_eq!(debug_file(&root, "abcd"), None);
        assert_eq!(debug_file(&root, ""), None);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_file_names_only_what_it_was_loaded_from() {
        let mut main = crate::profile::capture().modules.into_iter().find(|m| m.main).unwrap();
        assert!(!main.build_id.is_empty());
        assert_eq!(file_of(&main, true), Some(Path::new("/proc/self/exe")));
        let path = main.path.clone();
        assert_eq!(file_of(&main, false), Some(&*path));
        main.build_id = "00".into();
        assert_eq!((file_of(&main, true), file_of(&main, false)), (None, None));
        main.build_id.clear();
        assert_eq!(file_of(&main, false), Some(&*path));
    }

    #[test]
    fn an_address_in_no_module_keeps_its_number() {
        let mut resolver = Resolver::default();
        resolver.unknown(0x1001, None);
        assert_eq!(&*resolver.frames[&0x1001][0].function, "0x1000");
    }

    #[test]
    fn names_this_function_with_file_and_line() {
        let walker = crate::profile::stack::Walker::new();
        walker.unwinders.load();
        let mut walked = crate::profile::frames::Frames::new();
        let line = line!() + 1;
        walker.walk(0, &mut walked);
        let frames = walked.to_vec();
        let mut profile = crate::profile::capture();
        profile.sites = vec![crate::profile::Site { frames: frames.clone(), ..Default::default() }];
        let symbols = Symbols::resolve(&profile);
        let leaf = &symbols.frames(frames[0])[0];
        assert!(leaf.function.ends_with("names_this_function_with_file_and_line"), "{leaf:?}");
        assert!(leaf.file.as_ref().is_some_and(|file| file.ends_with("symbols.rs")));
        assert_eq!(leaf.line, Some(line));
    }

    // Two functions without debug information, one right behind the other.
    core::arch::global_asm!(
        ".pushsection .text.spanalloc_test_adjacent, \"ax\", %progbits",
        ".globl spanalloc_test_before, spanalloc_test_behind",
        ".type spanalloc_test_before, %function",
        "spanalloc_test_before: ret",
        ".size spanalloc_test_before, . - spanalloc_test_before",
        ".type spanalloc_test_behind, %function",
        "spanalloc_test_behind: ret",
        ".size spanalloc_test_behind, . - spanalloc_test_behind",
        ".popsection",
    );

    #[test]
    fn a_call_that_ends_a_function_is_not_of_the_one_behind() {
        unsafe extern "C" {
            fn spanalloc_test_before();
            fn spanalloc_test_behind();
        }
        let (before, behind) =
            (spanalloc_test_before as *const (), spanalloc_test_behind as *const ());
        let (before, behind) = (before.addr() as u64, behind.addr() as u64);
        let mut profile = crate::profile::capture();
        let frames = vec![before + 1, behind, behind + 1];
        profile.sites = vec![crate::profile::Site { frames, ..Default::default() }];
        let symbols = Symbols::resolve(&profile);
        let name = |address| match symbols.frames(address) {
            [frame] => (&*frame.function, frame.file.as_deref(), frame.line),
            other => panic!("{other:?}"),
        };
        assert_eq!(name(before + 1), ("spanalloc_test_before", None, None));
        assert_eq!(name(behind), ("spanalloc_test_before", None, None));
        assert_eq!(name(behind + 1), ("spanalloc_test_behind", None, None));
    }

    #[test]
    fn a_module_begins_and_ends_with_its_calls() {
        let module = |path: &str, bias, start, end| Module {
            path: path.into(),
            bias,
            start,
            end,
            file_offset: 0,
            build_id: String::new(),
            main: false,
        };
        let expected = [
            (0xfff, "0xffe"),
            (0x1000, "0xfff"),
            (0x1001, "a+0x800"),
            (0x2000, "a+0x17ff"),
            (0x2001, "b+0x0"),
            (0x3000, "b+0xfff"),
            (0x3001, "0x3000"),
            (0x5000, "0x4fff"),
            (0x5001, "c+0x1"),
            (0x6000, "c+0x1000"),
            (0x6001, "0x6000"),
        ];
        let frames: Vec<u64> = expected.iter().map(|(address, _)| *address).collect();
        let mut profile = Profile::of_sites(&[(&frames, 3, 3)]);
        // The loader's order is any, and none of these files is there.
        profile.modules = vec![
            module("/nowhere/c", 0x5000 - 1, 0x5000, 0x6000),
            module("/nowhere/a", 0x800, 0x1000, 0x2000),
            module("/nowhere/b", 0x2000, 0x2000, 0x3000),
        ];
        let symbols = Symbols::resolve(&profile);
        for (address, name) in expected {
            let names: Vec<&str> =
                symbols.frames(address).iter().map(|frame| &*frame.function).collect();
            assert_eq!(names, [name], "{address:#x}");
        }
    }
}
