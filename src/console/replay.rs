//! Takes up a console where an earlier daemon left it: the container's log in, the lines that are new out.
//!
//! The attachment is opened first and the log is read second, so that nothing falls between them; what they
//! have in common is distinguished twice:
//!
//! - Lines that the transcript has already: the place in the log where the most of the transcript's last lines stand
//!   in a row is where it ended; at equal length the last such place counts. Only what follows is new. Where
//!   no line is found (the log was rotated meanwhile), all that the log has is new.
//! - Bytes that both the log and the attachment have: the longest end of the log that the attachment begins with.
//!
//! Both are exact unless a server prints the same lines over and over, and then the loss is some of those.
//!
//! A log that has none of the transcript's lines has lost some to the engine's rotation, and maybe the one that says that
//! the start-up has finished. A server that has printed more than a log holds counts as started then, as does one whose log
//! cannot be read to its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::lines::Lines;
use super::transcript::{WAITING, line_hash};
use crate::runtime::{LogPart, Runtime, RuntimeError};

/// Lines of a log that are read where no start-up is to be found in them.
const LAST_LINES: u32 = 2000;
/// A log that breaks off is read again this often, a second later each time.
const BREAKS: u32 = 3;
/// How long after the log's end the attachment may be behind it.
const LAG: Duration = Duration::from_millis(50);
/// Bytes in which the log and the attachment may overlap.
const OVERLAP: usize = 64 * 1024;

type Log = BoxStream<'static, Result<Bytes, RuntimeError>>;
type Open = Box<dyn Fn(Duration) -> Log + Send>;

/// A log that is being read while the attachment is held back.
pub(super) struct Replay {
    container: String,
    log: Option<Log>,
    /// Opens it again, after a while, when it broke off.
    open: Option<Open>,
    /// How often it broke off.
    breaks: u32,
    /// When the reading is given up, or the settling is over.
    until: Instant,
    lines: Lines,
    aligner: Aligner,
    /// The log's last bytes.
    window: VecDeque<u8>,
    /// What the attachment printed meanwhile.
    held: Vec<u8>,
    /// It printed too much: it is no longer held back, and the log is read for the matcher alone.
    overtaken: bool,
    /// The log was read to its end.
    read: bool,
}

/// What is left when the log has ended.
pub(super) struct Rest {
    /// Lines that are new to the transcript.
    pub new: Vec<Vec<u8>>,
    /// The log's unfinished line.
    pub lines: Lines,
    /// What the attachment printed beyond the log.
    pub output: Vec<u8>,
}

impl Replay {
    /// Begins to read a container's log. `turns` limits how many are read at a time.
    pub fn new(
        runtime: Arc<dyn Runtime>,
        container: String,
        part: LogPart,
        anchor: Vec<u64>,
        turns: Arc<Semaphore>,
    ) -> Self {
        let id = container.clone();
        let open: Open = Box::new(move |delay| {
            let (runtime, id, turns) = (runtime.clone(), id.clone(), turns.clone());
            let opened = async move {
                tokio::time::sleep(delay).await;
                // The semaphore is never closed; without a permit the replay only competes with others.
                let turn = turns.acquire_owned().await.ok();
                let log = runtime.logs(&id, part).await?;
                Ok::<_, RuntimeError>(log.inspect(move |_| {
                    let _held_to_the_end = &turn;
                }))
            };
            stream::once(opened).try_flatten().boxed()
        });
        Self {
            container,
            log: Some(open(Duration::ZERO)),
            open: Some(open),
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

    /// Which part of the log is needed: where the start-up's end is looked for it may be anywhere.
    pub fn part(matching: bool) -> LogPart {
        if matching { LogPart::All } else { LogPart::Tail(LAST_LINES) }
    }

    /// The next piece of the log; `None` when all is there that will come. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Bytes> {
        while let Some(log) = &mut self.log {
            match tokio::time::timeout_at(self.until, log.next()).await {
                Ok(Some(Ok(piece))) => return Some(piece),
                Ok(None) => self.read = true,
                Ok(Some(Err(error))) => {
                    if self.begin_again() {
                        continue;
                    }
                    tracing::info!(container = self.container, %error, "a console is taken up without its log");
                }
                Err(_) => {
                    let container = &self.container;
                    tracing::info!(
                        container,
                        "a console is taken up without the rest of its log, which takes too long"
                    );
                }
            }
            self.log = None;
            self.until = Instant::now() + LAG;
        }
        tokio::time::sleep_until(self.until).await;
        None
    }

    /// Reads the log from its beginning once more, unless it broke off too often.
    fn begin_again(&mut self) -> bool {
        self.breaks += 1;
        let Some(open) = self.open.as_ref().filter(|_| self.breaks <= BREAKS) else { return false };
        self.log = Some(open(Duration::from_secs(self.breaks.into())));
        self.lines = Lines::default();
        self.aligner = Aligner::new(std::mem::take(&mut self.aligner.anchor));
        self.window.clear();
        true
    }

    /// Takes a piece of the log and gives out its lines, for the matcher.
    pub fn feed(&mut self, piece: &[u8], mut line: impl FnMut(&[u8])) {
        let (aligner, overtaken) = (&mut self.aligner, self.overtaken);
        self.lines.feed(piece, |text| {
            line(text);
            if overtaken {
                aligner.look_at(text);
            } else {
                aligner.push(text);
            }
        });
        let piece = &piece[piece.len().saturating_sub(OVERLAP)..];
        let excess = (self.window.len() + piece.len()).saturating_sub(OVERLAP);
        self.window.drain(..excess);
        self.window.extend(piece);
    }

    /// Holds back what the attachment printed, unless it is too much: the server does not wait for its log. Then
    /// everything so far is given out, as by [`Replay::finish`], and nothing is to be held any more.
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

    /// Whether there are lines that were never read: the engine has rotated them away, or does not give them.
    pub fn has_gap(&self) -> bool {
        !self.read || self.aligner.has_gap()
    }

    /// Ends the replay: what is new, in order. `None` if that was given out already.
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

/// Finds in a log where a transcript ended.
struct Aligner {
    /// The transcript's last lines.
    anchor: Vec<u64>,
    /// The log's last lines, as many.
    recent: VecDeque<u64>,
    /// The most lines of the anchor's end that were found in a row.
    best: usize,
    /// What follows that place.
    new: VecDeque<Vec<u8>>,
    new_bytes: usize,
}

impl Aligner {
    fn new(anchor: Vec<u64>) -> Self {
        Self { recent: VecDeque::with_capacity(anchor.len()), anchor, best: 0, new: VecDeque::new(), new_bytes: 0 }
    }

    fn push(&mut self, line: &[u8]) {
        if self.look_at(line) {
            self.new.clear();
            self.new_bytes = 0;
            return;
        }
        self.new_bytes += line.len() + 1;
        self.new.push_back(line.to_vec());
        // More than the transcript takes at once is not held; the latest lines count.
        while self.new_bytes >= WAITING
            && let Some(oldest) = self.new.pop_front()
        {
            self.new_bytes -= oldest.len() + 1;
        }
    }

    /// Whether the transcript's last lines end here, as far as is known now.
    fn look_at(&mut self, line: &[u8]) -> bool {
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
