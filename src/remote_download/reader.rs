//! A backup's bytes for a blocking thread.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::runtime::Handle;

use super::backup::BackupStream;
use crate::progress::Progress;

/// Reads a [`BackupStream`]. Only for a thread that may block, such as one of [`Blocking`](crate::tasks::Blocking)`::Pool`.
#[derive(Debug)]
pub struct BackupReader {
    stream: BackupStream,
    handle: Handle,
    progress: Progress,
    rest: Bytes,
}

impl BackupReader {
    /// A reader that counts its bytes, and fails when the operation is cancelled. Must be called in a tokio runtime.
    pub fn new(stream: BackupStream, progress: Progress) -> Self {
        progress.set_total(stream.length().unwrap_or(0));
        Self { stream, handle: Handle::current(), progress, rest: Bytes::new() }
    }
}

impl Read for BackupReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            let (stream, progress) = (&mut self.stream, &self.progress);
            let next = async {
                tokio::select! {
                    biased;
                    () = progress.when_cancelled() => Err(io::Error::other("the download was cancelled")),
                    chunk = stream.chunk() => Ok(chunk?),
                }
            };
            let Some(chunk) = self.handle.block_on(next)? else { return Ok(0) };
            self.progress.add(chunk.len() as u64);
            self.rest = chunk;
        }
        let length = into.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}
