//! Names of files that are not whole yet.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Prefix of the names of files that are not whole yet.
pub const TEMPORARY_PREFIX: &str = ".alula-new-";

/// The clock of file times is behind the system's by less than this.
const CLOCK_TICKS: Duration = Duration::from_secs(1);

/// No file that this process writes under a temporary name is older.
pub fn first_temporary() -> SystemTime {
    static BEFORE: LazyLock<SystemTime> = LazyLock::new(|| SystemTime::now() - CLOCK_TICKS);
    *BEFORE
}

/// A name that no other file of this process has had.
pub(super) fn temporary_name() -> OsString {
    first_temporary();
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().build_hasher().finish()));
    format!("{TEMPORARY_PREFIX}{:016x}", NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

/// Whether a name is that of a file that is not whole yet.
pub fn is_temporary(name: &OsStr) -> bool {
    let number = name.as_encoded_bytes().strip_prefix(TEMPORARY_PREFIX.as_bytes());
    number.is_some_and(|number| number.len() == 16 && number.iter().all(u8::is_ascii_hexdigit))
}
