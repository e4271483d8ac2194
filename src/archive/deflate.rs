//! Deflate on several threads: the input is cut into blocks, each is compressed with the end of the one before it as dictionary, and
//! the results form one stream, as in `pigz`.
//!
//! The writer's thread takes part: where the result that it needs is not ready, it compresses the oldest waiting block itself. So
//! helpers that start late, or never, cost time and nothing else.
//!
//! Parts that are not worth it are not compressed: see [`segments`].

use std::borrow::BorrowMut;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use flate2::{Compress, Compression, FlushCompress};

use super::segments::{self, Kind, segments};

use crate::tasks::Blocking;

/// Starts work on another thread.
pub type Spawn<'a> = &'a (dyn Fn(Box<dyn FnOnce() + Send>) + Sync);

/// What starts the threads that compress blocks. They end with the archive, and none is needed for it.
pub fn spawn_helper(blocking: Blocking) -> Option<Spawn<'static>> {
    let on_a_thread: Spawn<'static> = &|work| {
        if let Err(error) = Blocking::Pool.run_detached("archive helper", work) {
            tracing::debug!(%error, "an archive is compressed by fewer threads");
        }
    };
    (blocking == Blocking::Pool).then_some(on_a_thread)
}

/// Bytes of input in a block.
const BLOCK: usize = 512 << 10;

/// How far back deflate refers to earlier input.
const WINDOW: usize = 32 << 10;

/// The threads of one archive, at most.
const MAX_THREADS: usize = 4;

/// Compresses blocks. Ends its helpers when it is dropped.
pub(super) struct Pool {
    shared: Arc<Shared>,
    compressor: Compressor,
    /// Blocks that are compressed at the same time or wait for it.
    max_pending: usize,
    next: u64,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    done: BTreeMap<u64, io::Result<Vec<u8>>>,
    closed: bool,
}

struct Job {
    number: u64,
    input: Vec<u8>,
    dictionary: Vec<u8>,
    is_last: bool,
}

impl Pool {
    /// A pool for this level, from 0 to 9.
    pub(super) fn new(level: u32, spawn: Option<Spawn<'_>>) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let helpers = if spawn.is_some() { threads - 1 } else { 0 };
        for _ in 0..helpers {
            let shared = shared.clone();
            if let Some(spawn) = spawn {
                spawn(Box::new(move || shared.help(&mut Compressor::new(level))));
            }
        }
        Self { shared, compressor: Compressor::new(level), max_pending: 2 * helpers + 1, next: 0 }
    }

    /// The result of a block. Compresses waiting blocks while it is not ready.
    fn result(&mut self, number: u64) -> io::Result<Vec<u8>> {
        let mut state = self.shared.lock();
        loop {
            if let Some(result) = state.done.remove(&number) {
                return result;
            }
            state = match state.jobs.pop_front() {
                Some(job) => {
                    drop(state);
                    let (number, result) = self.compressor.run(job);
                    let mut state = self.shared.lock();
                    state.done.insert(number, result);
                    state
                }
                None => self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Queues a block and returns its number.
    fn push(&mut self, input: Vec<u8>, dictionary: Vec<u8>, is_last: bool) -> u64 {
        let number = self.next;
        self.next += 1;
        self.shared.lock().jobs.push_back(Job { number, input, dictionary, is_last });
        self.shared.changed.notify_one();
        number
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.jobs.clear();
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compresses blocks until the pool is dropped.
    fn help(&self, compressor: &mut Compressor) {
        let mut state = self.lock();
        while !state.closed {
            state = match state.jobs.pop_front() {
                Some(job) => {
                    drop(state);
                    let (number, result) = compressor.run(job);
                    let mut state = self.lock();
                    state.done.insert(number, result);
                    self.changed.notify_all();
                    state
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// The state of deflate, used for one part after the other.
struct Compressor {
    state: Compress,
    level: u32,
}

impl Compressor {
    fn new(level: u32) -> Self {
        Self { state: Compress::new(Compression::new(level), false), level }
    }

    /// Compresses a block. A panic becomes its result, since another thread waits for one.
    fn run(&mut self, job: Job) -> (u64, io::Result<Vec<u8>>) {
        let number = job.number;
        let result = catch_unwind(AssertUnwindSafe(|| self.compress(&job)));
        (number, result.unwrap_or_else(|_| Err(io::Error::other("the compressor panicked (bug, please report)"))))
    }

    /// Ends at a byte, so that any other block may follow.
    fn compress(&mut self, job: &Job) -> io::Result<Vec<u8>> {
        let input = job.input.as_slice();
        let mut output = Vec::with_capacity(input.len() / 2 + 1024);
        let whole = || vec![(Kind::Deflate, 0..input.len())];
        for (kind, range) in if self.level == 0 { whole() } else { segments(input) } {
            let part = &input[range.clone()];
            match kind {
                Kind::Stored => segments::store(&mut output, part),
                Kind::Zeros => segments::zeros(&mut output, part.len()),
                Kind::Deflate if range.start == 0 => self.deflate(part, &job.dictionary, &mut output)?,
                // Reading a dictionary takes about as long as compressing one.
                Kind::Deflate if part.len() < WINDOW => self.deflate(part, &[], &mut output)?,
                Kind::Deflate => {
                    self.deflate(part, &input[range.start.saturating_sub(WINDOW)..range.start], &mut output)?;
                }
            }
        }
        if job.is_last {
            output.extend_from_slice(&segments::END);
        }
        Ok(output)
    }

    fn deflate(&mut self, part: &[u8], dictionary: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        self.state.reset();
        if !dictionary.is_empty() {
            self.state.set_dictionary(dictionary)?;
        }
        loop {
            let rest = &part[self.state.total_in() as usize..];
            self.state.compress_vec(rest, output, FlushCompress::Sync)?;
            // Output that did not fill its buffer is all of it.
            if self.state.total_in() as usize == part.len() && output.len() < output.capacity() {
                return Ok(());
            }
            output.reserve(output.capacity().max(1024));
        }
    }
}

/// A deflate stream, written to `sink` in order.
pub(super) struct Deflate<P: BorrowMut<Pool>, W: Write> {
    pool: P,
    sink: W,
    block: Vec<u8>,
    dictionary: Vec<u8>,
    /// The blocks that are not written yet, oldest first.
    pending: VecDeque<u64>,
}

impl<P: BorrowMut<Pool>, W: Write> Deflate<P, W> {
    pub(super) fn new(pool: P, sink: W) -> Self {
        Self { pool, sink, block: Vec::new(), dictionary: Vec::new(), pending: VecDeque::new() }
    }

    /// Writes what is left and the end of the stream.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.submit(true);
        while let Some(number) = self.pending.pop_front() {
            self.write_result(number)?;
        }
        Ok(self.sink)
    }

    fn submit(&mut self, is_last: bool) {
        let input = std::mem::take(&mut self.block);
        let end = input[input.len().saturating_sub(WINDOW)..].to_vec();
        let dictionary = std::mem::replace(&mut self.dictionary, end);
        self.pending.push_back(self.pool.borrow_mut().push(input, dictionary, is_last));
    }

    fn write_result(&mut self, number: u64) -> io::Result<()> {
        let output = self.pool.borrow_mut().result(number)?;
        self.sink.write_all(&output)
    }
}

impl<P: BorrowMut<Pool>, W: Write> Write for Deflate<P, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.submit(false);
            if self.pending.len() > self.pool.borrow_mut().max_pending
                && let Some(number) = self.pending.pop_front()
            {
                self.write_result(number)?;
            }
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A gzip stream with one member.
pub(super) struct Gzip<W: Write> {
    deflate: Deflate<Pool, W>,
    checksum: crc32fast::Hasher,
    length: u64,
}

impl<W: Write> Gzip<W> {
    /// Writes the header.
    pub(super) fn new(level: u32, spawn: Option<Spawn<'_>>, mut sink: W) -> io::Result<Self> {
        // No name, no time, made on Unix.
        sink.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3])?;
        Ok(Self { deflate: Deflate::new(Pool::new(level, spawn), sink), checksum: crc32fast::Hasher::new(), length: 0 })
    }

    /// Writes the rest and the trailer.
    pub(super) fn finish(self) -> io::Result<W> {
        let mut sink = self.deflate.finish()?;
        sink.write_all(&self.checksum.finalize().to_le_bytes())?;
        // Modulo 2^32.
        sink.write_all(&(self.length as u32).to_le_bytes())?;
        Ok(sink)
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.deflate.write(bytes)?;
        self.checksum.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.deflate.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Text, noise and zeros, in parts that do not end where blocks do.
    fn sample(length: usize) -> Vec<u8> {
        let noise = |at: usize| {
            (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23).wrapping_mul(0xd6e8_feb8_6659_fd93)
        };
        let byte = |at: usize| match at / 70_001 % 3 {
            0 => (at * at / 1000 % 251) as u8,
            1 => (noise(at) >> 56) as u8,
            _ => 0,
        };
        (0..length).map(byte).collect()
    }

    fn threads(work: Box<dyn FnOnce() + Send>) {
        drop(std::thread::Builder::new().spawn(work).unwrap());
    }

    fn never(_: Box<dyn FnOnce() + Send>) {}

    #[test]
    fn a_stream_is_read_by_others_whatever_the_helpers_do() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 17] {
            let input = sample(length);
            for spawn in [None, Some(&threads as Spawn<'_>), Some(&never)] {
                for level in [0, 1, 6, 9] {
                    let mut gzip = Gzip::new(level, spawn, Vec::new()).unwrap();
                    gzip.write_all(&input).unwrap();
                    let packed = gzip.finish().unwrap();
                    let mut unpacked = Vec::new();
                    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).unwrap();
                    assert!(unpacked == input, "{length} bytes, level {level}");
                }
            }
        }
    }

    #[test]
    fn a_pool_serves_one_stream_after_another() {
        let mut pool = Pool::new(6, Some(&threads));
        for length in [10, 0, 3 * BLOCK, 100] {
            let mut deflate = Deflate::new(&mut pool, Vec::new());
            deflate.write_all(&sample(length)).unwrap();
            let packed = deflate.finish().unwrap();
            let mut unpacked = Vec::new();
            flate2::read::DeflateDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == sample(length));
        }
    }

    #[test]
    fn a_sink_that_fails_ends_the_stream() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut deflate = Deflate::new(Pool::new(1, Some(&threads)), Full);
        let written = deflate.write_all(&sample(20 * BLOCK));
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
