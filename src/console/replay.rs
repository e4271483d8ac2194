//! Finds the lines of a container's log that the transcript misses, after a restart of the daemon.
//!
//! The attachment is opened first and the log is read second, so that no output falls between them. Duplicates are removed in
//! two steps:
//!
//! - Lines that the transcript has: the transcript ends at the position in the log that matches most of its last lines in a
//!   row; of equal positions the last one counts. Lines after it are new. Without any match all lines of the log are new.
//! - Bytes that log and attachment both have: the longest end of the log that the attachment begins with.
//!
//! Both steps are exact, unless a server repeats the same lines; then some repetitions may be lost.
//!
//! A log without any of the transcript's lines was rotated by the engine, and may have lost the line that ends the start-up.
//! The server then counts as started, as does a server whose log cannot be read to its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::transcript::{WAITING, line_hash};
use crate::runtime::lines::Lines;
use crate::runtime::{LogPart, Runtime, RuntimeError};

/// Lines of a log that are read if the server has started already.
const LAST_LINES: u32 = 2000;
/// How often a broken log is read again, each time a second later than the time before.
const BREAKS: u32 = 3;
/// How long the attachment may lag behind the end of the log.
const LAG: Duration = Duration::from_millis(50);
/// Bytes in which the log and the attachment may overlap.
const OVERLAP: usize = 64 * 1024;

type Log = BoxStream<'static, Result<Bytes, RuntimeError>>;
type Open = Box<dyn Fn(Duration) -> Log + Send>;

/// A log that is being read while the attachment is held back.
pub(super) struct Replay {
    container: String,
    log: Option<Log>,
    /// Opens it again after a delay.
    open: Open,
    /// How often the log broke.
    breaks: u32,
    /// The deadline of reading the log; after its end, of waiting for the attachment.
    until: Instant,
    lines: Lines,
    aligner: Aligner,
    /// The log's last bytes.
    window: VecDeque<u8>,
    /// The output of the attachment meanwhile.
    held: Vec<u8>,
    /// The attachment printed too much to be held back; the log is read for the matcher only.
    overtaken: bool,
    /// The log was read to its end.
    read: bool,
}

/// The result of a replay.
pub(super) struct Rest {
    /// Lines that are new to the transcript.
    pub new: Vec<Vec<u8>>,
    /// The log's unfinished line.
    pub lines: Lines,
    /// The output of the attachment after the log.
    pub output: Vec<u8>,
}

impl Replay {
    /// Begins to read a container's log. `readers` limits the logs that are read at once.
    pub fn new(
        runtime: Arc<dyn Runtime>,
        container: String,
        part: LogPart,
        anchor: Vec<u64>,
        readers: Arc<Semaphore>,
    ) -> Self {
        let id = container.clone();
        let open: Open = Box::new(move |delay| {
            let (runtime, id, readers) = (runtime.clone(), id.clone(), readers.clone());
            let opened = async move {
                tokio::time::sleep(delay).await;
                // An error means that the semaphore is closed, which never happens.
                let permit = readers.acquire_owned().await.ok();
                let log = runtime.logs(&id, part).await?;
                Ok::<_, RuntimeError>(log.inspect(move |_| {
                    let _held_to_the_end = &permit;
                }))
            };
            stream::once(opened).try_flatten().boxed()
        });
        Self {
            container,
            log: Some(open(Duration::ZERO)),
            open,
            breaks: 0,
            until: Instant::now() + crate::wait::REPLAY,
            lines: Lines::default(),
            aligner: Aligner::new(anchor),
            window: VecDeque::new(),
            held: Vec::new(),
            overtaken: false,
            read: false,
        }
    }

    /// The part of the log that is needed. The line that ends the start-up may be anywhere in it.
    pub fn part(matching: bool) -> LogPart {
        if matching { LogPart::All } else { LogPart::Tail(LAST_LINES) }
    }

    /// The next piece of the log; `None` after its end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Bytes> {
        while let Some(log) = &mut self.log {
            match tokio::time::timeout_at(self.until, log.next()).await {
                Ok(Some(Ok(piece))) => return Some(piece),
                Ok(None) => self.read = true,
                Ok(Some(Err(error))) => {
                    if self.begin_again() {
                        continue;
                    }
                    tracing::info!(container = self.container, %error, "container log cannot be read; attaching without it");
                }
                Err(_) => {
                    let container = &self.container;
                    tracing::info!(container, "container log takes too long to read; attaching without the rest");
                }
            }
            self.log = None;
            self.until = Instant::now() + LAG;
        }
        tokio::time::sleep_until(self.until).await;
        None
    }

    /// Reads the log from its beginning again, unless it broke too often.
    fn begin_again(&mut self) -> bool {
        self.breaks += 1;
        if self.breaks > BREAKS {
            return false;
        }
        self.log = Some((self.open)(Duration::from_secs(self.breaks.into())));
        self.lines = Lines::default();
        self.aligner = Aligner::new(std::mem::take(&mut self.aligner.anchor));
        self.window.clear();
        true
    }

    /// Takes a piece of the log and passes on its lines, for the matcher.
    pub fn feed(&mut self, piece: &[u8], mut line: impl FnMut(&[u8])) {
        let (aligner, overtaken) = (&mut self.aligner, self.overtaken);
        self.lines.feed(piece, |text| {
            line(text);
            if overtaken {
                aligner.ends_here(text);
            } else {
                aligner.push(text);
            }
        });
        let piece = &piece[piece.len().saturating_sub(OVERLAP)..];
        let excess = (self.window.len() + piece.len()).saturating_sub(OVERLAP);
        self.window.drain(..excess);
        self.window.extend(piece);
    }

    /// Holds back output of the attachment. If it is too much, returns everything so far like [`Replay::finish`], and later
    /// output must not be held: the server does not wait for its log.
    pub fn hold(&mut self, piece: &[u8]) -> Option<Rest> {
        self.held.extend_from_slice(piece);
        (self.held.len() > OVERLAP).then(|| {
            self.overtaken = true;
            self.rest()
        })
    }

    /// Whether the attachment is still held back.
    pub fn holds(&self) -> bool {
        !self.overtaken
    }

    /// Whether lines are lost: the engine has rotated them away, or does not return them.
    pub fn has_gap(&self) -> bool {
        !self.read || self.aligner.has_gap()
    }

    /// Ends the replay. `None` if [`Replay::hold`] has returned the result already.
    pub fn finish(mut self) -> Option<Rest> {
        self.holds().then(|| self.rest())
    }

    fn rest(&mut self) -> Rest {
        let mut output = std::mem::take(&mut self.held);
        output.drain(..overlap(self.window.make_contiguous(), &output));
        let lines = if self.overtaken { Lines::default() } else { std::mem::take(&mut self.lines) };
        Rest { new: self.aligner.take(), lines, output }
    }
}

/// Finds the position in a log where a transcript ends.
struct Aligner {
    /// The transcript's last lines.
    anchor: Vec<u64>,
    /// The log's last lines, as many.
    recent: VecDeque<u64>,
    /// The most lines of the anchor's end that were found in a row.
    best: usize,
    /// The lines after that position.
    new: VecDeque<Vec<u8>>,
    new_bytes: usize,
}

impl Aligner {
    fn new(anchor: Vec<u64>) -> Self {
        Self { recent: VecDeque::with_capacity(anchor.len()), anchor, best: 0, new: VecDeque::new(), new_bytes: 0 }
    }

    fn push(&mut self, line: &[u8]) {
        if self.ends_here(line) {
            self.new.clear();
            self.new_bytes = 0;
            return;
        }
        self.new_bytes += line.len() + 1;
        self.new.push_back(line.to_vec());
        // The transcript does not accept more than this at once; keep the latest lines.
        while self.new_bytes >= WAITING
            && let Some(oldest) = self.new.pop_front()
        {
            self.new_bytes -= oldest.len() + 1;
        }
    }

    /// Whether this line is the best match so far for the end of the transcript.
    fn ends_here(&mut self, line: &[u8]) -> bool {
        if self.anchor.is_empty() {
            return false;
        }
        if self.recent.len() == self.anchor.len() {
            self.recent.pop_front();
        }
        self.recent.push_back(line_hash(line));
        let pairs = self.recent.iter().rev().zip(self.anchor.iter().rev());
        let common = pairs.take_while(|(log, anchor)| log == anchor).count();
        let here = common > 0 && common >= self.best;
        if here {
            self.best = common;
        }
        here
    }

    fn has_gap(&self) -> bool {
        !self.anchor.is_empty() && self.best == 0
    }

    fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.new).into()
    }
}

/// The longest end of `before` that `after` begins with (Knuth, Morris and Pratt's search).
fn overlap(before: &[u8], after: &[u8]) -> usize {
    let mut borders = vec![0; after.len()];
    let mut length = 0;
    for at in 1..after.len() {
        length = extend(after, &borders, length, after[at]);
        borders[at] = length;
    }
    before.iter().fold(0, |length, byte| extend(after, &borders, length, *byte))
}

/// How much of `pattern` matches after one more byte, where `length` bytes did before it.
fn extend(pattern: &[u8], borders: &[usize], mut length: usize, byte: u8) -> usize {
    loop {
        if pattern.get(length) == Some(&byte) {
            return length + 1;
        }
        match length {
            0 => return 0,
            _ => length = borders[length - 1],
        }
    }
}

#[cfg(test)]
mod tests;
