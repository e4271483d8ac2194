//! The panel's answers: routes, authentication, paging, validation.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};

use super::{CallLog, Recorded, Shared, SimBackup, SimServer, Standing};

type Answer = Response<Full<Bytes>>;

/// The states that the panel's enumeration knows; others become `missing`.
const STATES: [&str; 11] = [
    "offline",
    "starting",
    "running",
    "stopping",
    "created",
    "restarting",
    "exited",
    "paused",
    "dead",
    "removing",
    "missing",
];

/// The panel's error body.
pub(super) fn error(status: u16, code: &str, detail: &str) -> Answer {
    let body = json!({"errors": [{"code": code, "status": status.to_string(), "detail": detail}]});
    with_json(status, &body)
}

fn with_json(status: u16, body: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status.try_into().expect("a status");
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn no_content() -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() = http::StatusCode::NO_CONTENT;
    response
}

/// Answers the request at this position of the record.
pub(super) fn answer(shared: &Shared, index: usize) -> Answer {
    let mut call_log = shared.lock();
    let request = call_log.requests[index].clone();
    let path: Vec<&str> = request.path.split('/').skip(1).collect();
    // Route binding comes before authentication: an unknown server is 404 for every caller.
    let unknown = || error(404, "NotFoundHttpException", "The requested resource could not be found on the server.");
    if let ["servers", uuid, ..] = path[..]
        && uuid != "reset"
        && call_log.server(uuid).is_none()
    {
        return unknown();
    }
    if let ["backups", uuid, ..] = path[..]
        && call_log.backup(uuid).is_none()
    {
        return unknown();
    }
    if let Some(rejection) = rejection(shared, &request) {
        return rejection;
    }
    if let ["servers", uuid, rest @ ..] = &path[..]
        && let Some(server) = call_log.server(uuid)
    {
        if let (["transfer", end], Some((side, transfer))) = (rest, &server.transfer) {
            return transfer_report(transfer.report(*side, *end == "success"));
        }
        if !server.may_read() {
            return error(
                403,
                "HttpForbiddenException",
                "Requesting node does not have permission to access this server.",
            );
        }
    }
    match (request.method.as_str(), &path[..]) {
        ("GET", ["servers"]) => list(shared, &call_log, &request),
        ("POST", ["servers", "reset"]) => reset(&mut call_log),
        ("GET", ["servers", uuid]) => {
            call_log.server(uuid).map_or_else(unknown, |server| with_json(200, &server_body(server)))
        }
        ("GET", ["servers", uuid, "install"]) => {
            call_log.server(uuid).map_or_else(unknown, |server| with_json(200, &server.script))
        }
        ("POST", ["servers", uuid, "install"]) => install_report(&mut call_log, uuid, &request),
        ("POST", ["servers", uuid, "container", "status"]) if !call_log.without_state_route => {
            state_report(&mut call_log, uuid, &request)
        }
        ("POST", ["servers", _, "transfer", "failure" | "success"]) => no_content(),
        (_, ["backups", uuid, rest @ ..]) => match call_log.backups.iter_mut().find(|backup| backup.uuid == *uuid) {
            Some(backup) => backup_call(backup, &request, rest),
            None => unknown(),
        },
        ("POST", ["activity"]) => activity(&request),
        ("POST", ["sftp", "auth"]) => sftp_login(&call_log, &request),
        _ => {
            let detail = format!("The route api/remote{} could not be found.", request.path);
            error(404, "NotFoundHttpException", &detail)
        }
    }
}

/// Source: remote API, "Backups".
fn backup_call(backup: &mut SimBackup, request: &Recorded, rest: &[&str]) -> Answer {
    let bad = |detail: &str| error(400, "BadRequestHttpException", detail);
    let size = request.query.get("size").and_then(|size| size.parse::<u64>().ok()).unwrap_or(0);
    match (request.method.as_str(), rest) {
        ("GET", []) if size == 0 => bad("A non-empty \"size\" query parameter must be provided."),
        ("GET", []) if backup.completed => {
            error(409, "ConflictHttpException", "This backup is already in a completed state.")
        }
        ("GET", []) if backup.links.is_null() => bad("The configured backup adapter is not an S3 compatible adapter."),
        ("GET", []) => {
            backup.uploads += 1;
            with_json(200, &backup.links)
        }
        ("POST", []) if backup.completed => {
            bad("Cannot update the status of a backup that is already marked as completed.")
        }
        ("POST", []) => {
            let report = request.json();
            backup.completed = report["successful"] == true;
            backup.reports.push(report);
            no_content()
        }
        ("POST", ["restore"]) => {
            backup.restores.push(request.json()["successful"] == true);
            no_content()
        }
        _ => error(405, "MethodNotAllowedHttpException", "The method is not supported for this route."),
    }
}

/// An empty page, as the panel answers.
fn activity(request: &Recorded) -> Answer {
    match request.json()["data"].as_array() {
        Some(rows) if !rows.is_empty() => Response::new(Full::default()),
        _ => error(422, "ValidationException", "The data field is required."),
    }
}

fn sftp_login(call_log: &CallLog, request: &Recorded) -> Answer {
    let body = request.json();
    let presented = body["password"].as_str().unwrap_or_default();
    let is_key = body["type"] == "public_key";
    let user = call_log.sftp_users.iter().find(|user| {
        let right = if is_key { user.key.as_deref() == Some(presented.trim_end()) } else { user.password == presented };
        body["username"] == user.username.as_str() && right
    });
    match user {
        Some(user) => {
            let body = json!({"user": user.uuid, "server": user.server, "permissions": user.permissions});
            with_json(200, &body)
        }
        None => error(403, "HttpForbiddenException", "Authorization credentials were not correct, please try again."),
    }
}

fn rejection(shared: &Shared, request: &Recorded) -> Option<Answer> {
    let Some(bearer) = request.header("authorization").strip_prefix("Bearer ") else {
        let detail = "Access to this endpoint must include an Authorization header.";
        return Some(error(401, "HttpException", detail));
    };
    let parts: Vec<&str> = bearer.split('.').collect();
    match parts[..] {
        [id, token] if id == shared.token_id && token == shared.token => None,
        [id, token] if id == shared.token_id && !token.is_empty() => {
            Some(error(403, "AccessDeniedHttpException", "You are not authorized to access this resource."))
        }
        [id, token] if !id.is_empty() && !token.is_empty() => {
            let detail = "The requested resource could not be found on the server.";
            Some(error(404, "NotFoundHttpException", detail))
        }
        _ => {
            let detail = "The Authorization header provided was not in a valid format.";
            Some(error(400, "BadRequestHttpException", detail))
        }
    }
}

fn server_body(server: &SimServer) -> Value {
    json!({"settings": server.settings, "process_configuration": server.process})
}

fn list(shared: &Shared, call_log: &CallLog, request: &Recorded) -> Answer {
    let number = |key: &str, default: usize| {
        request.query.get(key).and_then(|text| text.parse().ok()).filter(|number| *number >= 1).unwrap_or(default)
    };
    let servers: Vec<&SimServer> = call_log.servers.iter().filter(|server| server.is_listed()).collect();
    let (page, per_page, total) = (number("page", 1), number("per_page", 50), servers.len());
    let first = (page - 1).saturating_mul(per_page);
    let entry = |server: &SimServer| {
        let mut entry = server_body(server);
        entry["uuid"] = json!(server.uuid);
        entry
    };
    let data: Vec<Value> = servers.into_iter().skip(first).take(per_page).map(entry).collect();
    let (from, to) = match data.len() {
        0 => (Value::Null, Value::Null),
        count => (json!(first + 1), json!(first + count)),
    };
    let path = format!("{}/api/remote/servers", shared.url);
    let body = json!({
        "data": data,
        "links": {"first": format!("{path}?page=1"), "last": null, "prev": null, "next": null},
        "meta": {"current_page": page, "from": from, "last_page": total.div_ceil(per_page).max(1), "links": [],
            "path": path, "per_page": per_page, "to": to, "total": total},
    });
    with_json(200, &body)
}

fn transfer_report(status: u16) -> Answer {
    match status {
        409 => error(409, "ConflictHttpException", "Server is not being transferred."),
        403 => error(403, "HttpForbiddenException", "Requesting node does not have permission to access this server."),
        _ => no_content(),
    }
}

/// Marks every installation of the node as finished.
fn reset(call_log: &mut CallLog) -> Answer {
    call_log.resets += 1;
    for server in &mut call_log.servers {
        if server.standing == Standing::Installing {
            server.standing = Standing::Normal;
        }
    }
    no_content()
}

fn install_report(call_log: &mut CallLog, uuid: &str, request: &Recorded) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let Some(successful) = body["successful"].as_bool() else {
        return error(422, "ValidationException", "The successful field must be present.");
    };
    if let Some(server) = call_log.server_mut(uuid) {
        server.installed = Some(successful);
        server.standing = match (successful, body["reinstall"].as_bool()) {
            (true, _) => Standing::Normal,
            (false, Some(true)) => Standing::ReinstallFailed,
            (false, _) => Standing::InstallFailed,
        };
    }
    no_content()
}

fn state_report(call_log: &mut CallLog, uuid: &str, request: &Recorded) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let state = body["data"]["new_state"].as_str().filter(|state| STATES.contains(state)).unwrap_or("missing");
    if let Some(server) = call_log.server_mut(uuid) {
        server.state = Some(state.to_owned());
    }
    with_json(200, &json!([]))
}
