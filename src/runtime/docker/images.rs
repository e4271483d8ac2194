//! Finds and pulls images.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use bollard::Docker;
use bollard::errors::Error;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;

use super::containers::found;
use super::lines;
use super::wire::Wire;
use crate::config::RegistryFile;
use crate::model::image::{DEFAULT_REGISTRY, ImageReference};

/// Time between two lines about the progress of a download.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// The maximum of other lines of a pull. A layer has a few.
const MAX_STATUS_LINES: usize = 500;
/// Maximum length of a line, in characters.
const MAX_STATUS: usize = 200;

/// The id of the image with this reference or id.
pub(super) async fn id(docker: &Docker, reference: &str) -> Result<Option<String>, Error> {
    let Some(wanted) = ImageReference::parse(reference) else { return Ok(None) };
    let Some(image) = found(docker.inspect_image(reference).await)? else { return Ok(None) };
    let id = image.id.unwrap_or_default();
    if id == reference || id.strip_prefix("sha256:") == Some(reference) {
        return Ok(Some(id));
    }
    // The engine also finds images by the beginning of an id. References in eggs are never that.
    let mut names = image.repo_tags.into_iter().chain(image.repo_digests).flatten();
    let wanted = wanted.canonical();
    Ok(names.any(|name| ImageReference::parse(&name).is_some_and(|name| name.canonical() == wanted)).then_some(id))
}

/// One line of a pull's answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Report {
    status: String,
    /// The id of a layer, or the tag.
    id: String,
    /// A bar and numbers.
    progress: String,
    error: Option<String>,
    error_detail: Option<ErrorDetail>,
}

#[derive(Debug, Deserialize)]
struct ErrorDetail {
    message: Option<String>,
}

impl Report {
    fn error(&self) -> Option<&str> {
        let detail = self.error_detail.as_ref().and_then(|detail| detail.message.as_deref());
        detail.or(self.error.as_deref())
    }

    /// One short line without control characters.
    fn line(&self) -> String {
        let line = format!("{}: {} {}", self.id.trim(), self.status.trim(), self.progress.trim());
        let line = line.trim_start_matches(": ").trim_end();
        line.chars().filter(|character| !character.is_control()).take(MAX_STATUS).collect()
    }
}

/// Pulls an image. Dropping the future closes the connection, which cancels the pull.
pub(super) async fn pull(
    wire: &Wire,
    reference: &str,
    auth: Option<&RegistryFile>,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<(), Error> {
    let Some(parts) = ImageReference::parse(reference) else {
        let message = format!("{reference:?} is not an image reference; expected one such as ghcr.io/owner/name:tag");
        return Err(Error::DockerResponseServerError { status_code: 400, message });
    };
    let platform = wire.platform().await?;
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("fromImage", parts.name), ("tag", parts.version())])
        .extend_pairs(platform.map(|platform| ("platform", platform)))
        .finish();
    let path = format!("/images/create?{query}");
    let response = wire.open(Method::POST, &path, headers(&parts, auth), Bytes::new()).await?;
    let mut reports = lines::lines(response);
    let mut limited = Progress::new(progress);
    while let Some(line) = reports.next().await {
        let line = line?;
        let Ok(report) = serde_json::from_slice::<Report>(&line) else { continue };
        // The status was sent before the pull began, so errors are lines.
        if let Some(error) = report.error() {
            return Err(Error::DockerStreamError { error: error.to_owned() });
        }
        limited.report(&report, Instant::now());
    }
    Ok(())
}

/// The header with the credentials, in the URL-safe alphabet.
fn headers(reference: &ImageReference<'_>, auth: Option<&RegistryFile>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(auth) = auth {
        let json = serde_json::json!({
            "username": auth.username,
            "password": auth.password.expose(),
            "serveraddress": auth_server(reference),
        });
        let mut value = HeaderValue::try_from(URL_SAFE.encode(json.to_string())).expect("base64 is fit for a header");
        value.set_sensitive(true);
        headers.insert("X-Registry-Auth", value);
    }
    headers
}

/// The name of a registry in credentials.
fn auth_server<'a>(reference: &ImageReference<'a>) -> &'a str {
    match reference.registry() {
        DEFAULT_REGISTRY => "https://index.docker.io/v1/",
        registry => registry,
    }
}

/// Limits the lines of a pull, because their number depends on the registry.
struct Progress<'a> {
    progress: &'a (dyn Fn(String) + Send + Sync),
    last_progress: Option<Instant>,
    status_lines: usize,
}

impl<'a> Progress<'a> {
    fn new(progress: &'a (dyn Fn(String) + Send + Sync)) -> Self {
        Self { progress, last_progress: None, status_lines: 0 }
    }

    fn report(&mut self, report: &Report, now: Instant) {
        if !report.progress.is_empty() {
            if self.last_progress.is_some_and(|last| now.duration_since(last) < PROGRESS_INTERVAL) {
                return;
            }
            self.last_progress = Some(now);
        } else if report.status.is_empty() || self.status_lines == MAX_STATUS_LINES {
            return;
        } else {
            self.status_lines += 1;
        }
        (self.progress)(report.line());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn report(text: &str) -> Report {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn errors_come_in_two_forms() {
        let error = |text| report(text).error().map(String::from);
        assert_eq!(error(r#"{"errorDetail":{"code":1,"message":"denied"},"error":"other"}"#).unwrap(), "denied");
        assert_eq!(error(r#"{"error":"denied"}"#).unwrap(), "denied");
        assert_eq!(error(r#"{"error":"denied","errorDetail":{}}"#).unwrap(), "denied");
        assert_eq!(error(r#"{"status":"Pulling fs layer","progressDetail":{},"id":"ab"}"#), None);
    }

    #[test]
    fn lines_of_progress() {
        let line = |text| report(text).line();
        assert_eq!(
            line(r#"{"status":"Pulling from library/busybox","id":"latest"}"#),
            "latest: Pulling from library/busybox"
        );
        assert_eq!(
            line(r#"{"status":"Downloading","progress":"[=> ] 1MB/2MB","id":"ab"}"#),
            "ab: Downloading [=> ] 1MB/2MB"
        );
        assert_eq!(line(r#"{"status":"Digest: sha256:0f"}"#), "Digest: sha256:0f");
        assert_eq!(line(r#"{"status":"a\u001b[2Jb\nc"}"#), "a[2Jbc");
        let long = line(&serde_json::json!({"status": "ü".repeat(1000)}).to_string());
        assert_eq!(long.chars().count(), MAX_STATUS);
    }

    #[test]
    fn progress_is_limited() {
        let last_reported = Mutex::new(Vec::new());
        let progress = |line| last_reported.lock().unwrap().push(line);
        let mut limited = Progress::new(&progress);
        let start = Instant::now();
        let downloading = report(r#"{"status":"Downloading","progress":"1/2","id":"ab"}"#);
        for millis in [0, 1, 500, 999, 1000, 1500, 2100] {
            limited.report(&downloading, start + Duration::from_millis(millis));
        }
        limited.report(&report("{}"), start);
        assert_eq!(last_reported.lock().unwrap().len(), 3);
        for _ in 0..10_000 {
            limited.report(&report(r#"{"status":"Waiting","id":"ab"}"#), start);
        }
        assert_eq!(last_reported.lock().unwrap().len(), 3 + MAX_STATUS_LINES);
    }

    #[test]
    fn credentials_are_url_safe_and_name_the_registry() {
        let auth = RegistryFile { username: "ü>?".into(), password: crate::config::Secret::new("~~>>??") };
        let reference = ImageReference::parse("r.io:5000/a").unwrap();
        let headers = headers(&reference, Some(&auth));
        let value = headers["X-Registry-Auth"].to_str().unwrap();
        assert!(!value.contains(['+', '/']), "{value}");
        let json: serde_json::Value = serde_json::from_slice(&URL_SAFE.decode(value).unwrap()).unwrap();
        assert_eq!(json["serveraddress"], "r.io:5000");
        assert_eq!(json["password"], "~~>>??");
        assert!(headers["X-Registry-Auth"].is_sensitive());
    }
}
