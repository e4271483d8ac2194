//! What the program says about itself: version, completions, the schema of its files.

use clap::CommandFactory;
use serde_json::json;

use super::arguments::{Arguments, Output};
use super::error::CliError;
use super::output::{Printer, print};
use crate::model::Manifest;
use crate::panel::client::WINGS_VERSION;

/// `alula version`.
///
/// # Errors
/// The output is closed.
pub fn version(_arguments: &Output, printer: Printer) -> Result<(), CliError> {
    let version = env!("CARGO_PKG_VERSION");
    let value = json!({"version": version, "wings": WINGS_VERSION});
    printer.print(&value, || format!("alula {version} (speaks to panels as Wings {WINGS_VERSION})\n"))
}

/// `alula completions`.
///
/// # Errors
/// The output is closed.
pub fn completions(shell: clap_complete::Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "alula", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// `alula schema`.
///
/// # Errors
/// The output is closed.
pub fn schema() -> Result<(), CliError> {
    print(&schema_text()?)
}

/// The JSON Schema of a server's record.
///
/// # Errors
/// Never: it is made of JSON.
pub fn schema_text() -> Result<String, CliError> {
    Ok(serde_json::to_string_pretty(&schemars::schema_for!(Manifest))? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_shipped_schema_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/state/server.schema.json");
        let shipped = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            shipped == schema_text().unwrap(),
            "state/server.schema.json is stale: run `cargo run -- schema > state/server.schema.json`"
        );
    }
}
