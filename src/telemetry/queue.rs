//! The bounded queue of an output, and the thread that writes it.
//!
//! Logging never waits for a disk or a pipe. A line that does not fit is dropped and counted, and the count is logged as soon as
//! the output accepts lines again.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::output::{Lines, Lost};

/// The size of a queue in bytes, for some thousand lines.
const MAX_QUEUED: usize = 1024 * 1024;

/// The queue of an output; clones share it.
#[derive(Clone)]
pub struct LogQueue {
    shared: Arc<Shared>,
}

struct Shared {
    /// Name of the output.
    name: &'static str,
    state: Mutex<State>,
    /// Wakes the thread.
    due: Condvar,
    /// The thread has finished a batch.
    idle: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// Lines lost since the last notice.
    dropped: usize,
    reopen: bool,
    /// The thread is writing a batch.
    writing: bool,
}

impl LogQueue {
    /// Creates a queue and its thread, which ends with the process. `reopen` opens the output again by its path, which may be a new
    /// file; if it fails, the old file stays in use.
    ///
    /// # Errors
    /// The thread cannot be created.
    pub fn start<O: Write + Send + 'static>(
        name: &'static str,
        output: O,
        reopen: impl Fn(&mut O) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (state, due, idle) = Default::default();
        let queue = Self { shared: Arc::new(Shared { name, state, due, idle }) };
        let thread_queue = queue.clone();
        let mut output = Lines::new(output);
        let work = move || {
            let mut fails = false;
            loop {
                thread_queue.write_batch(&mut output, &reopen, &mut fails);
            }
        };
        std::thread::Builder::new().name("log".into()).spawn(work)?;
        Ok(queue)
    }

    /// Opens the output again after the queued lines are written.
    pub fn reopen(&self) {
        self.state().reopen = true;
        self.shared.due.notify_one();
    }

    /// Waits until everything is written, at most until the deadline.
    pub fn flush(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let busy = |state: &mut State| state.writing || state.is_due();
        let flushed = self.shared.idle.wait_timeout_while(self.state(), left, busy);
        drop(flushed.unwrap_or_else(PoisonError::into_inner));
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if !state.lines.is_empty() && state.lines.len() + line.len() > MAX_QUEUED {
            state.dropped += 1;
            return;
        }
        state.lines.extend_from_slice(line);
        drop(state);
        self.shared.due.notify_one();
    }

    /// Waits for a batch and writes it. `fails` is whether the last write failed.
    fn write_batch<O: Write>(
        &self,
        output: &mut Lines<O>,
        reopen: impl Fn(&mut O) -> io::Result<()>,
        fails: &mut bool,
    ) {
        let waited = self.shared.due.wait_while(self.state(), |state| !state.is_due());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let batch = State { writing: true, ..State::default() };
        let batch = std::mem::replace(&mut *state, batch);
        drop(state);
        let written = write_lines(output, &batch);
        if let (Err(Lost { error, .. }), false) = (&written, *fails) {
            // For the other output; this one gets a notice after it recovers.
            tracing::error!(output = self.shared.name, %error, "cannot write log lines");
        }
        *fails = written.is_err();
        if batch.reopen
            && let Err(error) = reopen(&mut output.output)
        {
            tracing::error!(output = self.shared.name, %error, "cannot open the log file again; the old one stays in use");
        }
        let mut state = self.state();
        if let Err(lost) = written {
            state.dropped += lost.lines;
        }
        state.writing = false;
        self.shared.idle.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_due(&self) -> bool {
        self.reopen || !self.lines.is_empty()
    }
}

/// Writes the lines, then a notice about lost ones. If the notice fails, they stay counted.
fn write_lines(output: &mut Lines<impl Write>, batch: &State) -> Result<(), Lost> {
    let dropped = batch.dropped;
    output.write(&batch.lines).map_err(|lost| Lost { lines: lost.lines + dropped, ..lost })?;
    if dropped > 0 {
        output.write(notice(dropped).as_bytes()).map_err(|lost| Lost { lines: dropped, ..lost })?;
    }
    Ok(())
}

/// The line about lost lines. It bypasses the queue, where it could be dropped.
fn notice(lines: usize) -> String {
    let mut text = String::new();
    // The line has no time if it cannot be formatted.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text + &format!(
        "  WARN alula::telemetry: log lines were dropped because the output did not accept them lines={lines}\n"
    )
}

impl Write for &LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = &'a LogQueue;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    /// An output that waits for a permit before each write, and fails for `false`.
    struct Blocked {
        permits: Receiver<bool>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Blocked {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            // A closed channel permits everything.
            if self.permits.recv() == Ok(false) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.written.lock().unwrap().extend_from_slice(lines);
            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Fixture {
        queue: LogQueue,
        permits: Sender<bool>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Fixture {
        fn new() -> Self {
            let (sender, permits) = channel();
            let written = Arc::default();
            let queue =
                LogQueue::start("blocked", Blocked { permits, written: Arc::clone(&written) }, |_| Ok(())).unwrap();
            Self { queue, permits: sender, written }
        }

        fn log(&self, line: &str) {
            (&self.queue).write_all(format!("{line}\n").as_bytes()).unwrap();
        }

        fn flush(&self) {
            self.queue.flush(Instant::now() + Duration::from_secs(20));
        }

        fn text(&self) -> String {
            String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
        }
    }

    fn lost(line: &str) -> Option<usize> {
        line.contains(" WARN alula::telemetry: log lines were dropped").then_some(())?;
        line.rsplit_once("lines=")?.1.parse().ok()
    }

    #[test]
    fn a_blocked_output_does_not_block_logging_and_gets_the_count_of_lost_lines() {
        let fixture = Fixture::new();
        let line = |number: usize| format!("{number:0>1000}");
        let logged = 3 * MAX_QUEUED / 1000;
        fixture.log(&line(0));
        while !fixture.queue.state().writing {
            std::thread::yield_now();
        }
        for number in 1..logged {
            fixture.log(&line(number));
        }
        assert_eq!(fixture.text(), "", "all lines were logged before one was written");
        assert!(fixture.queue.state().lines.len() <= MAX_QUEUED);

        let Fixture { queue, permits, written } = fixture;
        drop(permits);
        queue.flush(Instant::now() + Duration::from_secs(20));
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let (notices, lines): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| lost(line).is_some());
        let missed: usize = notices.iter().copied().filter_map(lost).sum();
        assert_eq!(lines.len() + missed, logged);
        assert!(missed > logged / 4, "{missed}");
        assert!(lines.iter().enumerate().all(|(number, text)| *text == line(number)), "the first ones, in order");
        assert!(text.ends_with(&format!("lines={missed}\n")), "once, after the queued lines");

        (&queue).write_all(b"after\n").unwrap();
        queue.flush(Instant::now() + Duration::from_secs(20));
        assert!(written.lock().unwrap().ends_with(format!("lines={missed}\nafter\n").as_bytes()), "and not again");
    }

    #[test]
    fn lines_of_failed_writes_are_counted() {
        let fixture = Fixture::new();
        for line in ["one", "two"] {
            fixture.permits.send(false).unwrap();
            fixture.log(line);
            fixture.flush();
        }
        assert_eq!(fixture.text(), "");
        fixture.permits.send(true).unwrap();
        fixture.permits.send(true).unwrap();
        fixture.log("three");
        fixture.flush();
        let text = fixture.text();
        assert!(text.starts_with("three\n"), "{text}");
        assert_eq!(text.lines().filter_map(lost).collect::<Vec<_>>(), [2], "{text}");
    }

    #[test]
    fn a_failed_notice_does_not_count_written_lines() {
        let fixture = Fixture::new();
        for (line, permits) in [("one", [false].as_slice()), ("two", &[true, false]), ("three", &[true, true])] {
            permits.iter().for_each(|permit| fixture.permits.send(*permit).unwrap());
            fixture.log(line);
            fixture.flush();
        }
        let text = fixture.text();
        assert!(text.starts_with("two\nthree\n"), "{text}");
        assert_eq!(text.lines().filter_map(lost).collect::<Vec<_>>(), [1], "{text}");
    }

    #[test]
    fn a_nonblocking_output_loses_nothing() {
        let (mut reader, output) = UnixStream::pair().unwrap();
        output.set_nonblocking(true).unwrap();
        let queue = LogQueue::start("stream", output, |_| Ok(())).unwrap();
        let lines: String = (0..800).map(|number| format!("{number:0>1000}\n")).collect();
        for line in lines.split_inclusive('\n') {
            (&queue).write_all(line.as_bytes()).unwrap();
        }
        reader.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut read = vec![0; lines.len()];
        reader.read_exact(&mut read).unwrap();
        assert!(read == lines.as_bytes());
    }

    #[test]
    fn a_flush_waits_for_all_lines_until_its_deadline() {
        let fixture = Fixture::new();
        fixture.log("one");
        fixture.queue.flush(Instant::now() + Duration::from_millis(20));
        assert_eq!(fixture.text(), "", "the output is blocked, and the flush has ended");
        fixture.log("two");
        fixture.permits.send(true).unwrap();
        fixture.permits.send(true).unwrap();
        fixture.flush();
        assert_eq!(fixture.text(), "one\ntwo\n");
    }
}
