//! The task of one attachment: it owns both halves of a container's terminal until the container or the connection
//! ends.
//!
//! ```text
//!              log ended, or output
//!  Replaying ──── cannot wait ────▶ Live ──▶ ended
//!      │                                       ▲
//!      └──── output ended: log to its end ─────┘
//! ```
//!
//! The output is read at all times. Commands are written concurrently, one line at a time, so a server that does not read its
//! input does not block its output.

use std::io;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::done::DoneMatcher;
use super::replay::{Replay, Rest};
use super::transcript::Transcript;
use crate::events::{EventKind, Events};
use crate::runtime::lines::{Lines, display_text};
use crate::runtime::{Attachment, RuntimeError};

/// An order to the task of an attachment.
pub(super) enum Order {
    /// Write these bytes to the input, and send the result.
    Type(Vec<u8>, oneshot::Sender<io::Result<()>>),
    /// Match later lines with this matcher.
    Match(DoneMatcher),
}

/// The destinations of lines.
#[derive(Clone)]
pub(super) struct Sinks {
    pub transcript: Transcript,
    pub events: Events,
}

impl Sinks {
    fn print(&self, line: &[u8]) {
        let number = self.transcript.print(line);
        self.publish(line, number);
    }

    fn print_unfinished(&self, piece: &[u8]) {
        let number = self.transcript.print_unfinished(piece);
        self.publish(piece, number);
    }

    fn publish(&self, line: &[u8], number: u64) {
        let make = || EventKind::Console { line: display_text(line).into(), number };
        self.events.publish_output(self.transcript.server(), make);
    }
}

/// The state of an attachment's task.
pub(super) struct Session<F> {
    pub terminal: Attachment,
    pub orders: mpsc::Receiver<Order>,
    pub sinks: Sinks,
    /// Set until the start-up has finished.
    pub matcher: Option<DoneMatcher>,
    /// Called when the start-up has finished.
    pub on_done: F,
    pub lines: Lines,
    /// The container's log, until it is read to its end.
    pub replay: Option<Box<Replay>>,
}

/// A command that is being written.
struct Typing {
    bytes: Bytes,
    done: oneshot::Sender<io::Result<()>>,
}

impl<F: Fn()> Session<F> {
    /// Runs until the output ends.
    pub async fn run(mut self) {
        let mut typing: Option<Typing> = None;
        let mut output_ended = false;
        while !output_ended || self.replay.is_some() {
            tokio::select! {
                biased;
                Some(order) = self.orders.recv(), if typing.is_none() => typing = self.take_order(order),
                written = write_some(&mut self.terminal.input, &mut typing) => {
                    settle(&mut typing, written);
                    // A stream of commands must not keep the output from being read.
                    if let Some(piece) = (!output_ended).then(|| self.terminal.output.next().now_or_never()).flatten() {
                        output_ended = self.take_output(piece);
                    }
                }
                piece = next_of_log(&mut self.replay) => self.take_log(piece),
                piece = self.terminal.output.next(), if !output_ended => output_ended = self.take_output(piece),
            }
        }
        let sinks = &self.sinks;
        self.lines.finish(|piece| sinks.print_unfinished(piece));
        sinks.transcript.flush();
    }

    fn take_order(&mut self, order: Order) -> Option<Typing> {
        match order {
            // The caller has given up.
            Order::Type(_, done) if done.is_closed() => None,
            Order::Type(bytes, done) => Some(Typing { bytes: bytes.into(), done }),
            Order::Match(matcher) => {
                self.matcher = Some(matcher);
                None
            }
        }
    }

    /// Takes a piece of the output; returns whether it was the end.
    fn take_output(&mut self, piece: Option<Result<Bytes, RuntimeError>>) -> bool {
        match piece {
            Some(Ok(piece)) => {
                self.hold_or_feed(&piece);
                false
            }
            Some(Err(error)) => {
                tracing::debug!(server = %self.sinks.transcript.server(), %error, "attachment broke");
                true
            }
            None => true,
        }
    }

    fn hold_or_feed(&mut self, piece: &[u8]) {
        match self.replay.as_mut().filter(|replay| replay.holds()) {
            None => self.feed(piece),
            Some(replay) => {
                let rest = replay.hold(piece);
                self.take_rest(rest);
            }
        }
    }

    fn take_log(&mut self, piece: Option<Bytes>) {
        match (piece, &mut self.replay) {
            (Some(piece), Some(replay)) => {
                let (matcher, on_done) = (&mut self.matcher, &self.on_done);
                replay.feed(&piece, |line| match_done(matcher, line, on_done));
            }
            (None, _) => {
                let replay = self.replay.take();
                if replay.as_ref().is_some_and(|replay| replay.has_gap()) && self.matcher.take().is_some() {
                    // The line that ends the start-up may be among the lost ones.
                    (self.on_done)();
                }
                self.take_rest(replay.and_then(|replay| replay.finish()));
            }
            (Some(_), None) => {}
        }
    }

    fn take_rest(&mut self, rest: Option<Rest>) {
        let Some(rest) = rest else { return };
        rest.new.iter().for_each(|line| self.sinks.print(line));
        self.lines = rest.lines;
        self.feed(&rest.output);
    }

    fn feed(&mut self, piece: &[u8]) {
        let Self { lines, matcher, on_done, sinks, .. } = self;
        lines.feed(piece, |line| {
            match_done(matcher, line, on_done);
            sinks.print(line);
        });
    }
}

/// Matches one line, until the first match.
fn match_done(matcher: &mut Option<DoneMatcher>, line: &[u8], on_done: &impl Fn()) {
    if matcher.as_ref().is_some_and(|matcher| matcher.matches(&display_text(line))) {
        *matcher = None;
        on_done();
    }
}

/// The next piece of the log, if one is read. Dropping the future loses nothing.
async fn next_of_log(replay: &mut Option<Box<Replay>>) -> Option<Bytes> {
    match replay {
        Some(replay) => replay.next().await,
        None => std::future::pending().await,
    }
}

/// Writes as much as the terminal takes, if anything is to be written. Dropping the future loses nothing.
async fn write_some(input: &mut (dyn AsyncWrite + Send + Unpin), typing: &mut Option<Typing>) -> io::Result<usize> {
    match typing {
        Some(typing) if typing.bytes.is_empty() => input.flush().await.map(|()| 0),
        Some(typing) => match input.write(&typing.bytes).await {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            written => written,
        },
        None => std::future::pending().await,
    }
}

/// Counts the written bytes, and answers the caller when all are written.
fn settle(typing: &mut Option<Typing>, written: io::Result<usize>) {
    let Some(mut line) = typing.take() else { return };
    let result = match written {
        Ok(0) => Ok(()),
        Ok(count) => {
            let _written = line.bytes.split_to(count);
            *typing = Some(line);
            return;
        }
        Err(error) => Err(error),
    };
    // The caller may have given up.
    let _ = line.done.send(result);
}

#[cfg(test)]
mod tests;
