//! Starts the library's main. The code is in the library, with private modules: the compiler then reports unused code.

use std::process::ExitCode;

fn main() -> ExitCode {
    binfmtctl::main()
}
