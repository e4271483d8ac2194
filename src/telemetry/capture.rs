//! For tests: captures the log.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::Dispatch;
use tracing::dispatcher::DefaultGuard;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// A captured log; clones share it.
#[derive(Clone, Default)]
pub struct Capture {
    text: Arc<Mutex<Vec<u8>>>,
}

impl Capture {
    /// Captures the log of this thread until the guard is dropped; `filter` has the format of `RUST_LOG`.
    pub fn of_this_thread(filter: &str) -> (Self, DefaultGuard) {
        let capture = Self::default();
        let filter = super::with_own_targets(EnvFilter::new(filter)).unwrap();
        let log = tracing_subscriber::fmt().with_ansi(false).with_env_filter(filter).with_writer(capture.clone());
        let guard = tracing::dispatcher::set_default(&Dispatch::new(log.finish()));
        (capture, guard)
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.text.lock().unwrap()).lines().map(str::to_owned).collect()
    }
}

impl Write for Capture {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.text.lock().unwrap().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Capture {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
