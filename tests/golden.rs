//! The golden fast paths: what `alloc` and `dealloc` cost is read in their machine
//! code, and pinned. A load, a store or a branch more fails here before a benchmark
//! could notice it.
//!
//! `benches/golden` has the four fast paths as functions of an optimized program;
//! this test builds it, disassembles it with `objdump`, and takes the shortest way
//! through each function that calls nothing. Both architectures are read on either: what
//! is not this machine's is built and disassembled by a cross compiler's tools. Skipped, with
//! a message, where there are none.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

#[path = "support/skip.rs"]
mod skip;

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

/// What an instruction is, to who counts.
enum Does {
    /// Ends the way.
    Return,
    /// Calls, or cannot be.
    Leaves,
    Jump,
    Branch,
    Load,
    Store,
    Else,
}

/// A processor, by whose name compilers call it.
struct Machine {
    name: &'static str,
    does: fn(&Instruction) -> Does,
}

const X86_64: Machine = Machine { name: "x86_64", does: on_x86_64 };
const AARCH64: Machine = Machine { name: "aarch64", does: on_aarch64 };

// Loads: the list's head, its allowance, the block's link (when allocating), and
// the class table (when the size is not a constant). Stores: head, allowance, and
// the link (when freeing).

#[test]
fn the_fast_paths_are_what_they_were() {
    let all = [
        ("golden_alloc_constant", Cost { instructions: 10, loads: 3, stores: 2, branches: 2 }),
        ("golden_free_constant", Cost { instructions: 11, loads: 2, stores: 3, branches: 2 }),
        ("golden_alloc_runtime", Cost { instructions: 17, loads: 4, stores: 2, branches: 3 }),
        ("golden_free_runtime", Cost { instructions: 17, loads: 3, stores: 3, branches: 3 }),
    ];
    look_at(&X86_64, &all);
}

/// Loads, stores and branches are those of x86-64. The instructions more are the thread
/// pointer, which no address has in it, and additions.
#[test]
fn the_fast_paths_of_aarch64_are_what_they_were() {
    let all = [
        ("golden_alloc_constant", Cost { instructions: 12, loads: 3, stores: 2, branches: 2 }),
        ("golden_free_constant", Cost { instructions: 13, loads: 2, stores: 3, branches: 2 }),
        ("golden_alloc_runtime", Cost { instructions: 21, loads: 4, stores: 2, branches: 3 }),
        ("golden_free_runtime", Cost { instructions: 22, loads: 3, stores: 3, branches: 3 }),
    ];
    look_at(&AARCH64, &all);
}

fn look_at(machine: &Machine, all: &[(&str, Cost)]) {
    let Some((binary, objdump)) = machine.build() else { return };
    for &(function, golden) in all {
        let code = disassemble(&objdump, &binary, function);
        let cost = shortest(machine, &code);
        let cost = cost.unwrap_or_else(|| panic!("{function} always calls: {code:#?}"));
        assert_eq!(cost, golden, "{function} (left: now):\n{code:#?}");
        println!("{function} on {}: {cost:?}", machine.name);
    }
}

impl Machine {
    /// Builds `benches/golden`; its program, and what disassembles it, or nothing without the
    /// tools.
    fn build(&self) -> Option<(String, String)> {
        let (name, is_here) = (self.name, std::env::consts::ARCH == self.name);
        let tool =
            |tool| if is_here { String::from(tool) } else { format!("{name}-linux-gnu-{tool}") };
        let (objdump, linker) = (tool("objdump"), tool("gcc"));
        let triple = format!("{name}-unknown-linux-gnu");
        let is_there = |program| Command::new(program).arg("--version").output().is_ok();
        let builds = is_here || is_there(&linker) && has_target(&triple);
        if !builds || !is_there(&objdump) {
            let why = format!("there is no {objdump}, {linker} or standard library for {name}");
            skip::skip(name, &why);
            return None;
        }
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/golden");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden").join(name);
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--release", "--quiet", "--manifest-path"]);
        cargo.arg(home.join("Cargo.toml")).arg("--target-dir").arg(&target);
        // Flags of the run that tests are not those of the program that is read.
        cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        cargo.env_remove("CARGO_BUILD_TARGET");
        let mut release = target.clone();
        if !is_here {
            let variable = triple.to_uppercase().replace('-', "_");
            cargo
                .args(["--target", &triple])
                .env(format!("CARGO_TARGET_{variable}_LINKER"), linker);
            release.push(triple);
        }
        let status = cargo.status().expect("cargo starts");
        assert!(status.success(), "benches/golden does not build");
        let binary = release.join("release/golden");
        Some((binary.to_str().expect("a path in UTF-8").to_owned(), objdump))
    }
}

/// Whether there is a standard library for `triple`.
fn has_target(triple: &str) -> bool {
    let rustc =
        Command::new("rustc").args(["--print", "target-libdir", "--target", triple]).output();
    rustc.is_ok_and(|output| {
        let path = String::from_utf8_lossy(&output.stdout);
        output.status.success() && Path::new(path.trim()).is_dir()
    })
}

fn disassemble(objdump: &str, binary: &str, function: &str) -> BTreeMap<u64, Instruction> {
    let output = Command::new(objdump)
        .args(["-d", "--no-show-raw-insn", &format!("--disassemble={function}"), binary])
        .output()
        .expect("objdump runs");
    let text = String::from_utf8(output.stdout).expect("objdump writes UTF-8");
    let mut lines: Vec<(u64, String)> = Vec::new();
    for line in text.lines().map(str::trim) {
        let Some((address, rest)) = line.split_once(":\t") else { continue };
        let Ok(address) = u64::from_str_radix(address, 16) else { continue };
        // Remarks: `# 5f00 <…>`, `// b.first`. `#0x1` is an immediate of aarch64's.
        let text = rest.split("# ").next().and_then(|text| text.split("//").next());
        lines.push((address, text.unwrap_or("").trim().to_owned()));
    }
    assert!(!lines.is_empty(), "{function} is not in {binary}");
    let addresses: Vec<u64> = lines.iter().map(|(address, _)| *address).collect();
    let follows = addresses.into_iter().skip(1).chain([0]);
    lines
        .into_iter()
        .zip(follows)
        .map(|((address, text), next)| {
            let (mnemonic, operands) = text.split_once([' ', '\t']).unwrap_or((&text, ""));
            let (mnemonic, operands) = (mnemonic.to_owned(), operands.trim().to_owned());
            (address, Instruction { mnemonic, operands, next })
        })
        .collect()
}

/// The way from the entry to the end with the fewest instructions that calls nothing
/// and does not leave the function.
fn shortest(machine: &Machine, code: &BTreeMap<u64, Instruction>) -> Option<Cost> {
    let entry = *code.keys().next()?;
    // Jumps on these paths lead forward, so a plain recursion ends.
    walk(machine, code, entry, Cost::default())
}

fn walk(
    machine: &Machine,
    code: &BTreeMap<u64, Instruction>,
    at: u64,
    mut cost: Cost,
) -> Option<Cost> {
    let instruction = code.get(&at)?;
    cost.instructions += 1;
    let taken = |cost| {
        instruction.target().filter(|to| *to > at).and_then(|to| walk(machine, code, to, cost))
    };
    match (machine.does)(instruction) {
        Does::Return => return Some(cost),
        Does::Leaves => return None,
        Does::Jump => return taken(cost),
        Does::Branch => {
            cost.branches += 1;
            let ways = [taken(cost), walk(machine, code, instruction.next, cost)];
            return ways.into_iter().flatten().min_by_key(|cost| cost.instructions);
        }
        Does::Load => cost.loads += 1,
        Does::Store => cost.stores += 1,
        Does::Else => {}
    }
    walk(machine, code, instruction.next, cost)
}

impl Instruction {
    /// Where it may go: the last operand but for the name of the place, `w1, #26, a55c <…>`.
    fn target(&self) -> Option<u64> {
        let last = self.operands.split(" <").next()?.rsplit(' ').next()?;
        u64::from_str_radix(last, 16).ok()
    }
}

fn on_x86_64(instruction: &Instruction) -> Does {
    let (mnemonic, operands) = (instruction.mnemonic.as_str(), instruction.operands.as_str());
    match mnemonic {
        "ret" => Does::Return,
        "call" | "int3" | "ud2" => Does::Leaves,
        "jmp" => Does::Jump,
        _ if mnemonic.starts_with('j') => Does::Branch,
        "lea" | "push" | "pop" => Does::Else,
        _ => {
            let memory = |text: &str| text.contains('(') || text.contains("%fs:");
            match split_last_operand(operands) {
                (sources, destination) if memory(destination) && !sources.is_empty() => {
                    let compares = matches!(mnemonic, "cmp" | "cmpq" | "cmpl" | "test");
                    if compares { Does::Load } else { Does::Store }
                }
                (sources, _) if memory(sources) => Does::Load,
                _ => Does::Else,
            }
        }
    }
}

fn on_aarch64(instruction: &Instruction) -> Does {
    match instruction.mnemonic.as_str() {
        "ret" => Does::Return,
        "bl" | "blr" | "br" | "brk" | "udf" => Does::Leaves,
        "b" => Does::Jump,
        "cbz" | "cbnz" | "tbz" | "tbnz" => Does::Branch,
        // A pair counts as one, as it does for the processor.
        mnemonic if mnemonic.starts_with("b.") => Does::Branch,
        mnemonic if mnemonic.starts_with("ld") => Does::Load,
        mnemonic if mnemonic.starts_with("st") => Does::Store,
        _ => Does::Else,
    }
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
