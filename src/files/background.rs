//! Work that gives way to games: its reads and writes wait for those of all other programs, and so do its computations.

use std::marker::PhantomData;

use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::{CapabilitySet, capabilities};

use super::kernel::{IoPriority, set_io_priority};

/// The niceness of such work: a program that wakes up gets the processor at once.
const NICENESS: i32 = 19;

/// While it lives, this thread is served when nothing else waits: by disks, where their scheduler has priorities, and by processors.
/// Threads that it makes, as those that compress an archive, inherit that.
#[derive(Debug)]
pub struct Background {
    /// The niceness before.
    former: i32,
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Background {
    /// From now on.
    pub fn begin() -> Self {
        let former = getpriority_process(None).unwrap_or_default();
        set(IoPriority::Idle, NICENESS);
        Self { former, _thread: PhantomData }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        set(IoPriority::Default, self.former);
    }
}

fn set(priority: IoPriority, niceness: i32) {
    if let Err(error) = set_io_priority(priority) {
        tracing::debug!(%error, ?priority, "the priority of reads and writes stays");
    }
    // Without this capability a thread would stay as it is made here for ever, and do other work later.
    if capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_NICE))
        && let Err(error) = setpriority_process(None, niceness)
    {
        tracing::debug!(%error, niceness, "the niceness stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gives_way_while_it_works_and_so_do_those_that_it_makes() {
        let class = || {
            // Shown by the tool of util-linux, where that is installed.
            let shown =
                std::process::Command::new("ionice").args(["-p", &rustix::thread::gettid().to_string()]).output();
            shown.ok().map(|shown| String::from_utf8_lossy(&shown.stdout).trim().to_owned())
        };
        let niceness = || getpriority_process(None).unwrap();
        let before = (class(), niceness());
        let background = Background::begin();
        let during = (class(), niceness());
        std::thread::scope(|scope| {
            assert_eq!(scope.spawn(|| (class(), niceness())).join().unwrap(), during);
        });
        drop(background);
        if during.0.is_some() {
            assert_eq!(during.0.as_deref(), Some("idle"));
        }
        if capabilities(None).unwrap().effective.contains(CapabilitySet::SYS_NICE) {
            assert_eq!(during.1, NICENESS);
        }
        assert_eq!((class(), niceness()), before);
    }
}
