//! `alula version`, `alula completions` and `alula schema`.

use clap::CommandFactory;
use serde_json::json;

use super::arguments::Arguments;
use super::error::CliError;
use super::output::{Printer, print};
use crate::model::Manifest;
use crate::panel::client::WINGS_VERSION;

/// Prints the version.
///
/// # Errors
/// Standard output is closed or cannot be written.
pub fn version(printer: Printer) -> Result<(), CliError> {
    let version = env!("CARGO_PKG_VERSION");
    let value = json!({"version": version, "wings": WINGS_VERSION});
    printer.print(&value, || format!("alula {version} (speaks to panels as Wings {WINGS_VERSION})\n"))
}

/// Prints completions for a shell.
///
/// # Errors
/// Standard output is closed or cannot be written.
pub fn completions(shell: clap_complete::Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "alula", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Prints the JSON Schema of a manifest.
///
/// # Errors
/// Standard output is closed or cannot be written.
pub fn schema() -> Result<(), CliError> {
    print(&schema_text()?)
}

fn schema_text() -> Result<String, CliError> {
    Ok(serde_json::to_string_pretty(&schemars::schema_for!(Manifest))? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_shipped_schema_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/state/server.schema.json");
        let shipped = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            shipped == schema_text().unwrap(),
            "state/server.schema.json is stale: run `cargo run -- schema > state/server.schema.json`"
        );
    }
}
