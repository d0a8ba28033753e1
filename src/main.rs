//! The program is the library's: so that what nobody uses in it is found.

use std::process::ExitCode;

fn main() -> ExitCode {
    binfmtctl::main()
}
