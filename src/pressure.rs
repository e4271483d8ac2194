//! How much the programs of this host wait for disks, as the kernel measures it, and work that gives way to them.
//!
//! `/proc/pressure/io` counts this work, too, so it never stops for pressure: it goes on with a quarter of its time.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where the kernel has it. Not there if it was built or started without.
const PATH: &str = "/proc/pressure/io";
/// The part of the last ten seconds in which some program waited, in per cent, from which on work gives way.
const HIGH: f32 = 20.0;
/// The file is read this often.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// Work pauses for so many times as long as it worked.
const PAUSES: u32 = 3;
/// The longest pause. A cancellation is noticed after it.
const MAX_PAUSE: Duration = Duration::from_millis(250);

/// The pressure on the disks of the host.
#[derive(Debug)]
pub struct IoPressure {
    path: PathBuf,
    read: Mutex<Option<(Instant, bool)>>,
}

impl Default for IoPressure {
    fn default() -> Self {
        Self { path: PATH.into(), read: Mutex::default() }
    }
}

impl IoPressure {
    /// Whether programs wait for disks now. Reads a file now and then.
    fn is_high(&self) -> bool {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match *read {
            Some((at, high)) if at.elapsed() < READ_INTERVAL => high,
            _ => {
                let text = std::fs::read_to_string(&self.path).unwrap_or_default();
                let high = some_average(&text).is_some_and(|average| average >= HIGH);
                *read = Some((Instant::now(), high));
                high
            }
        }
    }
}

/// One piece of work that gives way.
#[derive(Debug)]
pub struct Yielding<'a> {
    pressure: &'a IoPressure,
    /// When it went on after the last pause.
    since: Mutex<Instant>,
}

impl<'a> Yielding<'a> {
    /// Work that begins now.
    pub fn new(pressure: &'a IoPressure) -> Self {
        Self { pressure, since: Mutex::new(Instant::now()) }
    }

    /// Call it between pieces: pauses while other programs wait for disks. Blocks.
    #[expect(clippy::disallowed_methods, reason = "the work has this thread for itself, and nothing signals its turn")]
    pub fn pause(&self) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if self.pressure.is_high() {
            std::thread::sleep(pause(since.elapsed()));
        }
        *since = Instant::now();
    }
}

fn pause(worked: Duration) -> Duration {
    (worked * PAUSES).min(MAX_PAUSE)
}

/// `avg10` of the line `some`. Source: the kernel's documentation, "PSI - Pressure Stall Information".
fn some_average(text: &str) -> Option<f32> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    line.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_of_ten_seconds_counts() {
        let text = "some avg10=23.50 avg60=1.00 avg300=0.10 total=1\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(some_average(text), Some(23.5));
        for text in ["", "some", "some avg10=x", "full avg10=1.00"] {
            assert_eq!(some_average(text), None, "{text}");
        }
    }

    #[test]
    fn work_gives_way_while_the_pressure_is_high() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("io");
        let pressure = IoPressure { path: path.clone(), read: Mutex::default() };
        assert!(!pressure.is_high(), "a kernel without it");
        std::fs::write(&path, "some avg10=20.00 avg60=0.00 avg300=0.00 total=0").unwrap();
        assert!(!pressure.is_high(), "not read again at once");
        *pressure.read.lock().unwrap() = None;
        assert!(pressure.is_high());
        assert_eq!(pause(Duration::from_millis(10)), Duration::from_millis(30));
        assert_eq!(pause(Duration::from_secs(10)), MAX_PAUSE);
    }
}
