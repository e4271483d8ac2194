//! What of a block is not worth compressing. Much of what a game writes is compressed already, such as chunks of a world and
//! jars, and padded with zeros: such data is stored, and zeros become a few bytes, at many times the speed of deflate.

use std::ops::Range;

/// The unit that is looked at: that of a tar.
const UNIT: usize = 512;

/// Zeros at the end of a unit that are a part of their own, in bytes.
const TAIL: usize = 64;

/// The shortest part that is stored, in bytes: each part that is compressed after one begins without memory.
const MIN_STORED: usize = 2 << 10;

/// The shortest zeros between what is compressed that are a part of their own, in bytes.
const MIN_ZEROS: usize = 16 << 10;

/// What to do with a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Compress it.
    Deflate,
    /// Its bytes have no pattern.
    Stored,
    /// All of its bytes are zero.
    Zeros,
}

/// Cuts a block into parts.
pub(super) fn segments(input: &[u8]) -> Vec<(Kind, Range<usize>)> {
    let mut parts = Vec::new();
    for (unit, start) in input.chunks(UNIT).zip((0..).step_by(UNIT)) {
        let zeros = unit.iter().rev().take_while(|byte| **byte == 0).count();
        let zeros = if zeros >= TAIL.min(unit.len()) { zeros } else { 0 };
        let end = start + unit.len();
        let data = &unit[..unit.len() - zeros];
        if !data.is_empty() {
            add(&mut parts, if has_pattern(data) { Kind::Deflate } else { Kind::Stored }, start..end - zeros);
        }
        if zeros > 0 {
            add(&mut parts, Kind::Zeros, end - zeros..end);
        }
    }
    // What is too short is compressed with what is around it.
    let mut joined = Vec::with_capacity(parts.len());
    for (kind, range) in parts {
        let kind = match kind {
            Kind::Stored if range.len() < MIN_STORED => Kind::Deflate,
            kind => kind,
        };
        add(&mut joined, kind, range);
    }
    let mut parts = Vec::with_capacity(joined.len());
    for (kind, range) in joined {
        let after_stored = matches!(parts.last(), Some((Kind::Stored, _)));
        let kind = match kind {
            Kind::Zeros if !after_stored && range.len() < MIN_ZEROS => Kind::Deflate,
            kind => kind,
        };
        add(&mut parts, kind, range);
    }
    parts
}

fn add(parts: &mut Vec<(Kind, Range<usize>)>, kind: Kind, range: Range<usize>) {
    match parts.last_mut() {
        Some((last, before)) if *last == kind => before.end = range.end,
        _ => parts.push((kind, range)),
    }
}

/// Whether some bytes are more frequent than others. Random bytes have about `256 × (1 − e^(−length / 256))` different values, with
/// a deviation of about five; text and numbers have far fewer.
fn has_pattern(data: &[u8]) -> bool {
    let mut seen = [0_u8; 256];
    for byte in data {
        seen[usize::from(*byte)] = 1;
    }
    let different: u32 = seen.iter().map(|seen| u32::from(*seen)).sum();
    let random = 256.0 * (1.0 - (-(data.len() as f32) / 256.0).exp());
    (different as f32) < 0.92 * random
}

/// Appends bytes without compressing them.
pub(super) fn store(output: &mut Vec<u8>, data: &[u8]) {
    for piece in data.chunks(usize::from(u16::MAX)) {
        let length = piece.len() as u16;
        output.push(0);
        output.extend_from_slice(&length.to_le_bytes());
        output.extend_from_slice(&(!length).to_le_bytes());
        output.extend_from_slice(piece);
    }
}

/// The end of a stream: an empty stored block that is marked as the last one.
pub(super) const END: [u8; 5] = [1, 0, 0, 0xff, 0xff];

/// Appends zeros: one, and then the same again and again. Ends at a byte.
pub(super) fn zeros(output: &mut Vec<u8>, count: usize) {
    let mut bits = Bits { output, bits: 0, count: 0 };
    // A block with fixed codes, which are written from their highest bit on: not the last one, and type 1.
    bits.add(0b010, 3);
    if count > 0 {
        literal(&mut bits);
    }
    let mut left = count.saturating_sub(1);
    while left > 0 {
        if left >= 258 {
            // Length 258 is code 285; distance 1 is code 0.
            bits.add(reversed(0b1100_0101, 8), 8);
            bits.add(0, 5);
            left -= 258;
        } else if left >= 10 {
            // Length 10 is code 264.
            bits.add(reversed(0b000_1000, 7), 7);
            bits.add(0, 5);
            left -= 10;
        } else {
            literal(&mut bits);
            left -= 1;
        }
    }
    // The end of the block, and an empty stored one.
    bits.add(0, 7);
    bits.add(0, 3);
    bits.align();
    output.extend_from_slice(&[0, 0, 0xff, 0xff]);
}

fn literal(bits: &mut Bits<'_>) {
    bits.add(reversed(0b0011_0000, 8), 8);
}

fn reversed(code: u32, length: u32) -> u32 {
    code.reverse_bits() >> (32 - length)
}

struct Bits<'a> {
    output: &'a mut Vec<u8>,
    bits: u32,
    count: u32,
}

impl Bits<'_> {
    fn add(&mut self, bits: u32, count: u32) {
        self.bits |= bits << self.count;
        self.count += count;
        while self.count >= 8 {
            self.output.push(self.bits as u8);
            self.bits >>= 8;
            self.count -= 8;
        }
    }

    fn align(&mut self) {
        if self.count > 0 {
            self.add(0, 8 - self.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..length).map(next).collect()
    }

    fn inflated(stream: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        flate2::read::DeflateDecoder::new(stream).read_to_end(&mut output).unwrap();
        output
    }

    #[test]
    fn zeros_and_stored_bytes_are_deflate() {
        for count in (0..600).chain([65_535, 65_536, 512 << 10]) {
            let (mut output, data) = (Vec::new(), noise(count));
            zeros(&mut output, count);
            store(&mut output, &data);
            zeros(&mut output, 3);
            output.extend_from_slice(&END);
            assert!(inflated(&output) == [vec![0; count], data, vec![0; 3]].concat(), "{count}");
        }
    }

    #[test]
    fn parts_are_what_they_look_like() {
        let text = b"some text of a log, with a few characters only\n".repeat(100);
        let kinds = |data: &[u8]| {
            let parts = segments(data);
            assert_eq!(parts.iter().map(|(_, range)| range.len()).sum::<usize>(), data.len());
            assert!(parts.windows(2).all(|pair| pair[0].1.end == pair[1].1.start && pair[0].0 != pair[1].0));
            parts.iter().map(|(kind, _)| *kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&[]), []);
        assert_eq!(kinds(&text), [Kind::Deflate]);
        assert_eq!(kinds(&noise(100_000)), [Kind::Stored]);
        assert_eq!(kinds(&noise(1000)), [Kind::Deflate], "too short to be stored");
        assert_eq!(kinds(&[0; 100_000]), [Kind::Zeros]);
        assert_eq!(kinds(&[0; 1000]), [Kind::Deflate]);
        let mut chunk = noise(2800);
        chunk.resize(4096, 0);
        assert_eq!(kinds(&chunk.repeat(3)), [Kind::Stored, Kind::Zeros].repeat(3));
        assert_eq!(kinds(&[text.clone(), vec![0; 700], noise(5120)].concat()).len(), 2);
    }
}
