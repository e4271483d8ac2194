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
use futures_util::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};

use super::done::DoneMatcher;
use super::replay::{Replay, Rest};
use super::transcript::Transcript;
use crate::events::{EventKind, Events};
use crate::model::settings::Startup;
use crate::runtime::lines::{Lines, display_text};
use crate::runtime::{Attachment, Output};

/// Bytes for the input, and where the result is sent.
pub(super) type Command = (Vec<u8>, oneshot::Sender<io::Result<()>>);

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
    startup: watch::Receiver<Option<Startup>>,
    sinks: Sinks,
    /// Called when the start-up has finished.
    on_done: F,
    /// The container's log, until it is read to its end.
    replay: Option<Box<Replay>>,
    /// Set until the start-up has finished.
    matcher: Option<DoneMatcher>,
    lines: Lines,
}

impl<F: Fn()> Session<F> {
    /// A session that matches the start-up in `startup`, and each other one that is sent later.
    pub fn new(
        mut startup: watch::Receiver<Option<Startup>>,
        sinks: Sinks,
        on_done: F,
        replay: Option<Box<Replay>>,
    ) -> Self {
        startup.mark_changed();
        Self { startup, sinks, on_done, replay, matcher: None, lines: Lines::default() }
    }

    /// Runs until the output ends.
    pub async fn run(mut self, terminal: Attachment, commands: mpsc::Receiver<Command>) {
        tokio::select! {
            () = self.read(terminal.output) => {}
            () = write(terminal.input, commands) => {}
        }
        let sinks = &self.sinks;
        self.lines.finish(|piece| sinks.print_unfinished(piece));
        sinks.transcript.flush();
    }

    async fn read(&mut self, mut output: Output) {
        let server = self.sinks.transcript.server();
        let mut ended = false;
        while !ended || self.replay.is_some() {
            tokio::select! {
                biased;
                Ok(()) = self.startup.changed() => {
                    let startup = self.startup.borrow_and_update();
                    self.matcher = startup.as_ref().map(|startup| DoneMatcher::new(server, startup));
                }
                piece = next_of_log(&mut self.replay) => self.take_log(piece),
                piece = output.next(), if !ended => match piece {
                    Some(Ok(piece)) => self.hold_or_feed(&piece),
                    Some(Err(error)) => {
                        tracing::debug!(%server, %error, "attachment broke");
                        ended = true;
                    }
                    None => ended = true,
                }
            }
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

/// Writes commands one after the other. Never returns.
async fn write(mut input: Box<dyn AsyncWrite + Send + Unpin>, mut commands: mpsc::Receiver<Command>) {
    while let Some((bytes, done)) = commands.recv().await {
        if done.is_closed() {
            // The caller has given up.
            continue;
        }
        let written = match input.write_all(&bytes).await {
            Ok(()) => input.flush().await,
            error => error,
        };
        // The caller may have given up.
        let _ = done.send(written);
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests;
