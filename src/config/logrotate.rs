//! Configures the host's logrotate for the daemon's log, as Wings does.
//!
//! The file in `logrotate.d` is written if `system.enable_log_rotate` is set, the host has logrotate, and no file names the log
//! yet. logrotate renames the log and sends SIGHUP, and the daemon opens a new one.

use std::fs;
use std::path::{Path, PathBuf};

use super::NodeConfig;

/// Name of the file and of the service.
const NAME: &str = "alula";

/// Writes the file. Returns a warning if it cannot be written; the daemon does not depend on it.
pub fn rotate_daemon_log(node: &NodeConfig, etc: &Path) -> Option<String> {
    let folder = etc.join("logrotate.d");
    let path = folder.join(NAME);
    if !node.rotate_daemon_log || !folder.is_dir() || path.exists() {
        return None;
    }
    let log = node.directories.daemon_log();
    if let Some(other) = rotated_by(&folder, &log) {
        // logrotate rejects a log that two files name.
        return Some(format!(
            "{} is rotated by {} already: have its postrotate run `systemctl kill -s HUP {NAME}.service`, or remove it, \
             and alula writes its own",
            log.display(),
            other.display()
        ));
    }
    let written = crate::atomic::write_file(&path, text(&log).as_bytes(), 0o644);
    written.err().map(|error| format!("{error}; {} is not rotated", log.display()))
}

/// Another file of the folder that names the log. Wings has written one on a node that was taken over.
fn rotated_by(folder: &Path, log: &Path) -> Option<PathBuf> {
    let log = log.display().to_string();
    let files = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    files.into_iter().find(|file| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.split_whitespace().any(|part| part.trim_matches('"') == log)
    })
}

fn text(log: &Path) -> String {
    format!(
        "# Written once by alula; edit it freely. `system.enable_log_rotate: false` in config.yml prevents writing it.
\"{}\" {{
    size 10M
    compress
    delaycompress
    dateext
    maxage 7
    missingok
    notifempty
    postrotate
        systemctl kill --kill-who=main -s HUP {NAME}.service >/dev/null 2>&1 || true
    endscript
}}
",
        log.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node whose log is rotated, and an `/etc` with logrotate.
    fn fixture() -> (tempfile::TempDir, NodeConfig, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let mut node = crate::testing::node_config(root.path());
        node.rotate_daemon_log = true;
        let folder = root.path().join("etc/logrotate.d");
        fs::create_dir_all(&folder).unwrap();
        (root, node, folder)
    }

    #[test]
    fn the_file_is_written_once() {
        let (root, node, folder) = fixture();
        let etc = root.path().join("etc");
        assert_eq!(rotate_daemon_log(&node, &etc), None);
        let text = fs::read_to_string(folder.join("alula")).unwrap();
        assert!(text.contains(&format!("\"{}/wings.log\" {{", root.path().display())), "{text}");
        assert!(text.contains("-s HUP alula.service"), "{text}");
        fs::write(folder.join("alula"), "a person's").unwrap();
        assert_eq!(rotate_daemon_log(&node, &etc), None);
        assert_eq!(fs::read_to_string(folder.join("alula")).unwrap(), "a person's");
    }

    #[test]
    fn the_file_is_not_written_if_disabled_or_without_logrotate() {
        let (root, mut node, folder) = fixture();
        node.rotate_daemon_log = false;
        assert_eq!(rotate_daemon_log(&node, &root.path().join("etc")), None);
        assert!(!folder.join("alula").exists());
        node.rotate_daemon_log = true;
        assert_eq!(rotate_daemon_log(&node, &root.path().join("nowhere")), None);
        assert!(!root.path().join("nowhere").exists());
        assert!(!crate::testing::node_config(root.path()).rotate_daemon_log, "tests leave the host alone");
    }

    #[test]
    fn an_existing_file_that_names_the_log_is_not_duplicated() {
        let (root, node, folder) = fixture();
        let wings = format!("{}/wings.log {{\n    size 10M\n}}\n", root.path().display());
        fs::write(folder.join("wings"), wings).unwrap();
        let warning = rotate_daemon_log(&node, &root.path().join("etc")).unwrap();
        assert!(warning.contains("logrotate.d/wings") && warning.contains("alula.service"), "{warning}");
        assert!(!folder.join("alula").exists());
    }
}
