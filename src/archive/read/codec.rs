//! Compressed streams.

use std::io::{self, BufRead, Read};
use std::os::unix::ffi::OsStrExt;

use liblzma::stream::{CONCATENATED, Stream};

use super::super::limits::MAX_DECODER_MEMORY;
use super::super::source::Source;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Codec {
    Plain,
    Gzip,
    Bzip2,
    Xz,
    Lzma,
    Lzip,
    Zstd,
    Lz4,
    Brotli,
    Snappy,
    Zlib,
}

/// Extensions, and what takes their place in the name of the content.
type Extensions = &'static [(&'static str, &'static str)];

/// The magic bytes of each codec, and the extensions of its files.
const CODECS: &[(Codec, &[u8], Extensions)] = &[
    (Codec::Gzip, b"\x1f\x8b", &[(".gz", ""), (".tgz", ".tar"), (".gzip", "")]),
    (Codec::Bzip2, b"BZh", &[(".bz2", ""), (".tbz2", ".tar"), (".tbz", ".tar"), (".bz", "")]),
    (Codec::Xz, b"\xfd7zXZ\0", &[(".xz", ""), (".txz", ".tar")]),
    (Codec::Lzip, b"LZIP\x01", &[(".lz", ""), (".tlz", ".tar")]),
    (Codec::Zstd, b"\x28\xb5\x2f\xfd", &[(".zst", ""), (".tzst", ".tar"), (".zstd", "")]),
    (Codec::Lz4, b"\x04\x22\x4d\x18", &[(".lz4", "")]),
    (Codec::Snappy, b"\xff\x06\x00\x00sNaPpY", &[(".sz", ""), (".snappy", "")]),
    // Without magic bytes: by the name.
    (Codec::Brotli, b"", &[(".br", "")]),
    (Codec::Lzma, b"\x5d\x00\x00", &[(".lzma", "")]),
    (Codec::Zlib, b"\x78", &[(".zz", ""), (".zlib", "")]),
];

/// The exponent of the largest window of zstd: 128 MiB.
const ZSTD_WINDOW: u32 = 27;

/// The longest file whose trailer can declare the size of its content, modulo 2^32, without ambiguity in practice.
const MAX_HINTED: u64 = 1 << 30;

impl Codec {
    /// The codec of a file that starts with `start`.
    pub(super) fn of(start: &[u8], name: &[u8]) -> Option<Self> {
        let found = CODECS.iter().find(|(codec, magic, extensions)| {
            start.starts_with(magic)
                && match codec {
                    Self::Brotli | Self::Lzma => extension(name, extensions).is_some(),
                    Self::Zlib => extension(name, extensions).is_some() && is_zlib(start),
                    _ => true,
                }
        });
        found.map(|(codec, ..)| *codec)
    }

    /// The name of the content of a compressed file.
    pub(super) fn without_extension(self, name: &[u8]) -> Vec<u8> {
        let extensions =
            CODECS.iter().find(|(codec, ..)| *codec == self).map_or(&[][..], |(.., extensions)| extensions);
        match extension(name, extensions) {
            Some((extension, replacement)) if name.len() > extension.len() => {
                [&name[..name.len() - extension.len()], replacement.as_bytes()].concat()
            }
            _ => [name, b".out"].concat(),
        }
    }

    /// Decodes the stream.
    pub(super) fn decoder<'a>(self, source: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
        let lzma = |stream: Result<Stream, liblzma::stream::Error>| stream.map_err(io::Error::from);
        Ok(match self {
            Self::Plain => Box::new(source),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
            Self::Zlib => Box::new(flate2::bufread::ZlibDecoder::new(source)),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
            Self::Xz => {
                let stream = lzma(Stream::new_stream_decoder(MAX_DECODER_MEMORY, CONCATENATED))?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
            }
            Self::Lzma => {
                let stream = lzma(Stream::new_lzma_decoder(MAX_DECODER_MEMORY))?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
            }
            Self::Lzip => {
                let stream = lzma(Stream::new_lzip_decoder(MAX_DECODER_MEMORY, CONCATENATED))?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Box::new(decoder)
            }
            Self::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(source)),
            Self::Brotli => Box::new(brotli_decompressor::Decompressor::new(source, super::BUFFER)),
            Self::Snappy => Box::new(snap::read::FrameDecoder::new(source)),
        })
    }

    /// The size of the content according to the file. Only a hint.
    pub(super) fn hint(self, source: &Source) -> Option<u64> {
        use rawzip::ReaderAt;
        match self {
            Self::Plain => Some(source.len()),
            Self::Gzip if source.len() < MAX_HINTED => {
                let mut trailer = [0; 4];
                source.read_exact_at(&mut trailer, source.len().checked_sub(4)?).ok()?;
                Some(u32::from_le_bytes(trailer).into())
            }
            Self::Zstd => {
                let mut start = [0; 18];
                source.read_exact_at(&mut start, 0).ok()?;
                zstd::zstd_safe::get_frame_content_size(&start).ok().flatten()
            }
            _ => None,
        }
    }
}

fn extension(name: &[u8], extensions: Extensions) -> Option<(&'static str, &'static str)> {
    let name = std::ffi::OsStr::from_bytes(name).as_bytes().to_ascii_lowercase();
    extensions.iter().find(|(extension, _)| name.ends_with(extension.as_bytes())).copied()
}

/// The two bytes of the header are a multiple of 31.
fn is_zlib(start: &[u8]) -> bool {
    matches!(start, [first, second, ..] if u16::from_be_bytes([*first, *second]) % 31 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_contents() {
        for (codec, name, content) in [
            (Codec::Gzip, "x.log.gz", "x.log"),
            (Codec::Gzip, "x.tgz", "x.tar"),
            (Codec::Gzip, "x.bz2", "x.bz2.out"),
            (Codec::Gzip, ".gz", ".gz.out"),
            (Codec::Xz, "X.XZ", "X"),
        ] {
            assert_eq!(codec.without_extension(name.as_bytes()), content.as_bytes());
        }
    }

    #[test]
    fn streams_without_magic_bytes_need_the_extension() {
        assert_eq!(Codec::of(b"\x78\x9c", b"x.zz"), Some(Codec::Zlib));
        assert_eq!(Codec::of(b"\x78\x9c", b"x.txt"), None);
        assert_eq!(Codec::of(b"xyz", b"x.zlib"), None);
        assert_eq!(Codec::of(b"anything", b"x.br"), Some(Codec::Brotli));
        assert_eq!(Codec::of(b"not an archive at all", b"a.txt"), None);
    }
}
