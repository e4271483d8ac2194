//! Events as browsers read them: websocket text frames with a JSON object each. Output is encoded once for all sockets.
//!
//! Source: websocket, "Framing".

use std::io::{self, Write};

use bytes::Bytes;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// The first byte of a frame that is a whole text message (RFC 6455, section 5.2).
const TEXT: u8 = 0x81;

/// The event of a line that a server, or the daemon on its console, prints.
pub const CONSOLE_OUTPUT: &str = "console output";
/// The event of a line that an installer prints, and of the progress of an image's pull.
pub const INSTALL_OUTPUT: &str = "install output";

/// The frame `{"event":…,"args":[…]}`. Without arguments `args` is left out.
pub fn frame(event: &str, args: &[&str]) -> Bytes {
    let mut message = Vec::new();
    write_message(&mut message, event, args);
    let mut frames = Vec::with_capacity(message.len() + 10);
    add_frame(&mut frames, &message);
    frames.into()
}

fn write_message(message: &mut Vec<u8>, event: &str, args: &[&str]) {
    message.extend_from_slice(b"{\"event\":");
    write_string(message, event);
    for (number, arg) in args.iter().enumerate() {
        message.extend_from_slice(if number == 0 { b",\"args\":[" } else { b"," });
        write_string(message, arg);
    }
    message.extend_from_slice(if args.is_empty() { b"}\n" } else { b"]}\n" });
}

/// Writes a string in quotes. What a page could take for HTML is escaped, as Wings does.
fn write_string(message: &mut Vec<u8>, text: &str) {
    // Writing to memory cannot fail, and neither can the serialization of a string.
    let _ = text.serialize(&mut Serializer::with_formatter(message, Escaped(CompactFormatter)));
}

struct Escaped(CompactFormatter);

impl Formatter for Escaped {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(position) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (before, special) = rest.split_at(position);
            writer.write_all(before.as_bytes())?;
            let mut after = special.chars();
            if let Some(special) = after.next() {
                write!(writer, "\\u{:04x}", u32::from(special))?;
            }
            rest = after.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Adds a text frame, unmasked as the frames of servers are.
fn add_frame(frames: &mut Vec<u8>, message: &[u8]) {
    frames.push(TEXT);
    match (u8::try_from(message.len()), u16::try_from(message.len())) {
        (Ok(length @ ..126), _) => frames.push(length),
        (_, Ok(length)) => {
            frames.push(126);
            frames.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frames.push(127);
            frames.extend_from_slice(&(message.len() as u64).to_be_bytes());
        }
    }
    frames.extend_from_slice(message);
}

/// Lines that were printed together, each as a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    frames: Bytes,
    lines: Vec<Line>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    number: u64,
    /// Where its message begins in the frames, and where it ends.
    message: (usize, usize),
}

impl Output {
    /// The frames of all lines, one after the other.
    pub fn frames(&self) -> &Bytes {
        &self.frames
    }

    /// The frames of the last lines, in so many bytes. At least the last line is among them.
    pub fn newest(&self, bytes: usize) -> Bytes {
        let starts = std::iter::once(0).chain(self.lines.iter().map(|line| line.message.1));
        let fits = |start: &usize| self.frames.len() - start <= bytes;
        let start = starts.take(self.lines.len()).find(fits);
        let last = self.lines.len().checked_sub(2).map_or(0, |before| self.lines[before].message.1);
        // A copy, so that the other lines are not kept.
        Bytes::copy_from_slice(&self.frames[start.unwrap_or(last)..])
    }

    /// The number of lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are no lines.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines, each with its number: see [`Handover`](crate::console::Handover).
    pub fn lines(&self) -> impl Iterator<Item = (u64, String)> + '_ {
        self.lines.iter().map(|line| {
            let message = &self.frames[line.message.0..line.message.1];
            let message: Result<Message, _> = serde_json::from_slice(message);
            (line.number, message.map(|message| message.args.0).unwrap_or_default())
        })
    }
}

/// A message with one argument.
#[derive(serde::Deserialize)]
struct Message {
    args: (String,),
}

/// Collects the lines of an [`Output`].
pub struct OutputBuilder {
    event: &'static str,
    frames: Vec<u8>,
    lines: Vec<Line>,
    /// Buffer of one message.
    message: Vec<u8>,
}

impl OutputBuilder {
    /// No lines yet, which are to be sent as this event.
    pub fn new(event: &'static str) -> Self {
        Self { event, frames: Vec::new(), lines: Vec::new(), message: Vec::new() }
    }

    /// Adds a line.
    pub fn push(&mut self, text: &str, number: u64) {
        self.message.clear();
        write_message(&mut self.message, self.event, &[text]);
        add_frame(&mut self.frames, &self.message);
        let end = self.frames.len();
        self.lines.push(Line { number, message: (end - self.message.len(), end) });
    }

    /// The bytes of the frames so far.
    pub fn bytes(&self) -> usize {
        self.frames.len()
    }

    /// The lines so far; `None` if there are none. Later ones form another [`Output`].
    pub fn take(&mut self) -> Option<Output> {
        if self.lines.is_empty() {
            return None;
        }
        let (mut frames, mut lines) = (std::mem::take(&mut self.frames), std::mem::take(&mut self.lines));
        // What is kept for slow readers is counted by its length.
        frames.shrink_to_fit();
        lines.shrink_to_fit();
        Some(Output { frames: frames.into(), lines })
    }
}

impl super::ring::Weigh for Output {
    fn bytes(&self) -> usize {
        self.frames.len() + self.lines.len() * size_of::<Line>()
    }

    fn count(&self) -> u64 {
        self.lines.len() as u64
    }
}

#[cfg(test)]
mod tests;
