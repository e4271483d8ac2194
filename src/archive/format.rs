//! The formats that are written.

use strum::VariantArray;

/// A format that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray)]
pub enum Format {
    /// zip, deflate.
    Zip,
    /// tar, gzip.
    TarGz,
    /// tar, bzip2.
    TarBz2,
    /// tar, xz.
    TarXz,
}

impl Format {
    /// The format with this extension, in any case and with or without a dot. Any other extension is `tar.gz`, as in Wings.
    pub fn from_extension(extension: &str) -> Self {
        match extension.trim_start_matches('.').to_ascii_lowercase().as_str() {
            "zip" => Self::Zip,
            "tar.bz2" | "tbz2" => Self::TarBz2,
            "tar.xz" | "txz" => Self::TarXz,
            _ => Self::TarGz,
        }
    }

    /// With the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Zip => ".zip",
            Self::TarGz => ".tar.gz",
            Self::TarBz2 => ".tar.bz2",
            Self::TarXz => ".tar.xz",
        }
    }

    /// The media type that the API reports for a new archive.
    pub fn mime(self) -> &'static str {
        match self {
            Self::Zip => "application/zip",
            Self::TarGz => "application/gzip",
            Self::TarBz2 => "application/x-bzip2",
            Self::TarXz => "application/x-xz",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_those_of_wings() {
        for format in Format::VARIANTS {
            assert_eq!(Format::from_extension(format.extension()), *format);
        }
        for (extension, format) in
            [("ZIP", Format::Zip), ("tgz", Format::TarGz), ("TBZ2", Format::TarBz2), ("txz", Format::TarXz)]
        {
            assert_eq!(Format::from_extension(extension), format);
        }
        for unknown in ["", "rar", "tar", "7z"] {
            assert_eq!(Format::from_extension(unknown), Format::TarGz, "{unknown}");
        }
    }
}
