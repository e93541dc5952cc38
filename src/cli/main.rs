//! The program `itemdex`.

use std::process::ExitCode;

fn main() -> ExitCode {
    itemdex_cli::run(std::env::args_os()).into()
}
