//! Work whose reads and writes wait for those of all other programs.

use std::marker::PhantomData;

use super::kernel::{IoPriority, set_io_priority};

/// While it lives, disks serve this thread when nothing else waits. Schedulers without priorities ignore it.
#[derive(Debug)]
pub struct IdleIo {
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl IdleIo {
    /// From now on.
    pub fn begin() -> Self {
        set(IoPriority::Idle);
        Self { _thread: PhantomData }
    }
}

impl Drop for IdleIo {
    fn drop(&mut self) {
        set(IoPriority::Default);
    }
}

fn set(priority: IoPriority) {
    if let Err(error) = set_io_priority(priority) {
        tracing::debug!(%error, ?priority, "the priority of reads and writes stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_idle_while_it_works() {
        let class = || {
            // Shown by the tool of util-linux, where that is installed.
            let shown =
                std::process::Command::new("ionice").args(["-p", &rustix::thread::gettid().to_string()]).output();
            shown.ok().map(|shown| String::from_utf8_lossy(&shown.stdout).trim().to_owned())
        };
        let before = class();
        let idle = IdleIo::begin();
        let during = class();
        drop(idle);
        if during.is_some() {
            assert_eq!(during.as_deref(), Some("idle"));
        }
        assert_eq!(class(), before);
    }
}
