//! The golden fast paths: what `alloc` and `dealloc` cost is read in their machine
//! code, and pinned. A load, a store or a branch more fails here before a benchmark
//! could notice it.
//!
//! `benches/golden` has the four fast paths as functions of an optimized program;
//! this test builds it, disassembles it with `objdump`, and takes the shortest way
//! through each function that calls nothing. Skipped, with a message, on other
//! processors than x86-64 and where there is no `objdump`.
#![cfg(target_arch = "x86_64")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// What the shortest way through a function consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Cost {
    instructions: usize,
    loads: usize,
    stores: usize,
    branches: usize,
}

/// One instruction: address, text without it, and where it may go.
#[derive(Clone, Debug)]
struct Instruction {
    mnemonic: String,
    operands: String,
    next: u64,
}

#[test]
fn the_fast_paths_are_what_they_were() {
    let Some(binary) = build() else { return };
    // Loads: the list's head, its allowance, the block's link (when allocating), and
    // the class table (when the size is not a constant). Stores: head, allowance, and
    // the link (when freeing).
    let all = [
        ("golden_alloc_constant", Cost { instructions: 10, loads: 3, stores: 2, branches: 2 }),
        ("golden_free_constant", Cost { instructions: 11, loads: 2, stores: 3, branches: 2 }),
        ("golden_alloc_runtime", Cost { instructions: 17, loads: 4, stores: 2, branches: 3 }),
        ("golden_free_runtime", Cost { instructions: 17, loads: 3, stores: 3, branches: 3 }),
    ];
    for (function, golden) in all {
        let code = disassemble(&binary, function);
        let cost = shortest(&code).unwrap_or_else(|| panic!("{function} always calls: {code:#?}"));
        assert_eq!(cost, golden, "{function} (left: now):\n{code:#?}");
        println!("{function}: {cost:?}");
    }
}

/// Builds `benches/golden`; its program, or nothing without a disassembler.
fn build() -> Option<String> {
    if Command::new("objdump").arg("--version").output().is_err() {
        println!("skipped: there is no objdump");
        return None;
    }
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/golden");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--manifest-path"]);
    cargo.arg(home.join("Cargo.toml")).arg("--target-dir").arg(&target);
    // Flags of the run that tests are not those of the program that is read.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let status = cargo.status().expect("cargo starts");
    assert!(status.success(), "benches/golden does not build");
    Some(target.join("release/golden").to_str().expect("a path in UTF-8").to_owned())
}

fn disassemble(binary: &str, function: &str) -> BTreeMap<u64, Instruction> {
    let output = Command::new("objdump")
        .args(["-d", "--no-show-raw-insn", &format!("--disassemble={function}"), binary])
        .output()
        .expect("objdump runs");
    let text = String::from_utf8(output.stdout).expect("objdump writes UTF-8");
    let mut lines: Vec<(u64, String)> = Vec::new();
    for line in text.lines().map(str::trim) {
        let Some((address, rest)) = line.split_once(":\t") else { continue };
        let Ok(address) = u64::from_str_radix(address, 16) else { continue };
        lines.push((address, rest.split('#').next().unwrap_or("").trim().to_owned()));
    }
    assert!(!lines.is_empty(), "{function} is not in {binary}");
    let addresses: Vec<u64> = lines.iter().map(|(address, _)| *address).collect();
    let follows = addresses.into_iter().skip(1).chain([0]);
    lines
        .into_iter()
        .zip(follows)
        .map(|((address, text), next)| {
            let (mnemonic, operands) = text.split_once(' ').unwrap_or((&text, ""));
            let (mnemonic, operands) = (mnemonic.to_owned(), operands.trim().to_owned());
            (address, Instruction { mnemonic, operands, next })
        })
        .collect()
}

/// The way from the entry to `ret` with the fewest instructions that calls nothing
/// and does not leave the function.
fn shortest(code: &BTreeMap<u64, Instruction>) -> Option<Cost> {
    let entry = *code.keys().next()?;
    // Jumps on these paths lead forward, so a plain recursion ends.
    walk(code, entry, Cost::default())
}

fn walk(code: &BTreeMap<u64, Instruction>, at: u64, mut cost: Cost) -> Option<Cost> {
    let instruction = code.get(&at)?;
    let (mnemonic, operands) = (instruction.mnemonic.as_str(), instruction.operands.as_str());
    cost.instructions += 1;
    let target = operands.split(' ').next().and_then(|text| u64::from_str_radix(text, 16).ok());
    match mnemonic {
        "ret" => return Some(cost),
        "call" | "int3" | "ud2" => return None,
        "jmp" => return target.filter(|to| *to > at).and_then(|to| walk(code, to, cost)),
        _ if mnemonic.starts_with('j') => {
            cost.branches += 1;
            let taken = target.filter(|to| *to > at).and_then(|to| walk(code, to, cost));
            let through = walk(code, instruction.next, cost);
            return [taken, through].into_iter().flatten().min_by_key(|cost| cost.instructions);
        }
        "lea" | "push" | "pop" => {}
        _ => {
            let memory = |text: &str| text.contains('(') || text.contains("%fs:");
            match split_last_operand(operands) {
                (sources, destination) if memory(destination) && !sources.is_empty() => {
                    let compares = matches!(mnemonic, "cmp" | "cmpq" | "cmpl" | "test");
                    if compares { cost.loads += 1 } else { cost.stores += 1 }
                }
                (sources, _) => cost.loads += usize::from(memory(sources)),
            }
        }
    }
    walk(code, instruction.next, cost)
}

/// `a(b,c,8),%rax` is two operands: a comma inside parentheses does not separate.
fn split_last_operand(operands: &str) -> (&str, &str) {
    let mut depth = 0;
    let mut last = None;
    for (index, byte) in operands.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth == 0 => last = Some(index),
            _ => {}
        }
    }
    last.map_or(("", operands), |index| (&operands[..index], &operands[index + 1..]))
}
