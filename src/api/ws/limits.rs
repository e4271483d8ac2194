//! How many messages a socket may send: token buckets. Pure. Source: websocket, "Rate limits".

use std::time::Duration;

use tokio::time::Instant;

use super::inbound::Kind;

/// The argument of `throttled` for the limit on all messages.
const GLOBAL: &str = "global";

/// A bucket: a burst of messages, and then one in each interval.
#[derive(Debug, Clone)]
struct Bucket {
    interval: Duration,
    burst: u32,
    /// When the bucket is full again.
    full_at: Option<Instant>,
    /// The latest message was over the limit.
    exceeded: bool,
}

/// A message is over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded<'a> {
    /// What the client learns, at the first such message in a row.
    pub notice: Option<&'a str>,
}

/// The limits of one socket.
#[derive(Debug, Clone)]
pub struct Limits {
    all: Bucket,
    auth: Bucket,
    logs: Bucket,
    command: Bucket,
    other: Bucket,
}

impl Limits {
    /// All buckets are full.
    pub fn new() -> Self {
        let second = Duration::from_secs(1);
        Self {
            all: Bucket::new(second / 5, 10),
            auth: Bucket::new(5 * second, 2),
            logs: Bucket::new(5 * second, 2),
            command: Bucket::new(second, 10),
            other: Bucket::new(second, 4),
        }
    }

    /// Counts a message with this event that comes now.
    ///
    /// # Errors
    /// It is over a limit, and is to be dropped.
    pub fn count<'a>(&mut self, kind: Kind, event: &'a str, now: Instant) -> Result<(), Exceeded<'a>> {
        self.all.take(now).map_err(|first| Exceeded { notice: first.then_some(GLOBAL) })?;
        let bucket = match kind {
            Kind::Auth => &mut self.auth,
            Kind::SendLogs => &mut self.logs,
            Kind::SendCommand => &mut self.command,
            Kind::SetState | Kind::SendStats | Kind::Unknown => &mut self.other,
        };
        bucket.take(now).map_err(|first| Exceeded { notice: first.then_some(event) })
    }
}

impl Bucket {
    fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, burst, full_at: None, exceeded: false }
    }

    /// Takes a token. The error says whether it is the first one in a row.
    fn take(&mut self, now: Instant) -> Result<(), bool> {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now));
        if full_at - now > self.interval * (self.burst - 1) {
            return Err(!std::mem::replace(&mut self.exceeded, true));
        }
        self.full_at = Some(full_at + self.interval);
        self.exceeded = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The results of messages at these milliseconds: taken, over the limit with a notice, and without.
    fn results(kind: Kind, at: &[u64]) -> String {
        let (mut limits, began) = (Limits::new(), Instant::now());
        let result = |at: &u64| match limits.count(kind, "name", began + Duration::from_millis(*at)) {
            Ok(()) => '+',
            Err(Exceeded { notice: Some(GLOBAL) }) => 'G',
            Err(Exceeded { notice: Some(_) }) => 'N',
            Err(Exceeded { notice: None }) => '-',
        };
        at.iter().map(result).collect()
    }

    #[test]
    fn each_kind_of_message_has_its_own_limit() {
        let at_once = [0; 12];
        assert_eq!(results(Kind::Auth, &at_once), "++N-------G-");
        assert_eq!(results(Kind::SendLogs, &at_once), "++N-------G-");
        assert_eq!(results(Kind::SendCommand, &at_once), "++++++++++G-");
        assert_eq!(results(Kind::SetState, &at_once), "++++N-----G-");
        assert_eq!(results(Kind::Unknown, &at_once), "++++N-----G-");
    }

    #[test]
    fn a_bucket_is_refilled_and_a_later_excess_is_noticed_again() {
        assert_eq!(results(Kind::Auth, &[0, 0, 0, 4999, 5000, 5001, 10_000, 10_001]), "++N-+N+N");
        assert_eq!(results(Kind::SendStats, &[0, 0, 0, 0, 0, 60_000, 60_000, 60_000, 60_000, 60_000]), "++++N++++N");
    }

    #[test]
    fn kinds_do_not_share_a_limit_except_that_of_all_messages() {
        let (mut limits, now) = (Limits::new(), Instant::now());
        for _ in 0..4 {
            assert!(limits.count(Kind::SetState, "set state", now).is_ok());
        }
        assert_eq!(limits.count(Kind::SendStats, "send stats", now), Err(Exceeded { notice: Some("send stats") }));
        assert!(limits.count(Kind::SendCommand, "send command", now).is_ok());
    }

    proptest! {
        /// Whatever the gaps are, no window has more than its burst and what is refilled in it.
        #[test]
        fn no_window_has_more_than_its_share(gaps in prop::collection::vec(0_u64..700, 1..100)) {
            let (mut bucket, began, mut at) = (Bucket::new(Duration::from_millis(200), 10), Instant::now(), 0);
            let mut taken = Vec::new();
            for gap in gaps {
                at += gap;
                if bucket.take(began + Duration::from_millis(at)).is_ok() {
                    taken.push(at);
                }
            }
            for (position, from) in taken.iter().enumerate() {
                for (count, to) in taken[position..].iter().enumerate() {
                    prop_assert!(count as u64 <= 10 + (to - from) / 200);
                }
            }
        }
    }
}
