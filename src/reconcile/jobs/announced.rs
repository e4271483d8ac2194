//! How far a long operation is, as lines of the server's console: at most one a second, and one for each per cent.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::JobRun;
use crate::progress::{Progress, Speed, size};

/// The least time between two lines, and before the first one: what ends sooner needs none.
const INTERVAL: Duration = Duration::from_secs(1);

/// Announces the progress of `what` until it is dropped.
pub(super) async fn announce(run: &JobRun, what: String, progress: &Progress) -> Infallible {
    let began = Instant::now();
    let mut ticks = interval_at(began + INTERVAL, INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        ticks.tick().await;
        let (done, total) = (progress.done(), progress.total());
        let speed = Speed::of(done, total, began.elapsed().as_secs_f64());
        if speed.percent.is_some() && speed.percent != last {
            last = speed.percent;
            run.context.console.announce(run.server, &line(&what, done, total, speed));
        }
    }
}

/// One line, for people.
fn line(what: &str, done: u64, total: u64, speed: Speed) -> String {
    let percent = speed.percent.unwrap_or_default();
    let left = speed.left.map(|left| format!(", {left} s left")).unwrap_or_default();
    format!("{what}: {percent} % ({} of {}, {}/s{left})", size(done), size(total.max(done)), size(speed.rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_per_cent_bytes_rate_and_time() {
        let speed = Speed::of(1 << 30, 4 << 30, 8.0);
        assert_eq!(
            line("backup", 1 << 30, 4 << 30, speed),
            "backup: 25 % (1.0 GiB of 4.0 GiB, 128.0 MiB/s, 24 s left)"
        );
    }
}
