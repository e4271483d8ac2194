//! Logs: lines on stderr (colours only on a terminal) and the same lines in `{log_directory}/wings.log`, which is opened anew
//! on SIGHUP, as logrotate wants it. `RUST_LOG` overrides what is logged. Each output has a queue and a thread of its own.
//!
//! Field names: `server.id`, `pass.id`, `step`, `job`, `request_id`. The first two come from the span of a pass, which
//! every line carries that is logged in it, in work that it hands to other threads, and in tasks that it starts.

#[cfg(test)]
pub mod capture;
mod output;
mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{Span, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{self, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::NodeConfig;
use crate::model::ServerId;
use output::Output;
use queue::LogQueue;

/// The target of the spans of passes.
const PASSES: &str = "alula::pass";

/// The target of panics.
const PANICS: &str = "alula::panic";

/// How long a thread that panics waits until that is written: the process may end right after.
const PANIC_FLUSH_TIMEOUT: Duration = Duration::from_millis(100);

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
    let filter = with_own_targets(filter)?;
    let path = node.directories.log.join("wings.log");
    let terminal = LogQueue::start("stderr", io::stderr())?;
    let (file, rejected) = match LogFile::open(&path) {
        Ok(file) => (Some(LogQueue::start("wings.log", file)?), None),
        Err(error) => (None, Some(error)),
    };
    subscriber(filter, terminal.clone(), io::stderr().is_terminal(), file.clone()).try_init()?;
    if let Some(error) = rejected {
        tracing::warn!("{}: {error}; logging to stderr only", path.display());
    }
    reopen_on_hangup(file.clone());
    // The file first: it need not share the time with a pipe that nobody reads.
    let queues: Vec<LogQueue> = [file, Some(terminal)].into_iter().flatten().collect();
    log_panics(queues.clone());
    Ok(FlushOnDrop(queues))
}

/// Has panics logged with their place, whatever `RUST_LOG` says. The standard library's own hook would write to stderr
/// itself, past the queue, and wait there for as long as nobody reads.
fn log_panics(queues: Vec<LogQueue>) {
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or("no message");
        let location = panic.location().map(tracing::field::display);
        // Taken where `RUST_BACKTRACE` asks for it.
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(backtrace));
        let thread = std::thread::current();
        tracing::error!(target: PANICS, location, thread = thread.name(), backtrace, "panic: {text}");
        let deadline = Instant::now() + PANIC_FLUSH_TIMEOUT;
        queues.iter().for_each(|queue| queue.flush(deadline));
    }));
}

/// Logs to a terminal, or what stands for it, and to a file, where there is one.
fn subscriber<W>(filter: EnvFilter, terminal: W, colours: bool, file: Option<W>) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let plain = |file| fmt::layer().with_ansi(false).fmt_fields(FileFields::default()).with_writer(file);
    let to_terminal = fmt::layer().with_ansi(colours).with_writer(terminal);
    tracing_subscriber::registry().with(filter).with(to_terminal).with(file.map(plain))
}

/// The usual format of fields under a type of its own: layers with the same type share the text of a span's fields, which
/// would bring a terminal's colours into the file.
#[derive(Default)]
struct FileFields(DefaultFields);

impl<'a> FormatFields<'a> for FileFields {
    fn format_fields<R: RecordFields>(&self, text: Writer<'a>, fields: R) -> std::fmt::Result {
        self.0.format_fields(text, fields)
    }
}

/// The same filter, which lets spans of passes and panics through as well: a `RUST_LOG` that names one module would leave
/// its lines without the ones, and the log without the others.
fn with_own_targets(filter: EnvFilter) -> anyhow::Result<EnvFilter> {
    let filter = filter.add_directive(format!("{PASSES}=error").parse()?);
    Ok(filter.add_directive(format!("{PANICS}=error").parse()?))
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
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    use super::capture::Capture;
    use super::*;

    /// A log in a folder of its own.
    struct Fixture {
        _folder: tempfile::TempDir,
        path: PathBuf,
        log: LogQueue,
    }

    impl Fixture {
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
    fn a_log_that_was_moved_away_is_begun_again() {
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
    fn a_log_that_was_copied_and_truncated_goes_on_at_its_new_end() {
        let fixture = Fixture::new();
        fixture.log("one\n");
        fixture.flush();
        File::options().write(true).open(&fixture.path).unwrap().set_len(0).unwrap();
        fixture.log("two\n");
        fixture.flush();
        assert_eq!(fixture.text(), "two\n");
    }

    #[test]
    fn the_colours_of_a_terminal_are_not_in_the_file() {
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

    /// The place of the panic hook is the process: the test runs itself again in one of its own.
    #[test]
    fn a_panic_is_in_the_file_with_its_place_though_nobody_reads_stderr() {
        const FOLDER: &str = "ALULA_TEST_PANIC_FOLDER";
        if let Some(folder) = std::env::var_os(FOLDER) {
            return panic_and_flush_the_file(Path::new(&folder));
        }
        let folder = tempfile::tempdir().unwrap();
        let (_unread, mut stderr) = UnixStream::pair().unwrap();
        stderr.set_nonblocking(true).unwrap();
        while stderr.write(&[b' '; 100]).is_ok() {}
        stderr.set_nonblocking(false).unwrap();
        let test = "telemetry::tests::a_panic_is_in_the_file_with_its_place_though_nobody_reads_stderr";
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
        let (line, place) = text.trim_end().split_once(" location=src/telemetry.rs:").expect(&text);
        assert!(line.ends_with(" ERROR alula::panic: panic: of a test"), "{text}");
        assert!(place.starts_with(|digit: char| digit.is_ascii_digit()), "{text}");
        assert!(!place.contains('\n') && !place.contains("backtrace"), "{text}");
    }

    fn panic_and_flush_the_file(folder: &Path) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _inside = runtime.enter();
        let mut node = crate::testing::node_config(folder);
        node.directories.log = folder.to_owned();
        let log = start(&node, false).unwrap();
        std::panic::catch_unwind(|| panic!("of a {}", "test")).unwrap_err();
        log.0[0].flush(Instant::now() + Duration::from_secs(20));
        // Would wait for stderr.
        std::mem::forget(log);
    }

    #[test]
    fn what_is_queued_at_the_end_is_written() {
        let fixture = Fixture::new();
        let lines: Vec<String> = (0..5_000).map(|number| format!("line {number}\n")).collect();
        lines.iter().for_each(|line| fixture.log(line));
        drop(FlushOnDrop(vec![fixture.log.clone()]));
        assert_eq!(fixture.text(), lines.concat());
    }
}
