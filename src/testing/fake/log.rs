//! The bounded log of a fake container.

use std::collections::VecDeque;

use bytes::Bytes;

/// Chunks that a container's log keeps; older ones are dropped.
pub const LOG_CHUNKS: usize = 4_096;

/// A bounded log.
#[derive(Debug, Default)]
pub(super) struct ContainerLog {
    chunks: VecDeque<Bytes>,
}

impl ContainerLog {
    pub(super) fn push(&mut self, bytes: Bytes) {
        if self.chunks.len() == LOG_CHUNKS {
            self.chunks.pop_front();
        }
        self.chunks.push_back(bytes);
    }

    /// Drops the oldest chunks until at most `kept` bytes are left, as a log driver with a maximum size does.
    pub(super) fn rotate(&mut self, kept: usize) {
        let mut bytes: usize = self.chunks.iter().map(Bytes::len).sum();
        while bytes > kept
            && let Some(chunk) = self.chunks.pop_front()
        {
            bytes -= chunk.len();
        }
    }

    /// Everything, as one text.
    pub(super) fn all(&self) -> Bytes {
        self.chunks.iter().flatten().copied().collect()
    }

    /// The last lines.
    pub(super) fn tail(&self, lines: u32) -> Bytes {
        let all = self.all();
        let ends = all.iter().enumerate().rev().filter(|(at, byte)| **byte == b'\n' && at + 1 < all.len());
        let from = match (lines as usize).checked_sub(1) {
            None => all.len(),
            Some(earlier) => ends.map(|(at, _)| at + 1).nth(earlier).unwrap_or(0),
        };
        all.slice(from..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_counts_lines_and_an_unfinished_one_is_a_line() {
        let mut log = ContainerLog::default();
        for text in ["a\r\n", "b", "b\r\n", "c"] {
            log.push(Bytes::from_static(text.as_bytes()));
        }
        assert_eq!(log.tail(0), "");
        assert_eq!(log.tail(1), "c");
        assert_eq!(log.tail(2), "bb\r\nc");
        assert_eq!(log.tail(3), "a\r\nbb\r\nc");
        assert_eq!(log.tail(9), "a\r\nbb\r\nc");
    }

    #[test]
    fn a_rotated_log_keeps_its_end() {
        let mut log = ContainerLog::default();
        for text in ["one\n", "two\n", "three\n"] {
            log.push(Bytes::from_static(text.as_bytes()));
        }
        log.rotate(12);
        assert_eq!(log.all(), "two\nthree\n");
    }

    #[test]
    fn the_oldest_chunks_are_dropped() {
        let mut log = ContainerLog::default();
        for number in 0..LOG_CHUNKS as u64 + 3 {
            log.push(Bytes::from(format!("{number}\n")));
        }
        assert!(log.all().starts_with(b"3\n4\n"));
        assert!(log.all().ends_with(format!("\n{}\n", LOG_CHUNKS + 2).as_bytes()));
    }
}
