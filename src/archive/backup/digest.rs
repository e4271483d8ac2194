//! Checksums of an archive, computed while its bytes pass by, with the rate and the cancellation of the operation.

use std::io::{self, Read, Write};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::super::compress::Stopped;
use super::Pace;
use crate::progress::Progress;

/// The bytes that pass at a time. A rate is kept in pieces of this size, and a cancellation noticed between them.
const PIECE: usize = 128 << 10;

/// The checksums to compute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hashes {
    /// SHA-1: of backups.
    pub sha1: bool,
    /// SHA-256: of transfers.
    pub sha256: bool,
}

/// Checksums in hexadecimal digits; those that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Digests {
    pub sha1: Option<String>,
    pub sha256: Option<String>,
}

/// Counts and hashes the bytes that pass through it.
pub(super) struct Hashing<'a, T> {
    inner: T,
    sha1: Option<Sha1>,
    sha256: Option<Sha256>,
    bytes: u64,
    pace: Option<Pace<'a>>,
    progress: &'a Progress,
    counted: bool,
}

impl<'a, T> Hashing<'a, T> {
    pub(super) fn new(inner: T, hashes: Hashes, pace: Option<Pace<'a>>, progress: &'a Progress) -> Self {
        Self {
            inner,
            sha1: hashes.sha1.then(Sha1::new),
            sha256: hashes.sha256.then(Sha256::new),
            bytes: 0,
            pace,
            progress,
            counted: false,
        }
    }

    /// Counts the bytes as progress, too.
    pub(super) fn counted(self) -> Self {
        Self { counted: true, ..self }
    }

    /// What it has wrapped, the number of bytes, and the checksums.
    pub(super) fn finish(self) -> (T, u64, Digests) {
        let digests = Digests {
            sha1: self.sha1.map(|hash| hex(&hash.finalize())),
            sha256: self.sha256.map(|hash| hex(&hash.finalize())),
        };
        (self.inner, self.bytes, digests)
    }

    fn begin(&self, bytes: usize) -> io::Result<()> {
        if self.progress.is_cancelled() {
            return Err(io::Error::other(Stopped));
        }
        if let Some(pace) = self.pace {
            pace(bytes as u64);
        }
        Ok(())
    }

    fn passed(&mut self, bytes: &[u8]) {
        if let Some(hash) = &mut self.sha1 {
            hash.update(bytes);
        }
        if let Some(hash) = &mut self.sha256 {
            hash.update(bytes);
        }
        self.bytes += bytes.len() as u64;
        if self.counted {
            self.progress.add(bytes.len() as u64);
        }
    }
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(PIECE)];
        self.begin(bytes.len())?;
        // As one piece: `pace` has waited for all of it.
        self.inner.write_all(bytes)?;
        self.passed(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashing<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(PIECE);
        let read = self.inner.read(&mut buffer[..most])?;
        self.begin(read)?;
        self.passed(&buffer[..read]);
        Ok(read)
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn both_directions_hash_count_and_pace() {
        let both = Hashes { sha1: true, sha256: true };
        let (paced, progress) = (AtomicU64::new(0), Progress::new());
        let pace = |bytes| {
            paced.fetch_add(bytes, Ordering::Relaxed);
        };
        let mut sink = Hashing::new(Vec::new(), both, Some(&pace), &progress);
        sink.write_all(b"abc").unwrap();
        let (written, bytes, digests) = sink.finish();
        assert_eq!((written.as_slice(), bytes), (&b"abc"[..], 3));
        assert_eq!(digests.sha1.as_deref(), Some("a9993e364706816aba3e25717850c26c9cd0d89d"));
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digests.sha256.as_deref(), Some(sha256));
        let mut source = Hashing::new(&b"abc"[..], both, Some(&pace), &progress).counted();
        io::copy(&mut source, &mut io::sink()).unwrap();
        assert_eq!(source.finish().2, digests);
        assert_eq!((paced.load(Ordering::Relaxed), progress.done()), (6, 3));
        progress.cancel();
        let mut sink = Hashing::new(Vec::new(), Hashes::default(), None, &progress);
        assert!(sink.write_all(b"abc").unwrap_err().get_ref().unwrap().is::<Stopped>());
    }
}
