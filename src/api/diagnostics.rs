//! `GET /api/diagnostics` and its JSON form for the command line.

use axum::extract::RawQuery;
use axum::response::{IntoResponse, Response};
use http::header;

use super::request::parameter;
use super::startup::Started;
use super::{Api, ApiError, response};
use crate::diagnostics::{Contents, EngineAnswers, Known, LOG_LINES, MAX_LOG_LINES, Report, log_tail};

/// `GET /api/diagnostics`.
pub async fn text(Started(api): Started, RawQuery(query): RawQuery) -> Response {
    let report = make(&api, contents(query.as_deref())).await;
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], report.text()).into_response()
}

/// `GET /local/diagnostics`.
pub async fn report(Started(api): Started, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let report = make(&api, contents(query.as_deref())).await;
    let text = serde_json::to_vec(&report);
    text.map(response::json).map_err(|error| ApiError::Failed(format!("cannot write the report as JSON: {error}")))
}

/// What a request asks for. Anything but `true` and `false` is the default.
fn contents(query: Option<&str>) -> Contents {
    let flag = |name, default| match parameter(query, name) {
        Some(value) if value.eq_ignore_ascii_case("true") => true,
        Some(value) if value.eq_ignore_ascii_case("false") => false,
        _ => default,
    };
    // A number of more digits than a type has is still a large number.
    let lines = parameter(query, "log_lines").and_then(|value| {
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| value.parse().unwrap_or(MAX_LOG_LINES))
    });
    let lines = lines.filter(|lines| *lines > 0).unwrap_or(LOG_LINES).min(MAX_LOG_LINES);
    Contents { endpoints: flag("include_endpoints", false), log_lines: flag("include_logs", true).then_some(lines) }
}

async fn make(api: &Api, contents: Contents) -> Report {
    let context = &api.context;
    let config = context.node.config.clone();
    let log = async {
        match contents.log_lines {
            Some(lines) => context.store.blocking().run(move || log_tail(&config, lines)).await,
            None => Ok(Vec::new()),
        }
    };
    let (engine, log) = tokio::join!(EngineAnswers::of(context.runtime.as_ref()), log);
    let servers = context.store.ids().into_iter().filter_map(|id| context.store.status(id)).collect();
    let known = Known {
        now: context.clock.now(),
        node: Ok(&context.node.config),
        engine,
        conditions: Some(context.node.conditions.list()),
        not_applied: context.node.updates.not_applied(),
        servers,
        log,
    };
    Report::new(&known, contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_are_not_understood_are_the_defaults() {
        let expected = |endpoints, log_lines| Contents { endpoints, log_lines };
        for (query, contents_of) in [
            ("", expected(false, Some(200))),
            ("include_endpoints=TRUE&include_logs=False", expected(true, None)),
            ("include_endpoints=1&include_logs=no", expected(false, Some(200))),
            ("log_lines=1", expected(false, Some(1))),
            ("log_lines=0", expected(false, Some(200))),
            ("log_lines=-5", expected(false, Some(200))),
            ("log_lines=many", expected(false, Some(200))),
            ("log_lines=501", expected(false, Some(500))),
            ("log_lines=99999999999999999999999", expected(false, Some(500))),
        ] {
            assert_eq!(contents(Some(query)), contents_of, "{query}");
        }
    }
}
