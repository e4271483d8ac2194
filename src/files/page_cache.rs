//! Reads files from end to end without changing what is in memory: games are slow when their files are not.
//!
//! Before a file is read, the kernel is asked which parts of it are in memory (`cachestat`, since Linux 6.5). The others are dropped
//! again when they have been read. On an older kernel nothing is dropped: what reading evicts by itself is less than what dropping a
//! game's own pages would cost it.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::AsFd;

use rustix::fs::{Advice, fadvise};

use super::kernel::cached_pages;

/// The bytes that are dropped or kept together.
const WINDOW: u64 = 4 << 20;

/// The reading of one file.
#[derive(Debug)]
pub struct Reading<'a> {
    file: &'a File,
    /// Whether each window was in memory, at least in part. Empty if that is unknown.
    cached: Vec<bool>,
    /// The windows before this one are read.
    next: usize,
}

impl<'a> Reading<'a> {
    /// Reading of a file of this size begins.
    pub fn begin(file: &'a File, size: u64) -> Self {
        if size > WINDOW {
            // Reads further ahead. Only advice, here and below: errors do not matter.
            let _ = fadvise(file, 0, None, Advice::Sequential);
        }
        let windows = (0..size).step_by(WINDOW as usize);
        let cached = windows.map(|offset| cached_pages(file.as_fd(), offset, WINDOW).map(|pages| pages > 0));
        Self { file, cached: cached.collect::<Result<_, _>>().unwrap_or_default(), next: 0 }
    }

    /// The bytes before this offset are read.
    pub fn read_to(&mut self, offset: u64) {
        while self.next < self.cached.len() && (self.next as u64 + 1) * WINDOW <= offset {
            self.drop_window();
        }
    }

    /// All is read.
    pub fn end(mut self) {
        while self.next < self.cached.len() {
            self.drop_window();
        }
    }

    fn drop_window(&mut self) {
        if !self.cached[self.next] {
            let _ = fadvise(self.file, self.next as u64 * WINDOW, NonZeroU64::new(WINDOW), Advice::DontNeed);
        }
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn pages(file: &File) -> Option<u64> {
        cached_pages(file.as_fd(), 0, u64::MAX >> 1).ok()
    }

    fn read(file: &File, size: u64) {
        let mut reading = Reading::begin(file, size);
        let (mut buffer, mut offset) = (vec![0; 1 << 20], 0);
        loop {
            let count = { file }.read(&mut buffer).unwrap() as u64;
            if count == 0 {
                return reading.end();
            }
            offset += count;
            reading.read_to(offset);
        }
    }

    #[test]
    fn what_was_in_memory_stays_and_the_rest_does_not() {
        let size = 3 * WINDOW + 5000;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![1; size as usize]).unwrap();
        file.as_file().sync_all().unwrap();
        let Some(all) = pages(file.as_file()) else { return eprintln!("skipped: this kernel has no cachestat") };
        let open = || File::open(file.path()).unwrap();
        read(&open(), size);
        assert_eq!(pages(file.as_file()), Some(all), "everything was in memory");
        fadvise(file.as_file(), 0, None, Advice::DontNeed).unwrap();
        match pages(file.as_file()) {
            Some(0) => {}
            left => return eprintln!("skipped: {left:?} pages cannot be dropped on this file system"),
        }
        // Only the second window.
        let mut byte = [0];
        fadvise(file.as_file(), 0, None, Advice::Random).unwrap();
        std::os::unix::fs::FileExt::read_at(file.as_file(), &mut byte, WINDOW + WINDOW / 2).unwrap();
        let before = pages(file.as_file()).unwrap();
        assert!(before > 0 && before < all);
        read(&open(), size);
        let after = pages(file.as_file()).unwrap();
        let window = WINDOW / 4096;
        assert!(after >= before && after <= window + 1, "{after} pages of {all}, {before} before");
    }
}
