//! Logs: lines on stderr (colours only on a terminal) and the same lines in `{log_directory}/wings.log`, which is opened anew
//! on SIGHUP, as logrotate wants it. `RUST_LOG` overrides what is logged.
//!
//! Field names: `server.id`, `step`, `job`, `request_id`.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::NodeConfig;

/// Starts logging, once for each process. A log file that cannot be opened costs the file, not the daemon.
///
/// # Errors
/// When logging was started before.
pub fn start(node: &NodeConfig, debug: bool) -> anyhow::Result<()> {
    let level = match (debug || node.debug, node.quiet) {
        (true, _) => "alula=debug,info",
        (false, true) => "warn",
        (false, false) => "info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let path = node.directories.log.join("wings.log");
    let (file, refused) = match LogFile::open(&path) {
        Ok(file) => (Some(file), None),
        Err(error) => (None, Some(error)),
    };
    let to_file = file.clone().map(|file| tracing_subscriber::fmt::layer().with_ansi(false).with_writer(file));
    let to_terminal = tracing_subscriber::fmt::layer().with_ansi(io::stderr().is_terminal()).with_writer(io::stderr);
    tracing_subscriber::registry().with(filter).with(to_terminal).with(to_file).try_init()?;
    if let Some(error) = refused {
        tracing::warn!("{}: {error}; logging to stderr only", path.display());
    }
    reopen_on_hangup(file);
    Ok(())
}

/// For the command line: what the modules below have to say about damage in the state folder is said, and nothing else.
pub fn warnings_to_stderr() {
    // What lies among the servers' folders and is none is no damage; `alula get` names it, with what to do.
    let filter = EnvFilter::new("warn,alula::store::load=error");
    let layer = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Logging is started once for each process; a second time would be a test's.
    let _ = layer.without_time().with_target(false).with_ansi(false).try_init();
}

/// Also without a file: SIGHUP would end the daemon otherwise.
fn reopen_on_hangup(file: Option<LogFile>) {
    let Ok(mut hangup) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) else { return };
    // Lives as long as the process, like the log itself.
    #[allow(clippy::disallowed_methods)]
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            if let Some(Err(error)) = file.as_ref().map(LogFile::reopen) {
                tracing::error!("the log file cannot be opened anew: {error}");
            }
        }
    });
}

/// A file that can be opened anew under the same name.
#[derive(Clone)]
struct LogFile {
    path: Arc<PathBuf>,
    file: Arc<Mutex<File>>,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: Arc::new(path.to_owned()), file: Arc::new(Mutex::new(append(path)?)) })
    }

    fn reopen(&self) -> io::Result<()> {
        let fresh = append(&self.path)?;
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().append(true).create(true).mode(0o600).open(path)
}

impl Write for &LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = &'a LogFile;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_moved_away_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("wings.log"), folder.path().join("wings.log-1"));
        let log = LogFile::open(&path).unwrap();
        (&log).write_all(b"one\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        (&log).write_all(b"two\n").unwrap();
        log.reopen().unwrap();
        (&log).write_all(b"three\n").unwrap();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }
}
