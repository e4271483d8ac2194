//! The archive file while it is read: counts the bytes and notices a cancellation.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use crate::progress::Progress;

/// An open archive file.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    length: u64,
    position: u64,
    progress: Option<Progress>,
}

impl Source {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, length, position: 0, progress: None })
    }

    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// Another reader of the file from its beginning, which counts its bytes in `progress`.
    pub(super) fn again(&self, progress: &Progress) -> io::Result<Self> {
        let file = self.file.try_clone()?;
        Ok(Self { file, length: self.length, position: 0, progress: Some(progress.clone()) })
    }

    fn count(&self, bytes: usize) -> io::Result<usize> {
        if let Some(progress) = &self.progress {
            if progress.is_cancelled() {
                return Err(io::Error::other("cancelled"));
            }
            progress.add(bytes as u64);
        }
        Ok(bytes)
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.position)?;
        self.position += read as u64;
        self.count(read)
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

impl rawzip::ReaderAt for Source {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.count(self.file.read_at(buffer, offset)?)
    }
}
