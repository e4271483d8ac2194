//! `GET /local/operations`: backups, restores and transfers that run now.

use axum::response::Response;
use serde_json::{Value, json};

use crate::api::Api;
use crate::api::response::json as json_response;
use crate::api::startup::Started;
use crate::reconcile::job::Subject;
use crate::reconcile::operations::OperationProgress;

/// `GET /local/operations`: a list, ordered by server.
pub async fn list(Started(api): Started) -> Response {
    let running: Vec<Value> = api.context.operations.list().iter().map(|running| line(&api, running)).collect();
    json_response(Value::Array(running).to_string())
}

fn line(api: &Api, running: &OperationProgress) -> Value {
    json!({
        "server": running.server,
        "kind": kind(api, running),
        "subject": running.subject,
        "done": running.done,
        "total": running.total,
        "seconds": running.seconds,
    })
}

/// What runs, as a word.
fn kind(api: &Api, running: &OperationProgress) -> &'static str {
    match &running.subject {
        Subject::Backup(id) => {
            let snapshot = api.context.store.get(running.server);
            let pending =
                snapshot.is_some_and(|found| found.record.backup(*id).is_some_and(|backup| backup.is_pending()));
            if pending { "backup" } else { "verification" }
        }
        Subject::Restore(_) => "restore",
        _ => "transfer",
    }
}
