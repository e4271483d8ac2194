//! The panel's API for administrators, as far as `alula configure` uses it. Source: remote API, "Node configuration".

use std::time::Duration;

use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;

use crate::config::Secret;
use crate::http_client::cause;

/// Timeout of the request.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer, bytes.
const MAX_ANSWER: usize = 1 << 20;
/// The longest part of an error page that is shown, in characters.
const MAX_DETAIL: usize = 200;

/// Why the panel does not give a configuration. The texts say what to do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ApplicationError {
    #[error("the panel at {url} cannot be reached: {cause}; check the URL{}", insecure(cause))]
    Unreachable { url: String, cause: String },
    #[error(
        "the panel does not accept the API key (HTTP {status}): create one in the panel's administration that may read nodes"
    )]
    NotAllowed { status: StatusCode },
    #[error("the panel has no node {node}: its number is in the address of the node's page")]
    NoNode { node: u64 },
    #[error("the panel at {url} redirects to {to}: use that address")]
    Redirected { url: String, to: String },
    #[error("the panel at {url} answered {status} instead of a node's configuration: {detail}")]
    Answer { url: String, status: StatusCode, detail: String },
}

fn insecure(cause: &str) -> &'static str {
    if cause.contains("certificate") { ", or use --allow-insecure if you trust the network" } else { "" }
}

/// Fetches the configuration of a node. `key`: an API key of an administrator.
///
/// # Errors
/// The panel cannot be reached, or gives none.
pub async fn node_configuration(
    panel: &str,
    key: &Secret,
    node: u64,
    ignore_certificate_errors: bool,
) -> Result<Value, ApplicationError> {
    let url = format!("{}/api/application/nodes/{node}/configuration", panel.trim_end_matches('/'));
    let unreachable = |error: &(dyn std::error::Error + 'static)| ApplicationError::Unreachable {
        url: panel.to_owned(),
        cause: cause(error),
    };
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        // The key must not reach another server.
        .redirect(reqwest::redirect::Policy::none())
        .tls_danger_accept_invalid_certs(ignore_certificate_errors)
        .build()
        .map_err(|error| unreachable(&error))?;
    let request = client.get(url).header(ACCEPT, "application/json").header(CONTENT_TYPE, "application/json");
    let response = request.bearer_auth(key.expose()).send().await.map_err(|error| unreachable(&error))?;
    let status = response.status();
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(ApplicationError::NotAllowed { status }),
        StatusCode::NOT_FOUND => return Err(ApplicationError::NoNode { node }),
        _ if status.is_redirection() => {
            let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("nowhere").to_owned();
            return Err(ApplicationError::Redirected { url: panel.to_owned(), to });
        }
        _ => {}
    }
    let body = Limited::new(reqwest::Body::from(response), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| unreachable(&*error))?.to_bytes();
    match serde_json::from_slice(&body) {
        Ok(configuration @ Value::Object(_)) if status.is_success() && has_credentials(&configuration) => {
            Ok(configuration)
        }
        _ => {
            let detail = String::from_utf8_lossy(&body).split_whitespace().collect::<Vec<_>>().join(" ");
            let detail = detail.chars().take(MAX_DETAIL).collect();
            Err(ApplicationError::Answer { url: panel.to_owned(), status, detail })
        }
    }
}

/// Whether this is the configuration of a node, and not another document.
fn has_credentials(configuration: &Value) -> bool {
    ["token_id", "token"].iter().all(|key| configuration[*key].as_str().is_some_and(|text| !text.is_empty()))
}
