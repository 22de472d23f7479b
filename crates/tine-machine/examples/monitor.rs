//! The program the tests start as a box's monitor.

use std::process::ExitCode;

fn main() -> ExitCode {
    match tine_machine::monitor::run() {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
