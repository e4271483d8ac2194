//! The points at which tests end an operation as a crash does.

/// Called before each change of the disk. Outside of tests it does nothing.
///
/// # Errors
/// In a test, the operation has come to the point at which it is to end. All later points fail, too.
#[cfg(not(test))]
#[inline]
#[allow(clippy::unnecessary_wraps, reason = "tests fail here")]
pub(super) fn crash_point() -> rustix::io::Result<()> {
    Ok(())
}

/// Whether directories are exchanged in one step. Tests play a file system that cannot.
#[cfg(not(test))]
#[inline]
pub(super) fn can_exchange() -> bool {
    true
}

#[cfg(test)]
pub(super) use in_tests::{can_exchange, crash_after, crash_point, without_exchange};

#[cfg(test)]
mod in_tests {
    use std::cell::Cell;

    thread_local! {
        /// How many more points are passed; `None`: all.
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    thread_local! {
        static NO_EXCHANGE: Cell<bool> = const { Cell::new(false) };
    }

    /// As the other one.
    pub(in super::super) fn can_exchange() -> bool {
        !NO_EXCHANGE.get()
    }

    /// Whether this thread is to run on a file system that cannot exchange.
    pub(in super::super) fn without_exchange(yes: bool) {
        NO_EXCHANGE.set(yes);
    }

    /// As the other one.
    pub(in super::super) fn crash_point() -> rustix::io::Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => Err(rustix::io::Errno::OWNERDEAD),
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }

    /// Runs `work` in this thread, and ends it after so many points.
    pub(in super::super) fn crash_after<T>(points: u32, work: impl FnOnce() -> T) -> T {
        LEFT.set(Some(points));
        let result = work();
        LEFT.set(None);
        result
    }
}
