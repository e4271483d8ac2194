//! Writes a configuration that the panel pushes to the file of the node, see [`pushed`](super::pushed).

use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::error::Problem;
use super::file::ConfigFile;
use super::pushed::{self, Merged};
use super::{HostEnvironment, LiveConfig, interpret, read_text};
use crate::atomic;
use crate::model::Timestamp;

/// Pushes that wait for the one before them.
const WAITING: usize = 8;
/// Mode of a new file with a token.
const TOKEN_MODE: u32 = 0o600;

/// A configuration that the panel pushes, for the task that owns the file.
#[derive(Debug)]
pub struct Push {
    /// The body of the request.
    pub body: Value,
    /// Learns whether all of it that the panel may change is in the file, and in effect where that needs no restart.
    pub answer: oneshot::Sender<bool>,
}

/// What of the latest push is not in the file, for diagnostics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotApplied {
    /// When it was pushed.
    pub at: Timestamp,
    /// One line for each reason; no values.
    pub reasons: Vec<String>,
}

/// Hands pushes to the task that owns the file; clones share it.
#[derive(Clone)]
pub struct ConfigUpdates {
    pushes: mpsc::Sender<Push>,
    latest: Arc<Mutex<Option<NotApplied>>>,
}

impl ConfigUpdates {
    /// A handle, and the pushes for the task.
    pub fn new() -> (Self, mpsc::Receiver<Push>) {
        let (pushes, received) = mpsc::channel(WAITING);
        (Self { pushes, latest: Arc::default() }, received)
    }

    /// Pushes a configuration. Returns whether it was applied; `false` as well while the daemon ends.
    pub async fn push(&self, body: Value) -> bool {
        let (answer, answered) = oneshot::channel();
        self.pushes.send(Push { body, answer }).await.is_ok() && answered.await.unwrap_or(false)
    }

    /// What of the latest push is not in the file; `None` if all of it is, or nothing was pushed.
    pub fn not_applied(&self) -> Option<NotApplied> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps what of a push is not in the file.
    pub fn note(&self, at: Timestamp, reasons: Vec<String>) {
        let noted = (!reasons.is_empty()).then_some(NotApplied { at, reasons });
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = noted;
    }
}

/// The outcome of a push.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Whether a file was written.
    pub changed: bool,
    /// Why keys that the panel may change were not taken.
    pub refused: Vec<String>,
    /// Keys with another value than the file's, which the panel may not change.
    pub left_alone: Vec<String>,
}

/// Lays a push over the file at `path` and writes it. `live`: the values in effect.
///
/// # Errors
/// Why nothing of it was written: a text for the log.
pub fn write_push(
    path: &Path,
    body: &Value,
    live: &LiveConfig,
    host_environment: HostEnvironment<'_>,
) -> Result<Pushed, String> {
    let text = read_text(path).map_err(|error| error.to_string())?;
    let file = ConfigFile::parse(path, &text).map_err(|error| error.to_string())?;
    if file.ignore_panel_config_updates {
        return Err(format!("{}: ignore_panel_config_updates is true", path.display()));
    }
    if !body.is_object() {
        return Err("the panel sent something else than an object".into());
    }
    let mut body = body.clone();
    let foreign_host = remove_foreign_host(&mut body, &file);
    let Merged { text: new, token_files, refused, left_alone } =
        pushed::merge(&text, &file, &body, live, host_environment.variables)
            .map_err(|error| format!("{}: {error}; write the change there yourself", path.display()))?;
    let refused = refused.iter().map(Problem::to_string).chain(foreign_host).collect();
    if new == text && token_files.is_empty() {
        return Ok(Pushed { changed: false, refused, left_alone });
    }
    // A configuration with which the daemon would not start again is not written.
    interpret(path.to_owned(), &new, host_environment).map_err(|error| format!("the result is not valid: {error}"))?;
    for (file, token) in &token_files {
        check_owned(file, host_environment.etc)?;
        let line = format!("{}\n", token.expose());
        atomic::write_through(file, line.as_bytes(), TOKEN_MODE, || Ok(())).map_err(|error| error.to_string())?;
    }
    if new != text {
        check_owned(path, host_environment.etc)?;
        let unchanged = || match std::fs::read_to_string(path)? == text {
            true => Ok(()),
            false => Err(std::io::Error::new(ErrorKind::ResourceBusy, "it was changed at the same time")),
        };
        atomic::write_through(path, new.as_bytes(), TOKEN_MODE, unchanged).map_err(|error| error.to_string())?;
    }
    Ok(Pushed { changed: true, refused, left_alone })
}

/// Removes an address that the API could not listen on at the next start. Returns why it is not taken.
fn remove_foreign_host(body: &mut Value, file: &ConfigFile) -> Option<String> {
    let keys = body.get_mut("api")?.as_object_mut()?;
    let host = keys.get("host")?.as_str()?.to_owned();
    if host == file.api.host {
        return None;
    }
    // A name is resolved at the start, and a text that is no address is reported with the rest of the file.
    let error = TcpListener::bind((host.parse::<IpAddr>().ok()?, 0)).err()?;
    keys.remove("host");
    Some(format!("api.host: cannot listen on {host}: {error}"))
}

/// A file that is read-only, or in a checkout of git, is the operator's alone. `etc` may be one of etckeeper, which records what
/// programs write.
fn check_owned(path: &Path, etc: &Path) -> Result<(), String> {
    let real = path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?;
    let mode = std::fs::metadata(&real).map_or(0, |found| found.mode());
    if mode & 0o222 == 0 {
        return Err(format!("{} is read-only: make the change where it comes from", path.display()));
    }
    match checkout(&real, etc) {
        Some(folder) => {
            Err(format!("{} is in the git checkout {}: make the change there", path.display(), folder.display()))
        }
        None => Ok(()),
    }
}

fn checkout(path: &Path, etc: &Path) -> Option<PathBuf> {
    let mut folders = path.ancestors().skip(1).take_while(|folder| *folder != etc && folder.parent().is_some());
    folders.find(|folder| folder.join(".git").exists()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;
    use crate::config::Secret;

    const TEXT: &str =
        "# Mine.\ntoken_id: a\ntoken: old\nsystem: {root_directory: root, user: {rootless: {enabled: true}}}\n";

    struct Files(tempfile::TempDir);

    impl Files {
        fn new(text: &str) -> Self {
            let files = Self(tempfile::tempdir().unwrap());
            fs::write(files.path(), text).unwrap();
            files
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("node/config.yml").parent().map(|folder| fs::create_dir_all(folder).unwrap()).unwrap();
            self.0.path().join("node/config.yml")
        }

        fn text(&self) -> String {
            fs::read_to_string(self.path()).unwrap()
        }

        fn push(&self, body: &Value) -> Result<Pushed, String> {
            let live = LiveConfig { token_id: "a".into(), token: Secret::new("old"), ..LiveConfig::default() };
            let host = HostEnvironment { variables: &|_| None, etc: self.0.path() };
            write_push(&self.path(), body, &live, host)
        }
    }

    #[test]
    fn a_push_is_written_in_place_with_the_mode_of_the_file() {
        let files = Files::new(TEXT);
        fs::set_permissions(files.path(), Permissions::from_mode(0o640)).unwrap();
        let pushed = files.push(&json!({"token": "new", "debug": 5, "remote": "http://evil"})).unwrap();
        assert!(pushed.changed);
        assert_eq!(pushed.refused, ["debug: is a whole number: expected true or false"]);
        assert_eq!(pushed.left_alone, ["remote"]);
        assert_eq!(files.text(), TEXT.replace("old", "new"));
        assert_eq!(fs::metadata(files.path()).unwrap().mode() & 0o777, 0o640);
        assert!(!files.push(&json!({"token": "old"})).unwrap().changed, "the old one is still in effect");
    }

    #[test]
    fn an_address_of_another_host_is_not_taken() {
        let files = Files::new(TEXT);
        let pushed = files.push(&json!({"token": "new", "api": {"host": "192.0.2.1", "port": 8081}})).unwrap();
        assert!(pushed.refused[0].starts_with("api.host: cannot listen on 192.0.2.1: "), "{:?}", pushed.refused);
        let text = files.text();
        assert!(text.contains("8081") && text.contains("new") && !text.contains("192.0.2.1"), "{text}");
        assert!(files.push(&json!({"api": {"host": "127.0.0.1"}})).unwrap().refused.is_empty());
        assert!(files.text().contains("127.0.0.1"));
    }

    #[test]
    fn what_would_not_start_again_is_not_written() {
        let files = Files::new(&format!("{TEXT}remote: https://panel.example.com\n"));
        for body in [
            json!({"api": {"port": 70_000}}),
            json!({"api": {"ssl": {"enabled": true}}}),
            json!({"api": {"host": "http://node"}}),
            json!(["a", "list"]),
        ] {
            let before = files.text();
            assert!(files.push(&body).is_err(), "{body}");
            assert_eq!(files.text(), before, "{body}");
        }
    }

    #[test]
    fn a_file_of_the_operator_alone_stays_as_it_is() {
        let files = Files::new(TEXT);
        let body = json!({"debug": true});
        let refused = |files: &Files, part: &str| {
            let error = files.push(&body).unwrap_err();
            assert!(error.contains(part), "{error}");
            assert!(!files.text().contains("debug"));
        };
        fs::set_permissions(files.path(), Permissions::from_mode(0o400)).unwrap();
        refused(&files, "is read-only");
        fs::set_permissions(files.path(), Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(files.0.path().join("node/.git")).unwrap();
        refused(&files, "is in the git checkout");
        fs::rename(files.0.path().join("node/.git"), files.0.path().join(".git")).unwrap();
        assert!(files.push(&body).unwrap().changed, "a folder of etckeeper");
        fs::write(files.path(), format!("{TEXT}ignore_panel_config_updates: true\n")).unwrap();
        refused(&files, "ignore_panel_config_updates is true");
        fs::write(files.path(), "token: [").unwrap();
        refused(&files, "config.yml:1:");
    }

    #[test]
    fn a_token_in_a_file_of_its_own_is_written_there() {
        let files = Files::new(TEXT);
        let token = files.0.path().join("token");
        fs::write(&token, "old\n").unwrap();
        fs::write(files.path(), TEXT.replace("old", &format!("file://{}", token.display()))).unwrap();
        let before = files.text();
        assert!(files.push(&json!({"token": "new"})).unwrap().changed);
        assert_eq!((files.text(), fs::read_to_string(&token).unwrap().as_str()), (before, "new\n"));
    }

    #[tokio::test]
    async fn the_latest_push_is_remembered() {
        let (updates, mut pushes) = ConfigUpdates::new();
        let now = Timestamp::from_millis(5);
        updates.note(now, vec!["debug: no".into()]);
        assert_eq!(updates.not_applied(), Some(NotApplied { at: now, reasons: vec!["debug: no".into()] }));
        let task = tokio::spawn(async move {
            let Push { answer, .. } = pushes.recv().await.unwrap();
            answer.send(true).unwrap();
        });
        assert!(updates.push(json!({})).await);
        task.await.unwrap();
        updates.note(now, Vec::new());
        assert_eq!(updates.not_applied(), None);
        assert!(!updates.push(json!({})).await, "the task has ended");
    }
}
