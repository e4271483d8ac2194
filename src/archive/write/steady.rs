//! Content of exactly the announced size.

use std::io::{self, BufReader, Read};

/// Bytes that are read at once.
const BUFFER: usize = 128 << 10;

/// Reads as many bytes as announced: cuts what is longer, and appends zeros to what is shorter.
pub(super) struct Steady<R> {
    inner: BufReader<R>,
    left: u64,
    ended: bool,
}

impl<R: Read> Steady<R> {
    pub(super) fn new(inner: R, size: u64) -> Self {
        let capacity = usize::try_from(size).unwrap_or(BUFFER).clamp(512, BUFFER);
        Self { inner: BufReader::with_capacity(capacity, inner), left: size, ended: false }
    }
}

impl<R: Read> Read for Steady<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let mut read = if self.ended { 0 } else { self.inner.read(&mut buffer[..wanted])? };
        if read == 0 {
            self.ended = true;
            buffer[..wanted].fill(0);
            read = wanted;
        }
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_has_the_announced_size() {
        for (content, size, expected) in [
            (&b"abc"[..], 3, &b"abc"[..]),
            (b"abc", 2, b"ab"),
            (b"abc", 5, b"abc\0\0"),
            (b"", 2, b"\0\0"),
            (b"x", 0, b""),
        ] {
            let mut read = Vec::new();
            Steady::new(content, size).read_to_end(&mut read).unwrap();
            assert_eq!(read, expected);
        }
    }
}
