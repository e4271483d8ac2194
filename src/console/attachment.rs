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
use tokio::time::Instant;

use super::done::DoneMatcher;
use super::replay::{Replay, Rest};
use super::transcript::Transcript;
use super::viewers::Viewers;
use crate::model::settings::Startup;
use crate::runtime::lines::{Lines, display_text};
use crate::runtime::{Attachment, Output};

/// Bytes for the input, and where the result is sent.
pub(super) type Command = (Vec<u8>, oneshot::Sender<io::Result<()>>);

/// The state of an attachment's task.
pub(super) struct Session<F> {
    startup: watch::Receiver<Option<Startup>>,
    transcript: Transcript,
    viewers: Box<Viewers>,
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
        transcript: Transcript,
        viewers: Box<Viewers>,
        on_done: F,
        replay: Option<Box<Replay>>,
    ) -> Self {
        startup.mark_changed();
        Self { startup, transcript, viewers, on_done, replay, matcher: None, lines: Lines::default() }
    }

    /// Runs until the output ends.
    pub async fn run(mut self, terminal: Attachment, commands: mpsc::Receiver<Command>) {
        tokio::select! {
            () = self.read(terminal.output) => {}
            () = write(terminal.input, commands) => {}
        }
        let Self { lines, transcript, viewers, .. } = &mut self;
        lines.finish(|piece| viewers.show(piece, transcript.print_unfinished(piece), false));
        viewers.publish();
        transcript.flush();
    }

    async fn read(&mut self, mut output: Output) {
        let server = self.transcript.server();
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
                replay.feed(&piece, |line| _ = match_done(matcher, line, on_done));
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
        for line in &rest.new {
            self.viewers.show(line, self.transcript.print(line), false);
        }
        self.lines = rest.lines;
        self.feed(&rest.output);
    }

    fn feed(&mut self, piece: &[u8]) {
        let Self { lines, matcher, on_done, transcript, viewers, .. } = self;
        viewers.set_time(Instant::now());
        lines.feed(piece, |line| {
            let done = match_done(matcher, line, on_done);
            viewers.show(line, transcript.print(line), done);
        });
        viewers.publish();
    }
}

/// Matches one line, until the first match. Returns whether it is this line.
fn match_done(matcher: &mut Option<DoneMatcher>, line: &[u8], on_done: &impl Fn()) -> bool {
    let done = matcher.as_ref().is_some_and(|matcher| matcher.matches(&display_text(line)));
    if done {
        *matcher = None;
        on_done();
    }
    done
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
