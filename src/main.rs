//! Arguments in, exit code out.

use alula::app::{self, RunOptions};
use alula::cli::DaemonRequest;

fn main() -> std::process::ExitCode {
    alula::cli::main(|request: DaemonRequest| {
        let DaemonRequest { config, debug, ignore_certificate_errors } = request;
        app::run(&config, RunOptions { debug, ignore_certificate_errors })
    })
}
