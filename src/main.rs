//! Arguments in, exit code out.

fn main() -> std::process::ExitCode {
    alula::cli::main(alula::app::run, alula::app::check)
}
