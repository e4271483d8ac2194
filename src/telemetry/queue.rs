//! Log lines on their way to one output: a bounded queue in memory, and a thread that writes it out.
//!
//! Logging never waits for a disk or a pipe. A line that finds no room is dropped and counted, and the output gets the count
//! as soon as it takes lines again.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::output::{Lines, Lost, Output};

/// The most bytes that wait for one output: some thousand lines.
const MAX_QUEUED: usize = 1024 * 1024;

/// The queue of one output; all clones are the same.
#[derive(Clone)]
pub struct LogQueue {
    shared: Arc<Shared>,
}

struct Shared {
    /// Of the output, for messages.
    name: &'static str,
    state: Mutex<State>,
    /// There is something to do for the thread.
    due: Condvar,
    /// The thread has done all there was.
    idle: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// Lines lost since the output was last told of some.
    dropped: usize,
    reopen: bool,
    /// The thread writes what it has taken.
    writing: bool,
}

impl LogQueue {
    /// A queue, and its thread, which ends with the process.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn start(name: &'static str, output: impl Output) -> io::Result<Self> {
        let (state, due, idle) = Default::default();
        let queue = Self { shared: Arc::new(Shared { name, state, due, idle }) };
        let thread_queue = queue.clone();
        let mut output = Lines::new(output);
        let work = move || {
            let mut fails = false;
            loop {
                thread_queue.write_batch(&mut output, &mut fails);
            }
        };
        std::thread::Builder::new().name("log".into()).spawn(work)?;
        Ok(queue)
    }

    /// Has the output opened again, once what is queued now is written.
    pub fn reopen(&self) {
        self.state().reopen = true;
        self.shared.due.notify_one();
    }

    /// Waits until everything is written, or until the deadline.
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

    /// Waits until something is due and does it. `fails`: the last write did.
    fn write_batch(&self, output: &mut Lines<impl Output>, fails: &mut bool) {
        let waited = self.shared.due.wait_while(self.state(), |state| !state.is_due());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let batch = State { writing: true, ..State::default() };
        let batch = std::mem::replace(&mut *state, batch);
        drop(state);
        let written = write_lines(output, &batch);
        if let (Err(Lost { error, .. }), false) = (&written, *fails) {
            // For the other output; this one gets the count when it is well again.
            tracing::error!(output = self.shared.name, %error, "log lines cannot be written");
        }
        *fails = written.is_err();
        if batch.reopen
            && let Err(error) = output.reopen()
        {
            tracing::error!(output = self.shared.name, %error, "the log file cannot be opened again; the old one stays in use");
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

/// The lines, and then how many are missing. What is not told counts as lost again.
fn write_lines(output: &mut Lines<impl Output>, batch: &State) -> Result<(), Lost> {
    let dropped = batch.dropped;
    output.write(&batch.lines).map_err(|lost| Lost { lines: lost.lines + dropped, ..lost })?;
    if dropped > 0 {
        output.write(notice(dropped).as_bytes()).map_err(|lost| Lost { lines: dropped, ..lost })?;
    }
    Ok(())
}

/// The line about lines that are missing. It does not go through the queue, where it could be dropped as well.
fn notice(lines: usize) -> String {
    let mut text = String::new();
    // The time is left out where it cannot be written.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text + &format!(
        "  WARN alula::telemetry: log lines were dropped, because this output did not take them lines={lines}\n"
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

    /// An output that waits for permission before each write, and fails where the permission says so.
    struct Gate {
        permits: Receiver<bool>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            // Closed: open for good.
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

    impl Output for Gate {}

    impl Output for UnixStream {}

    struct Fixture {
        queue: LogQueue,
        permits: Sender<bool>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Fixture {
        fn new() -> Self {
            let (sender, permits) = channel();
            let written = Arc::default();
            let queue = LogQueue::start("gate", Gate { permits, written: Arc::clone(&written) }).unwrap();
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
    fn an_output_that_takes_nothing_holds_nobody_up_and_is_told_how_much_it_missed() {
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
        assert_eq!(fixture.text(), "", "every line was logged before one was written");
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
        assert!(text.ends_with(&format!("lines={missed}\n")), "told once, after the lines that there was room for");

        (&queue).write_all(b"after\n").unwrap();
        queue.flush(Instant::now() + Duration::from_secs(20));
        assert!(written.lock().unwrap().ends_with(format!("lines={missed}\nafter\n").as_bytes()), "and not again");
    }

    #[test]
    fn lines_that_could_not_be_written_are_counted() {
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
    fn a_line_that_was_written_is_not_counted_because_the_count_was_not() {
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
    fn an_output_that_never_waits_loses_nothing() {
        let (mut reader, output) = UnixStream::pair().unwrap();
        output.set_nonblocking(true).unwrap();
        let queue = LogQueue::start("stream", output).unwrap();
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
    fn a_flush_waits_for_every_line_and_not_for_ever() {
        let fixture = Fixture::new();
        fixture.log("one");
        fixture.queue.flush(Instant::now() + Duration::from_millis(20));
        assert_eq!(fixture.text(), "", "the output takes nothing, and the flush has ended");
        fixture.log("two");
        fixture.permits.send(true).unwrap();
        fixture.permits.send(true).unwrap();
        fixture.flush();
        assert_eq!(fixture.text(), "one\ntwo\n");
    }
}
