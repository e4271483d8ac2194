//! `alula install`: asks the daemon to run install scripts again, or to end them.

use bytes::Bytes;
use http::Method;

use super::arguments::Install;
use super::done::Outcomes;
use super::error::CliError;
use super::node::Node;
use super::output::Printer;

/// Asks for installations, or for their end.
///
/// # Errors
/// No daemon runs, a name is no server's, or the daemon refuses.
pub async fn run(node: &Node, arguments: &Install, printer: Printer) -> Result<(), CliError> {
    let client = node.daemon()?;
    let servers = node.pick(&arguments.servers).await?;
    let (action, accepted) =
        if arguments.abort { ("abort", "abort accepted") } else { ("again", "installation accepted") };
    let body = Bytes::from(serde_json::json!({"action": action}).to_string());
    let outcomes = Outcomes::of(&servers, printer, async |server| {
        client.call(Method::POST, &format!("/local/servers/{}/install", server.uuid), body.clone()).await?;
        Ok(accepted)
    });
    outcomes.await.end()
}
