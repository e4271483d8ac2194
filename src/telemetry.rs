//! Logs to stderr (with colours on a terminal) and to `{log_directory}/wings.log`, which is opened again on SIGHUP and
//! SIGUSR1 for log rotation.
//! `RUST_LOG` sets the filter. Each output has a queue and a thread.
//!
//! Field names: `server.id`, `pass.id`, `step`, `job`, `request_id`. The first two are fields of the span of a pass, which
//! includes blocking work and tasks that the pass starts.

#[cfg(test)]
pub mod capture;
mod output;
mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::signal::unix::SignalKind;
use tracing::{Span, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{self, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::NodeConfig;
use crate::model::ServerId;
use queue::LogQueue;

/// The target of the spans of passes.
const PASSES: &str = "alula::pass";

/// The target of panics.
const PANICS: &str = "alula::panic";

/// How long a panicking thread waits for the log: the process may end right after.
const PANIC_FLUSH_TIMEOUT: Duration = Duration::from_millis(100);

/// How long the shutdown waits for slow outputs.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Flushes the queues when it is dropped. Keep it until the end of the process.
#[must_use]
pub struct FlushOnDrop(Vec<LogQueue>);

impl Drop for FlushOnDrop {
    fn drop(&mut self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        self.0.iter().for_each(|queue| queue.flush(deadline));
    }
}

/// Starts logging, once per process, inside a tokio runtime. If the log file cannot be opened, it logs to stderr only.
///
/// # Errors
/// Logging was started before, or a thread cannot be created.
pub fn start(node: &NodeConfig, debug: bool) -> anyhow::Result<FlushOnDrop> {
    let level = match (debug || node.debug, node.quiet) {
        (true, _) => "alula=debug,info",
        (false, true) => "warn",
        (false, false) => "info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let filter = with_own_targets(filter)?;
    let path = node.directories.daemon_log();
    let terminal = LogQueue::start("stderr", io::stderr(), |_| Ok(()))?;
    let (file, rejected) = match log_file(path.clone()) {
        Ok(file) => (Some(file), None),
        Err(error) => (None, Some(error)),
    };
    subscriber(filter, terminal.clone(), io::stderr().is_terminal(), file.clone()).try_init()?;
    if let Some(error) = rejected {
        tracing::warn!(path = %path.display(), %error, "cannot open the log file; logging to stderr only");
    }
    reopen_on_signal(file.clone());
    // The file first: a blocked pipe must not use up its time to flush.
    let queues: Vec<LogQueue> = [file, Some(terminal)].into_iter().flatten().collect();
    log_panics(queues.clone());
    Ok(FlushOnDrop(queues))
}

/// Logs panics with their location, independent of `RUST_LOG`. The hook of the standard library would write to stderr without the
/// queue, and block while no process reads it.
fn log_panics(queues: Vec<LogQueue>) {
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or("no message");
        let location = panic.location().map(tracing::field::display);
        // Captured if `RUST_BACKTRACE` is set.
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(backtrace));
        let thread = std::thread::current();
        tracing::error!(target: PANICS, location, thread = thread.name(), backtrace, "panic: {text}");
        let deadline = Instant::now() + PANIC_FLUSH_TIMEOUT;
        queues.iter().for_each(|queue| queue.flush(deadline));
    }));
}

/// Logs to stderr and to a file, if there is one.
fn subscriber<W>(filter: EnvFilter, terminal: W, colours: bool, file: Option<W>) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let plain = |file| fmt::layer().with_ansi(false).fmt_fields(FileFields::default()).with_writer(file);
    let to_terminal = fmt::layer().with_ansi(colours).with_writer(terminal);
    tracing_subscriber::registry().with(filter).with(to_terminal).with(file.map(plain))
}

/// The default format of fields as a separate type. Layers with the same type share the formatted fields of a span, so the file
/// would contain the colours of the terminal.
#[derive(Default)]
struct FileFields(DefaultFields);

impl<'a> FormatFields<'a> for FileFields {
    fn format_fields<R: RecordFields>(&self, text: Writer<'a>, fields: R) -> std::fmt::Result {
        self.0.format_fields(text, fields)
    }
}

/// Adds the spans of passes and panics to a filter, because a `RUST_LOG` that names one module would exclude them.
fn with_own_targets(filter: EnvFilter) -> anyhow::Result<EnvFilter> {
    let filter = filter.add_directive(format!("{PASSES}=error").parse()?);
    Ok(filter.add_directive(format!("{PANICS}=error").parse()?))
}

/// The span of a pass.
pub fn pass_span(server: ServerId, pass: u64) -> Span {
    tracing::error_span!(target: PASSES, "pass", server.id = %server, pass.id = pass)
}

/// For the command line: logs warnings about damage in the state folder to stderr.
pub fn warnings_to_stderr() {
    // Unknown folders are no damage; `alula get` lists them.
    let filter = EnvFilter::new("warn,alula::store::load=error");
    let layer = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A test may have started logging before.
    let _ = layer.without_time().with_target(false).with_ansi(false).try_init();
}

/// Handles SIGHUP and SIGUSR1, with which log rotation asks for a new file. Without a file, too, because their default action ends the
/// process.
fn reopen_on_signal(file: Option<LogQueue>) {
    let signals = [SignalKind::hangup(), SignalKind::user_defined1()].map(tokio::signal::unix::signal);
    let [Ok(mut hangup), Ok(mut user)] = signals else { return };
    // Runs until the process ends.
    #[allow(clippy::disallowed_methods)]
    tokio::spawn(async move {
        loop {
            // Both are cancel-safe.
            let received = tokio::select! {
                received = hangup.recv() => received,
                received = user.recv() => received,
            };
            match (received, &file) {
                (None, _) => return,
                (Some(()), Some(file)) => file.reopen(),
                (Some(()), None) => {}
            }
        }
    });
}

/// The queue of a file, which can be opened again.
fn log_file(path: PathBuf) -> io::Result<LogQueue> {
    let file = append(&path)?;
    LogQueue::start("wings.log", file, move |file| append(&path).map(|new| *file = new))
}

fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    use super::capture::Capture;
    use super::*;

    /// A log in a temporary folder.
    struct Fixture {
        _folder: tempfile::TempDir,
        path: PathBuf,
        log: LogQueue,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("wings.log");
            let log = log_file(path.clone()).unwrap();
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
    fn a_renamed_log_is_created_again() {
        let fixture = Fixture::new();
        let moved = fixture.path.with_extension("log-1");
        fixture.log("one\n");
        fixture.flush();
        std::fs::rename(&fixture.path, &moved).unwrap();
        fixture.log("two\n");
        fixture.log.reopen();
        fixture.flush();
        fixture.log("three\n");
        fixture.flush();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(fixture.text(), "three\n");
    }

    #[test]
    fn a_truncated_log_is_continued_at_its_new_end() {
        let fixture = Fixture::new();
        fixture.log("one\n");
        fixture.flush();
        File::options().write(true).open(&fixture.path).unwrap().set_len(0).unwrap();
        fixture.log("two\n");
        fixture.flush();
        assert_eq!(fixture.text(), "two\n");
    }

    #[test]
    fn the_file_has_no_colours() {
        let (terminal, file) = (Capture::default(), Capture::default());
        let log = subscriber(EnvFilter::new("info"), terminal.clone(), true, Some(file.clone()));
        tracing::subscriber::with_default(log, || {
            let span = tracing::info_span!("asked", number = 7, later = tracing::field::Empty);
            span.record("later", 8);
            span.in_scope(|| tracing::info!(field = 9, "here"));
        });
        let ([terminal], [file]) = (&terminal.lines()[..], &file.lines()[..]) else { panic!("one line each") };
        assert!(terminal.contains("\u{1b}[3mnumber\u{1b}[0m"), "{terminal:?}");
        assert!(file.ends_with("asked{number=7 later=8}: alula::telemetry::tests: here field=9"), "{file:?}");
        assert!(!file.contains('\u{1b}'), "{file:?}");
    }

    /// The panic hook is global, so the test runs itself in another process.
    #[test]
    fn a_panic_is_in_the_file_with_its_location_even_if_stderr_is_blocked() {
        const FOLDER: &str = "ALULA_TEST_PANIC_FOLDER";
        if let Some(folder) = std::env::var_os(FOLDER) {
            return panic_and_flush_the_file(Path::new(&folder));
        }
        let folder = tempfile::tempdir().unwrap();
        let (_unread, mut stderr) = UnixStream::pair().unwrap();
        stderr.set_nonblocking(true).unwrap();
        while stderr.write(&[b' '; 100]).is_ok() {}
        stderr.set_nonblocking(false).unwrap();
        let test = "telemetry::tests::a_panic_is_in_the_file_with_its_location_even_if_stderr_is_blocked";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(FOLDER, folder.path())
            .env("RUST_LOG", "alula::store=warn")
            .env_remove("RUST_BACKTRACE")
            .stdout(Stdio::null())
            .stderr(OwnedFd::from(stderr))
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
        let text = std::fs::read_to_string(folder.path().join("wings.log")).unwrap();
        let (line, location) = text.trim_end().split_once(" location=src/telemetry.rs:").expect(&text);
        assert!(line.ends_with(" ERROR alula::panic: panic: of a test"), "{text}");
        assert!(location.starts_with(|digit: char| digit.is_ascii_digit()), "{text}");
        assert!(!location.contains('\n') && !location.contains("backtrace"), "{text}");
    }

    fn panic_and_flush_the_file(folder: &Path) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _inside = runtime.enter();
        let mut node = crate::testing::node_config(folder);
        node.directories.log = folder.to_owned();
        let log = start(&node, false).unwrap();
        std::panic::catch_unwind(|| panic!("of a {}", "test")).unwrap_err();
        log.0[0].flush(Instant::now() + Duration::from_secs(20));
        // Its drop would wait for stderr.
        std::mem::forget(log);
    }

    #[test]
    fn queued_lines_are_written_at_the_end() {
        let fixture = Fixture::new();
        let lines: Vec<String> = (0..5_000).map(|number| format!("line {number}\n")).collect();
        lines.iter().for_each(|line| fixture.log(line));
        drop(FlushOnDrop(vec![fixture.log.clone()]));
        assert_eq!(fixture.text(), lines.concat());
    }
}
