//! A server's lines on their way to viewers: within the limit of the node, in one event for the lines of one read, and with the
//! features of the egg that they announce.

use tokio::sync::watch;
use tokio::time::Instant;

use super::Sinks;
use super::features::{FeatureMatcher, Features};
use super::throttle::{Throttle, Verdict};
use super::transcript::Transcript;
use crate::events::EventKind;
use crate::events::frames::{CONSOLE_OUTPUT, OutputBuilder};
use crate::runtime::lines::display_text;

/// Lines are published once their frames have this many bytes.
const FULL: usize = 64 * 1024;
/// The text for viewers at the first line that they do not get.
const NOTICE: &str = "Server is outputting console data too quickly -- throttling...";

/// The viewers of one attachment.
pub(super) struct Viewers {
    sinks: Sinks,
    features: watch::Receiver<Features>,
    matcher: FeatureMatcher,
    throttle: Throttle,
    now: Instant,
    output: OutputBuilder,
}

impl Viewers {
    /// Viewers of a server whose start begins, or is read on.
    pub fn new(sinks: Sinks, mut features: watch::Receiver<Features>, throttle: Throttle) -> Self {
        features.mark_changed();
        let (matcher, output) = (FeatureMatcher::default(), OutputBuilder::new(CONSOLE_OUTPUT));
        Self { sinks, features, matcher, throttle, now: Instant::now(), output }
    }

    /// The time of later lines.
    pub fn set_time(&mut self, now: Instant) {
        self.now = now;
    }

    fn transcript(&self) -> &Transcript {
        &self.sinks.transcript
    }

    /// Adds a line with its number in the transcript. One that is `important`, or announces a feature, is not dropped.
    ///
    /// Call after the line was added to the transcript: a viewer that subscribes in between finds it there.
    pub fn show(&mut self, line: &[u8], number: u64, important: bool) {
        let server = self.transcript().server();
        if !self.sinks.events.is_watched(server) {
            return;
        }
        let line = &display_text(line);
        if self.features.has_changed().unwrap_or(false) {
            self.matcher = FeatureMatcher::new(server, &self.features.borrow_and_update());
        }
        let feature = self.matcher.find(line);
        let verdict = self.throttle.count(self.now);
        if verdict == Verdict::Show || important || feature.is_some() {
            self.output.push(line, number);
        }
        if verdict == Verdict::DropFirst {
            self.publish();
            self.sinks.announce(NOTICE);
        }
        if let Some(feature) = feature {
            self.publish();
            self.sinks.events.publish_output(server, || EventKind::FeatureMatch(feature));
        }
        if self.output.bytes() >= FULL {
            self.publish();
        }
    }

    /// Publishes the lines that were added.
    pub fn publish(&mut self) {
        if let Some(output) = self.output.take() {
            self.sinks.events.publish_output(self.transcript().server(), || EventKind::Console(output));
        }
    }
}
