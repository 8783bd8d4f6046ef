//! Functions of ours that a workload runs and that lie among other code.
//!
//! What runs inside an allocation or free carries a section (`.spanalloc.text` and its kin), or
//! each such function would draw the pages around it into memory. A function that was forgotten,
//! and not inlined, shows in a profile of callgrind's with the addresses of instructions
//! (`--dump-instr=yes`).

use crate::process::command;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;

const SECTIONS: &str = ".spanalloc.";

/// The functions of ours in a `profile` of `program` that lie in no section of ours.
pub(crate) fn strays(profile: &str, program: &Path) -> Result<BTreeSet<String>, String> {
    let output = command("readelf")
        .args(["--section-headers", "--wide"])
        .arg(program)
        .output()
        .map_err(|error| format!("cannot run readelf: {error}"))?;
    let sections = sections(&String::from_utf8_lossy(&output.stdout));
    if sections.is_empty() {
        return Err(format!("{} has no section {SECTIONS}*", program.display()));
    }
    Ok(outside(profile, &program.to_string_lossy(), &sections))
}

/// The addresses of our sections, from the list that `readelf` prints.
fn sections(list: &str) -> Vec<Range<u64>> {
    let section = |line: &str| {
        let (_, fields) = line.split_once("] ")?;
        let mut fields = fields.split_whitespace();
        fields.next().filter(|name| name.starts_with(SECTIONS))?;
        let mut number = |skip| u64::from_str_radix(fields.nth(skip)?, 16).ok();
        let (start, bytes) = (number(1)?, number(1)?);
        Some(start..start + bytes)
    };
    list.lines().filter_map(section).collect()
}

/// Names of callgrind's, of which only the first mention is spelled out: `(3) name`, then `(3)`.
#[derive(Default)]
struct Names<'a>(HashMap<&'a str, &'a str>);

impl<'a> Names<'a> {
    fn read(&mut self, text: &'a str) -> &'a str {
        let (number, name) = text.split_once(' ').unwrap_or((text, ""));
        if !name.is_empty() {
            self.0.insert(number, name);
        }
        self.0.get(number).copied().unwrap_or(number)
    }
}

/// The functions of ours in `program` that have instructions outside `sections`.
fn outside(profile: &str, program: &str, sections: &[Range<u64>]) -> BTreeSet<String> {
    let (mut objects, mut functions) = (Names::default(), Names::default());
    let (mut object, mut function, mut address) = ("", "", 0_u64);
    let mut found = BTreeSet::new();
    for line in profile.lines() {
        match line.split_once('=') {
            Some(("ob", name)) => object = objects.read(name),
            Some(("cob", name)) => drop(objects.read(name)),
            Some(("fn", name)) => function = functions.read(name),
            Some(("cfn", name)) => drop(functions.read(name)),
            Some(_) => {}
            None => {
                let Some(at) = position(line, address) else { continue };
                address = at;
                let ours = ["spanalloc::", "<spanalloc::"].iter().any(|p| function.starts_with(p));
                let inside = sections.iter().any(|section| section.contains(&address));
                if ours && object == program && !inside {
                    found.insert(function.to_owned());
                }
            }
        }
    }
    found
}

/// The address at the beginning of a line of costs: a number, or how far it is from the last one.
fn position(line: &str, last: u64) -> Option<u64> {
    let first = line.split(' ').next()?;
    let step = |text: &str| text.parse::<u64>().ok();
    match first.as_bytes().first()? {
        b'*' => Some(last),
        b'+' => last.checked_add(step(&first[1..])?),
        b'-' => last.checked_sub(step(&first[1..])?),
        _ => u64::from_str_radix(first.strip_prefix("0x")?, 16).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::{outside, sections};

    #[test]
    fn our_sections_are_found() {
        let list = "
  [17] .fini             PROGBITS        00000000001f50f0 1f40f0 00000d 00  AX  0   0  4
  [18] .spanalloc.text   PROGBITS        00000000001f5100 1f4100 00b5b7 00  AX  0   0 16
  [ 9] .spanalloc.rare   PROGBITS        0000000000200700 1ff700 000010 00  AX  0   0 16";
        assert_eq!(sections(list), [0x1f5100..0x2006b7, 0x200700..0x200710]);
    }

    #[test]
    fn a_function_outside_is_found_and_those_of_others_are_not() {
        let profile = "\
positions: instr line
ob=(1) /bin/micro
fn=(1) spanalloc::inside
0x100 0 1
+4 0 1
cob=(2) /lib/libc.so
cfn=(2) memcpy
calls=1 0x20
* 0 7
cfn=(3) spanalloc::outside
calls=1 0x0
+4 0 1

fn=(3)
0x300 0 1
-8 0 1

fn=(4) core::fmt
0x310 0 1

ob=(2)
fn=(2)
0x300 0 1

ob=(1)
fn=(5) <spanalloc::Guard as core::ops::Drop>::drop
+16 0 1
";
        let sections = [0x100..0x108, 0x108..0x110];
        let found = outside(profile, "/bin/micro", &sections);
        let names: Vec<_> = found.iter().map(String::as_str).collect();
        assert_eq!(names, ["<spanalloc::Guard as core::ops::Drop>::drop", "spanalloc::outside"]);
    }
}
