//! The limit on lines for viewers: so many in each interval. Pure.
//!
//! Source: websocket, "Console stream".

use tokio::time::Instant;

use crate::config::ConsoleLimit;

/// The count of one run of a server.
#[derive(Debug)]
pub struct Throttle {
    limit: Option<ConsoleLimit>,
    /// The beginning of the current interval, and its lines so far.
    current: Option<(Instant, u64)>,
    /// Lines were dropped in the current interval, or in the one right before it.
    throttling: bool,
}

/// What happens to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Viewers get it.
    Show,
    /// Viewers do not get it, and learn that lines are missing.
    DropFirst,
    /// Viewers do not get it, as those before it.
    Drop,
}

impl Throttle {
    /// No lines so far.
    pub fn new(limit: Option<ConsoleLimit>) -> Self {
        Self { limit, current: None, throttling: false }
    }

    /// Counts a line that is printed now.
    pub fn count(&mut self, now: Instant) -> Verdict {
        let Some(limit) = self.limit else { return Verdict::Show };
        let (began, lines) = match self.current {
            Some((began, lines)) if now.saturating_duration_since(began) < limit.interval => (began, lines + 1),
            before => {
                self.throttling &= before.is_some_and(|(began, lines)| {
                    lines > limit.lines && now.saturating_duration_since(began) < 2 * limit.interval
                });
                (now, 1)
            }
        };
        self.current = Some((began, lines));
        if lines <= limit.lines {
            Verdict::Show
        } else if std::mem::replace(&mut self.throttling, true) {
            Verdict::Drop
        } else {
            Verdict::DropFirst
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMIT: ConsoleLimit = ConsoleLimit { lines: 3, interval: Duration::from_millis(100) };

    /// The verdicts of lines at these milliseconds.
    fn verdicts(limit: Option<ConsoleLimit>, at: &[u64]) -> String {
        let (mut throttle, began) = (Throttle::new(limit), Instant::now());
        let verdict = |at: &u64| match throttle.count(began + Duration::from_millis(*at)) {
            Verdict::Show => 's',
            Verdict::DropFirst => 'N',
            Verdict::Drop => '-',
        };
        at.iter().map(verdict).collect()
    }

    #[test]
    fn lines_beyond_the_limit_of_an_interval_are_dropped_with_one_notice_for_an_episode() {
        let cases: [(&[u64], &str); 5] = [
            (&[0, 1, 2, 100, 101, 102, 200], "sssssss"),
            (&[0, 1, 2, 3, 4, 99, 100], "sssN--s"),
            // Bursts in intervals that follow each other; with a quiet one between them; with an empty one.
            (&[0, 0, 0, 0, 100, 100, 100, 100, 100], "sssNsss--"),
            (&[0, 0, 0, 0, 100, 200, 200, 200, 200], "sssNssssN"),
            (&[0, 0, 0, 0, 250, 250, 250, 250], "sssNsssN"),
        ];
        for (at, expected) in cases {
            assert_eq!(verdicts(Some(LIMIT), at), expected, "{at:?}");
        }
    }

    #[test]
    fn without_a_limit_all_lines_are_shown() {
        assert_eq!(verdicts(None, &[0; 50]), "s".repeat(50));
    }
}
