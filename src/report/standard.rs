//! Which functions are the standard library's, for reports that look for the program's own.
//!
//! The source file tells, where debug information names one: a function of `core` for a type of
//! the program's is still that of `core`, and a closure of the program's in a call of `core` is
//! the program's. Elsewhere the name has to do.

use crate::profile::symbols::Frame;

/// Whether a frame is the standard library's.
pub(super) fn is_standard(frame: &Frame) -> bool {
    match &frame.file {
        Some(file) => is_its_file(file),
        None => is_its_name(&frame.function),
    }
}

fn is_its_file(file: &str) -> bool {
    file.starts_with("/rustc/")
        || file.starts_with("/rust/deps/")
        || file.contains("/rustlib/src/rust/library/")
}

/// By name: of a path of its own, of a type of its own or without a path, or of a trait of its own
/// for such a type.
fn is_its_name(function: &str) -> bool {
    match implementation(function) {
        None => is_its_path(function),
        Some((of, None)) => is_its_type(of),
        Some((of, Some(name))) => is_its_type(of) && is_its_name(name),
    }
}

fn is_its_path(path: &str) -> bool {
    const CRATES: [&str; 4] = ["alloc::", "core::", "hashbrown::", "std::"];
    CRATES.iter().any(|krate| path.starts_with(krate))
}

fn is_its_type(of: &str) -> bool {
    let mut of = of;
    while let Some(rest) = ["&", "*", "[", "(", "mut ", "const ", "dyn "]
        .into_iter()
        .find_map(|sign| of.strip_prefix(sign))
    {
        of = rest;
    }
    !of.contains("::") || is_its_path(of)
}

/// The type and the trait of `<type as trait>::…`, or the type of `<type>::…`.
fn implementation(function: &str) -> Option<(&str, Option<&str>)> {
    let inside = function.strip_prefix('<')?;
    let (mut depth, mut name) = (0, None);
    for (at, sign) in inside.bytes().enumerate() {
        match sign {
            b'<' => depth += 1,
            // That of `fn() -> T`.
            b'>' if inside[..at].ends_with('-') => {}
            b'>' if depth == 0 => {
                return Some(match name {
                    Some(name) => (&inside[..name], Some(&inside[name + " as ".len()..at])),
                    None => (&inside[..at], None),
                });
            }
            b'>' => depth -= 1,
            b' ' if depth == 0 && name.is_none() && inside[at..].starts_with(" as ") => {
                name = Some(at);
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, file: Option<&str>) -> Frame {
        Frame { function: function.into(), file: file.map(Into::into), line: file.map(|_| 1) }
    }

    #[test]
    fn the_file_tells_whatever_the_name() {
        let library = "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/alloc/src/slice.rs";
        for name in ["<app::T as app::Trait>::f", "main", "alloc::vec::from_elem"] {
            assert!(is_standard(&frame(name, Some(library))), "{name}");
            assert!(!is_standard(&frame(name, Some("src/main.rs"))), "{name}");
        }
        let source = "/home/u/.rustup/toolchains/x/lib/rustlib/src/rust/library/core/src/a.rs";
        for file in [source, "/rust/deps/hashbrown-0.15.4/src/raw/mod.rs"] {
            assert!(is_standard(&frame("f", Some(file))), "{file}");
        }
        let registry = "/home/u/.cargo/registry/src/index/hashbrown-0.15.4/src/raw/mod.rs";
        assert!(!is_standard(&frame("hashbrown::raw::f", Some(registry))));
    }

    #[test]
    fn without_a_file_the_name_tells() {
        for library in [
            "alloc::vec::from_elem",
            "<u8 as alloc::vec::SpecFromElem>::from_elem",
            "<u8 as <[_]>::to_vec_in::ConvertVec>::to_vec::<alloc::alloc::Global>",
            "<[_]>::to_vec_in",
            "<alloc::vec::Vec<app::T>>::push",
            "<alloc::vec::Vec<app::T> as core::iter::Extend<app::T>>::extend",
            "<&mut core::fmt::Formatter as core::fmt::Write>::write_str",
            "<dyn core::any::Any>::is",
            "<fn() -> u8 as core::ops::function::FnOnce<()>>::call_once",
            "hashbrown::raw::RawTable<T,A>::reserve",
        ] {
            assert!(is_standard(&frame(library, None)), "{library}");
        }
        for other in [
            "main",
            "app::run",
            "app::run::<alloc::string::String>",
            "<app::Text as core::fmt::Display>::fmt",
            "<alloc::vec::Vec<u8> as app::Trait>::f",
            "<[app::T] as core::slice::Concat>::concat",
            "<<app::A as core::iter::Iterator>::Item as core::clone::Clone>::clone",
            "<unfinished",
            "libc.so.6+0x27249",
        ] {
            assert!(!is_standard(&frame(other, None)), "{other}");
        }
    }
}
