//! `alula power`: asks the daemon to start, stop, restart or kill servers.

use bytes::Bytes;
use http::Method;

use super::arguments::Power;
use super::done::Outcomes;
use super::error::CliError;
use super::node::Node;
use super::output::Printer;

/// Asks for a power action on servers.
///
/// # Errors
/// No daemon runs, a name is no server's, or the daemon refuses.
pub async fn run(node: &Node, arguments: &Power, printer: Printer) -> Result<(), CliError> {
    let client = node.daemon()?;
    let servers = node.pick(&arguments.servers).await?;
    let action = arguments.action.as_str();
    let body = Bytes::from(serde_json::json!({"action": action}).to_string());
    let outcomes = Outcomes::of(&servers, printer, async |server| {
        client.call(Method::POST, &format!("/local/servers/{}/power", server.uuid), body.clone()).await?;
        Ok(format!("{action} accepted"))
    });
    outcomes.await.end()
}
