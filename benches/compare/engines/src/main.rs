//! x
use peer as _;
fn main() -> std::process::ExitCode {
    harness::main(&[])
}
