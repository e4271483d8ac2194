//! The bytes of one server's files, and its disk limit: one account for all ways to write, shared by all who do.
//!
//! Writers of alula charge bytes before they write them, and release what they remove. What the game writes is known only from
//! a measurement, which takes a while and runs next to the writers. The rule by which it changes the account:
//!
//! ```text
//! low  = measured − released since the measurement began
//! high = measured + charged since the measurement began + charges that were open when it began
//! used = used, moved to the nearest value in low..=high
//! ```
//!
//! Each charge and release that the measurement may have seen or missed is inside this range, so as long as the account and the
//! measurement can both be right, the account stays as it is: nothing is counted twice, and nothing is lost. What is outside was
//! written or removed by others. Without writers the range is one value, and the measurement replaces the account.
//!
//! Where the kernel counts the files, its count is asked for at most every 50 ms, and is such a measurement.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the kernel's count is used before it is asked for again.
const FRESH: Duration = Duration::from_millis(50);

/// Asks the kernel for the bytes of a server's files.
pub type Meter = Box<dyn Fn() -> Option<u64> + Send>;

/// Bytes used and their limit. Cheap to ask; every function returns at once.
#[derive(Debug, Default)]
pub struct DiskAccount {
    books: Mutex<Books>,
    kernel: Mutex<Kernel>,
}

/// The kernel's count, where there is one.
#[derive(Default)]
struct Kernel {
    meter: Option<Meter>,
    asked: Option<Instant>,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", if self.meter.is_some() { "counted by the kernel" } else { "counted by measurements" })
    }
}

/// All counters change together, so that a charge is checked against the sum that it changes.
#[derive(Debug, Default, Clone, Copy)]
struct Books {
    limit: Option<u64>,
    used: u64,
    /// The sum of charges that are neither kept nor released.
    open: u64,
    /// The sum of all charges so far. It wraps.
    charged: u64,
    /// The sum of all releases so far. It wraps.
    released: u64,
}

/// A charge was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{requested} bytes do not fit: {used} of {limit} bytes are used")]
#[allow(missing_docs)]
pub struct OverLimit {
    pub requested: u64,
    pub used: u64,
    pub limit: u64,
}

/// A measurement that has begun: see [`DiskAccount::begin_measurement`].
#[derive(Debug, Clone, Copy)]
pub struct Measurement {
    open: u64,
    charged: u64,
    released: u64,
}

/// What a measurement was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// The account after it.
    pub used: u64,
    /// No writer of alula was at work meanwhile. Otherwise another measurement may be closer.
    pub exact: bool,
}

/// The disk limit in bytes of `build.disk_space`, in MiB: zero is unlimited, a negative one allows no writes.
pub fn limit_of(disk_space: i64) -> Option<u64> {
    match disk_space {
        0 => None,
        mib => Some(u64::try_from(mib).unwrap_or(0).saturating_mul(1024 * 1024)),
    }
}

impl DiskAccount {
    /// An account without limit, of which nothing is used.
    pub fn unlimited() -> Arc<Self> {
        Arc::default()
    }

    /// An account with this limit in bytes, of which `used` are used.
    pub fn new(limit: Option<u64>, used: u64) -> Arc<Self> {
        Arc::new(Self { books: Mutex::new(Books { limit, used, ..Books::default() }), kernel: Mutex::default() })
    }

    /// The limit in bytes. `None` is unlimited.
    pub fn limit(&self) -> Option<u64> {
        self.books().limit
    }

    /// The bytes used, with those that are charged and not written yet.
    pub fn used(&self) -> u64 {
        self.ask_kernel();
        self.books().used
    }

    /// Sets the limit. Charges that were made stay, however small it is.
    pub fn set_limit(&self, limit: Option<u64>) {
        self.books().limit = limit;
    }

    /// The kernel counts the files from now on, or does not any more.
    pub fn set_meter(&self, meter: Option<Meter>) {
        *self.kernel() = Kernel { meter, asked: None };
    }

    /// Whether the kernel counts the files.
    pub fn has_meter(&self) -> bool {
        self.kernel().meter.is_some()
    }

    /// Whether no more is used than the limit allows.
    pub fn has_space(&self) -> bool {
        self.ask_kernel();
        let books = self.books();
        books.limit.is_none_or(|limit| books.used <= limit)
    }

    /// Whether a charge of this many bytes would succeed now. Zero bytes always fit.
    ///
    /// Source: `filesystem.md` § 4.
    pub fn fits(&self, bytes: u64) -> bool {
        self.ask_kernel();
        self.books().fits(bytes)
    }

    /// Charges bytes that are about to be written.
    ///
    /// # Errors
    /// They do not fit. Zero bytes always do.
    pub fn charge(self: &Arc<Self>, bytes: u64) -> Result<Charge, OverLimit> {
        self.ask_kernel();
        self.books().charge(bytes)?;
        Ok(Charge { account: self.clone(), bytes })
    }

    /// Gives back the bytes of a file that was removed or has become shorter. Call it afterwards.
    pub fn release(&self, bytes: u64) {
        self.books().release(bytes);
    }

    /// A measurement of all files is about to begin.
    pub fn begin_measurement(&self) -> Measurement {
        let Books { open, charged, released, .. } = *self.books();
        Measurement { open, charged, released }
    }

    /// The measurement has found this many bytes: see the rule above.
    pub fn measured(&self, begun: Measurement, bytes: u64) -> Measured {
        self.books().measured(begun, bytes, true)
    }

    /// The measurement has found at least this many bytes, and could not see all.
    pub fn measured_at_least(&self, begun: Measurement, bytes: u64) -> Measured {
        self.books().measured(begun, bytes, false)
    }

    fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask_kernel(&self) {
        let mut kernel = self.kernel();
        let Some(meter) = &kernel.meter else { return };
        if kernel.asked.is_some_and(|asked| asked.elapsed() < FRESH) {
            return;
        }
        let begun = self.begin_measurement();
        if let Some(bytes) = meter() {
            self.measured(begun, bytes);
        }
        kernel.asked = Some(Instant::now());
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn fits(&self, bytes: u64) -> bool {
        let Some(limit) = self.limit else { return true };
        bytes == 0 || self.used.checked_add(bytes).is_some_and(|sum| sum <= limit)
    }

    fn charge(&mut self, bytes: u64) -> Result<(), OverLimit> {
        if !self.fits(bytes) {
            let limit = self.limit.unwrap_or(u64::MAX);
            return Err(OverLimit { requested: bytes, used: self.used, limit });
        }
        self.used = self.used.saturating_add(bytes);
        self.open = self.open.saturating_add(bytes);
        self.charged = self.charged.wrapping_add(bytes);
        Ok(())
    }

    fn release(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
        self.released = self.released.wrapping_add(bytes);
    }

    /// A charge has ended. What was written of it stays.
    fn close(&mut self, bytes: u64) {
        self.open = self.open.saturating_sub(bytes);
    }

    fn measured(&mut self, begun: Measurement, bytes: u64, all: bool) -> Measured {
        let charged = self.charged.wrapping_sub(begun.charged);
        let released = self.released.wrapping_sub(begun.released);
        let low = bytes.saturating_sub(released);
        let high = bytes.saturating_add(charged).saturating_add(begun.open);
        self.used = match all {
            true => self.used.clamp(low, high),
            false => self.used.max(low),
        };
        Measured { used: self.used, exact: all && low == high }
    }
}

/// Bytes that are charged and not yet final. Dropped, it releases them.
#[derive(Debug)]
#[must_use = "a charge that is dropped is released"]
pub struct Charge {
    account: Arc<DiskAccount>,
    bytes: u64,
}

impl Charge {
    /// The bytes charged.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Charges more bytes, with all that are charged already as one.
    ///
    /// # Errors
    /// They do not fit; the charge stays as it was.
    pub fn grow(&mut self, bytes: u64) -> Result<(), OverLimit> {
        self.account.ask_kernel();
        self.account.books().charge(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Releases all but this many bytes.
    pub fn shrink_to(&mut self, bytes: u64) {
        let excess = self.bytes.saturating_sub(bytes);
        self.give_back(excess);
    }

    /// Makes the charge final: its bytes are written.
    pub fn keep(mut self) {
        self.account.books().close(self.bytes);
        self.bytes = 0;
    }

    fn give_back(&mut self, bytes: u64) {
        if bytes > 0 {
            let mut books = self.account.books();
            books.close(bytes);
            books.release(bytes);
            self.bytes -= bytes;
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests;
