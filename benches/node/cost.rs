//! What work costs in this process and in programs, and content of files for it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::process;

/// CPU and wall time in seconds, memory above idle in MiB.
pub struct Cost {
    pub cpu: f64,
    pub wall: f64,
    pub memory: f64,
}

/// Measures work of this process.
pub fn measure(work: impl FnOnce()) -> Cost {
    let pid = std::process::id();
    let idle = process::memory(pid).anonymous;
    let (peak, ended) = (Arc::new(AtomicU64::new(idle)), Arc::new(AtomicBool::new(false)));
    let (sampled, until) = (peak.clone(), ended.clone());
    let sampler = std::thread::Builder::new().spawn(move || {
        while !until.load(Ordering::Relaxed) {
            sampled.fetch_max(process::memory(pid).anonymous, Ordering::Relaxed);
            std::thread::park_timeout(Duration::from_millis(20));
        }
    });
    let sampler = sampler.expect("a thread");
    let (before, began) = (process::cpu_ever(pid), Instant::now());
    work();
    let (wall, cpu) = (began.elapsed(), process::cpu_ever(pid) - before);
    ended.store(true, Ordering::Relaxed);
    sampler.thread().unpark();
    sampler.join().expect("the sampler");
    let memory = (peak.load(Ordering::Relaxed) - idle) as f64 / 1024.0;
    Cost { cpu: cpu.as_secs_f64(), wall: wall.as_secs_f64(), memory }
}

/// Runs a command of the shell; the time of its children is in what `times` prints last.
pub fn shell(folder: &Path, command: &str) -> Cost {
    let began = Instant::now();
    let script = format!("set -o pipefail; {command}; times");
    let run = Command::new("bash").current_dir(folder).args(["-c", &script]).stderr(Stdio::inherit()).output();
    let run = run.expect("bash, tar and pigz");
    assert!(run.status.success(), "{command}");
    let text = String::from_utf8(run.stdout).expect("times");
    let children = text.lines().last().expect("times");
    let cpu = children.split(' ').map(|time| {
        let (minutes, seconds) = time.trim_end_matches('s').split_once('m').expect("a time");
        minutes.parse::<f64>().expect("minutes") * 60.0 + seconds.parse::<f64>().expect("seconds")
    });
    Cost { cpu: cpu.sum(), wall: began.elapsed().as_secs_f64(), memory: 0.0 }
}

/// Numbers that are the same in each run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length / 8).flat_map(|_| self.next().to_le_bytes()).collect()
    }

    /// A piece with so many random bytes, then zeros.
    pub fn chunk(&mut self, length: usize, random: usize) -> Vec<u8> {
        let mut piece = self.bytes(random);
        piece.resize(length, 0);
        piece
    }

    /// Lines of a server's log.
    pub fn log(&mut self, length: usize) -> Vec<u8> {
        let mut content = Vec::with_capacity(length);
        while content.len() < length {
            let line = format!(
                "[12:{:02}:{:02}] [Server thread/INFO]: Player{} moved to {}, {}\n",
                self.below(60),
                self.below(60),
                self.below(100),
                self.below(10_000),
                self.below(10_000)
            );
            content.extend_from_slice(line.as_bytes());
        }
        content
    }
}
