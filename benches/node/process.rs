//! What the kernel says about a process.

use std::time::Duration;

/// Memory of a process, KiB.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Resident.
    pub resident: u64,
    /// Its own: heap and stacks, no files.
    pub anonymous: u64,
}

/// Reads a process's memory.
pub fn memory(pid: u32) -> Memory {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("a process");
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).expect("a field");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    };
    Memory { resident: field("Rss:"), anonymous: field("Anonymous:") }
}

/// CPU time that the threads of a process have used so far, to the nanosecond. Threads that ended are not in it, which
/// is why nothing may end between two looks.
pub fn cpu(pid: u32) -> (Duration, usize) {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let (mut nanos, mut threads) = (0, 0);
    for task in tasks.flatten() {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanos += text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
        threads += 1;
    }
    (Duration::from_nanos(nanos), threads)
}

/// CPU time that a process has used so far, with threads that ended, to the hundredth of a second.
pub fn cpu_ever(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    // The name before it may hold anything.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    // The kernel counts in hundredths of a second for programs, whatever its own clock does.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Waits until a process has used next to no CPU time for a second.
pub async fn quiet(pid: u32) {
    for _ in 0..60 {
        let (before, _) = cpu(pid);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (after, _) = cpu(pid);
        if after.saturating_sub(before) < Duration::from_micros(500) {
            return;
        }
    }
    eprintln!("the daemon did not become idle within a minute");
}
