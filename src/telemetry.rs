//! Logs: lines on stderr (colours only on a terminal) and the same lines in `{log_directory}/wings.log`, which is opened anew
//! on SIGHUP, as logrotate wants it. `RUST_LOG` overrides what is logged. Each output has a queue and a thread of its own.
//!
//! Field names: `server.id`, `pass.id`, `step`, `job`, `request_id`. The first two come from the span of a pass, which
//! every line carries that is logged in it, in work that it hands to other threads, and in tasks that it starts.

#[cfg(test)]
pub mod capture;
mod output;
mod queue;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::Span;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::NodeConfig;
use crate::model::ServerId;
use output::Output;
use queue::LogQueue;

/// The target of the spans of passes.
const PASSES: &str = "alula::pass";

/// How long the end of the daemon waits for outputs that are slow.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes out what is queued when it is dropped. To be kept until nothing is logged any more.
#[must_use]
pub struct FlushOnDrop(Vec<LogQueue>);

impl Drop for FlushOnDrop {
    fn drop(&mut self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        self.0.iter().for_each(|queue| queue.flush(deadline));
    }
}

/// Starts logging, once for each process, inside a tokio runtime. A log file that cannot be opened costs the file, not the
/// daemon.
///
/// # Errors
/// When logging was started before, or the system has no thread.
pub fn start(node: &NodeConfig, debug: bool) -> anyhow::Result<FlushOnDrop> {
    let level = match (debug || node.debug, node.quiet) {
        (true, _) => "alula=debug,info",
        (false, true) => "warn",
        (false, false) => "info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let filter = with_passes(filter)?;
    let path = node.directories.log.join("wings.log");
    let terminal = LogQueue::start("stderr", io::stderr())?;
    let (file, refused) = match LogFile::open(&path) {
        Ok(file) => (Some(LogQueue::start("wings.log", file)?), None),
        Err(error) => (None, Some(error)),
    };
    let to_file = file.clone().map(|file| tracing_subscriber::fmt::layer().with_ansi(false).with_writer(file));
    let to_terminal =
        tracing_subscriber::fmt::layer().with_ansi(io::stderr().is_terminal()).with_writer(terminal.clone());
    tracing_subscriber::registry().with(filter).with(to_terminal).with(to_file).try_init()?;
    if let Some(error) = refused {
        tracing::warn!("{}: {error}; logging to stderr only", path.display());
    }
    reopen_on_hangup(file.clone());
    Ok(FlushOnDrop([Some(terminal), file].into_iter().flatten().collect()))
}

/// The same filter, which lets spans of passes through as well: a `RUST_LOG` that names one module would leave its lines
/// without them.
fn with_passes(filter: EnvFilter) -> anyhow::Result<EnvFilter> {
    Ok(filter.add_directive(format!("{PASSES}=error").parse()?))
}

/// What every line of one pass carries.
pub fn pass_span(server: ServerId, pass: u64) -> Span {
    tracing::error_span!(target: PASSES, "pass", server.id = %server, pass.id = pass)
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
fn reopen_on_hangup(file: Option<LogQueue>) {
    let Ok(mut hangup) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) else { return };
    // Lives as long as the process, like the log itself.
    #[allow(clippy::disallowed_methods)]
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            if let Some(file) = &file {
                file.reopen();
            }
        }
    });
}

/// A file that can be opened anew under the same name.
struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: append(path)? })
    }
}

fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().append(true).create(true).mode(0o600).open(path)
}

impl Write for LogFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.file.write(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for LogFile {
    fn reopen(&mut self) -> io::Result<()> {
        self.file = append(&self.path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log in a folder of its own.
    struct Scene {
        _folder: tempfile::TempDir,
        path: PathBuf,
        log: LogQueue,
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("wings.log");
            let log = LogQueue::start("wings.log", LogFile::open(&path).unwrap()).unwrap();
            Self { _folder: folder, path, log }
        }

        fn log(&self, line: &str) {
            (&self.log).write_all(line.as_bytes()).unwrap();
        }

        fn flush(&self) {
            self.log.flush(Instant::now() + Duration::from_secs(20));
        }

        fn text(&self) -> String {
            std::fs::read_to_string(&self.path).unwrap()
        }
    }

    #[test]
    fn a_log_that_was_moved_away_is_begun_anew() {
        let scene = Scene::new();
        let moved = scene.path.with_extension("log-1");
        scene.log("one\n");
        scene.flush();
        std::fs::rename(&scene.path, &moved).unwrap();
        scene.log("two\n");
        scene.log.reopen();
        scene.flush();
        scene.log("three\n");
        scene.flush();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(scene.text(), "three\n");
    }

    #[test]
    fn a_log_that_was_copied_and_truncated_goes_on_at_its_new_end() {
        let scene = Scene::new();
        scene.log("one\n");
        scene.flush();
        File::options().write(true).open(&scene.path).unwrap().set_len(0).unwrap();
        scene.log("two\n");
        scene.flush();
        assert_eq!(scene.text(), "two\n");
    }

    #[test]
    fn what_is_queued_at_the_end_is_written() {
        let scene = Scene::new();
        let lines: Vec<String> = (0..5_000).map(|number| format!("line {number}\n")).collect();
        lines.iter().for_each(|line| scene.log(line));
        drop(FlushOnDrop(vec![scene.log.clone()]));
        assert_eq!(scene.text(), lines.concat());
    }
}
