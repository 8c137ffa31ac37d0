//! The program; [`binplz_builder`] has what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    binplz_builder::main()
}
