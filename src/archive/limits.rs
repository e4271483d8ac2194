//! What one archive may cost.

/// Entries of one archive. A server with a map renderer has about a million files.
pub const MAX_ENTRIES: u64 = 2_000_000;

/// The largest dictionary or window of a decoder, in bytes. `xz -9` needs 65 MiB, `7z -mx9` 64 MiB, `zstd --long` 128 MiB.
pub const MAX_DECODER_MEMORY: u64 = 160 << 20;

/// Content that any archive may have, in bytes, where the server has no disk limit.
pub const FREE_CONTENT: u64 = 2 << 30;

/// The content of an archive, as a multiple of its size, where the server has no disk limit.
pub const MAX_RATIO: u64 = 300;

/// The part of the free disk space that content may take where the server has no disk limit: nine tenths.
pub const fn share_of_free_space(free: u64) -> u64 {
    free / 10 * 9
}

/// The names and extensions between the contents of two entries of a tar, in bytes.
pub(super) const MAX_TAR_HEADERS: u64 = 1 << 20;

/// The longest name of an entry, in bytes. `PATH_MAX` of Linux.
pub(super) const MAX_NAME: usize = 4096;

/// The longest target of a link, in bytes.
pub(super) const MAX_TARGET: usize = 4095;

/// Separate areas of a zip that its entries may take.
pub(super) const MAX_AREAS: usize = 1 << 18;

/// Directories whose mode and time are set after their files are written.
pub(super) const MAX_DIRECTORIES: usize = 1 << 16;

/// Files with several names that are remembered while an archive is written.
pub(super) const MAX_HARD_LINKS: usize = 1 << 16;
