//! The log of a server's last installation.
//!
//! What is installed comes in at the beginning, then the installer's output, byte for byte, as it is written; text for
//! the API and for people goes out. The file is Wings', whose users and tools know its parts:
//!
//! ```text
//! Pelican Server Installation Log
//! …
//! |
//! | Script Output
//! | ------------------------------
//! (the output, raw)
//! ```
//!
//! The file itself says how much of the output it has, so that a daemon that finds a running installer reads its output on
//! from there ([`InstallLog::written`]). Every byte of output has one place in the file: two writers of the same output, an
//! old one and the one that takes over, do each other no harm.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::log::{LogReader, open_regular, read_at_most};
use super::prepare::make_private;
use super::{FilesError, Layout};
use crate::atomic;
use crate::model::ServerId;

/// Output that a log has room for, in bytes. A script that writes more is cut here, with a line that says so.
pub const MAX_OUTPUT: u64 = 16 * 1024 * 1024;

/// What follows output that was cut.
const CUT: &[u8] = b"\n[the rest of the output is left out: the log is full]\n";

/// What the output follows.
const MARKER: &[u8] = b"| Script Output\n| ------------------------------\n";

/// Bytes in which the marker is looked for.
const MAX_HEADER: u64 = 2 * 1024 * 1024;

/// Bytes of environment variables that a log has room for; less than [`MAX_HEADER`] even with each character escaped.
const MAX_ENVIRONMENT: usize = 256 * 1024;

/// Characters of any other value.
const MAX_FIELD: usize = 1000;

const ACTION_OPEN: &str = "open the install log";
const ACTION_WRITE: &str = "write to the install log";
const ACTION_READ: &str = "read the install log";

/// What a log says about an installation before its output.
#[derive(Debug, Clone, Copy)]
pub struct LogHeader<'a> {
    /// The installer's image.
    pub image: &'a str,
    /// What runs the script.
    pub entrypoint: &'a str,
    /// The kernel's release.
    pub kernel: &'a str,
    /// `KEY=value` of all environment variables.
    pub environment: &'a [String],
}

/// Begins a new log in the place of the last one. On return it is on disk, even after a power cut: an old log with its
/// output must not be taken for this one.
///
/// # Errors
/// It cannot be written; the last one is still there.
pub fn begin(layout: &Layout, id: ServerId, header: &LogHeader<'_>) -> Result<(), FilesError> {
    let path = layout.install_log(id);
    if let Some(folder) = path.parent() {
        make_private(folder)?;
    }
    Ok(atomic::write_file(&path, header_text(id, header).as_bytes(), 0o600)?)
}

fn header_text(id: ServerId, header: &LogHeader<'_>) -> String {
    let mut text = format!(
        "Pelican Server Installation Log\n\n\
         |\n| Details\n| ------------------------------\n\
         \x20 Server UUID:          {id}\n\
         \x20 Container Image:      {}\n\
         \x20 Container Entrypoint: {}\n\
         \x20 Kernel Version:       {}\n\n\
         |\n| Environment Variables\n| ------------------------------\n",
        one_line(header.image, MAX_FIELD),
        one_line(header.entrypoint, MAX_FIELD),
        one_line(header.kernel, MAX_FIELD),
    );
    let mut room = MAX_ENVIRONMENT;
    for (index, variable) in header.environment.iter().enumerate() {
        let Some(left) = room.checked_sub(variable.len() + 1) else {
            let more = header.environment.len() - index;
            text.push_str(&format!("  [{more} more left out: too long for this log]\n"));
            break;
        };
        room = left;
        text.push_str(&format!("  {}\n", one_line(variable, usize::MAX)));
    }
    if !header.environment.is_empty() {
        text.push('\n');
    }
    text.push_str("\n|\n");
    text.push_str(&String::from_utf8_lossy(MARKER));
    text
}

/// The first characters of `text` on a line of their own: a value with line breaks must not look like the marker.
fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for char in text.chars().take(limit) {
        match char.is_control() {
            true => line.extend(char.escape_default()),
            false => line.push(char),
        }
    }
    line
}

/// A log that output is added to.
#[derive(Debug)]
pub struct InstallLog {
    file: File,
    path: PathBuf,
    /// Where the output begins.
    start: u64,
    /// Bytes of output in the file.
    written: u64,
    /// Whether the file says that there was more.
    cut: bool,
}

impl InstallLog {
    /// Opens a server's log to add output to what it has. Where there is none, or a person removed its marker, one
    /// is made that has the output alone.
    ///
    /// # Errors
    /// It cannot be opened or written.
    pub fn open(layout: &Layout, id: ServerId) -> Result<Self, FilesError> {
        let path = layout.install_log(id);
        if let Some(folder) = path.parent() {
            make_private(folder)?;
        }
        Self::open_path(&path).map_err(FilesError::disk(ACTION_OPEN, &path))
    }

    fn open_path(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = open_regular(&mut options, path)?;
        let mut length = file.metadata()?.len();
        let start = match find_output(&file)? {
            Some(start) => start,
            None => {
                file.write_all_at(MARKER, length)?;
                length += MARKER.len() as u64;
                length
            }
        };
        let output = length.saturating_sub(start);
        let cut = output > MAX_OUTPUT && {
            let mut end = vec![0; CUT.len()];
            file.read_exact_at(&mut end, start + MAX_OUTPUT).is_ok() && end == CUT
        };
        Ok(Self { file, path: path.to_owned(), start, written: output.min(MAX_OUTPUT), cut })
    }

    /// Bytes of output that are in the file: where in the installer's output to read on.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether there was more than the file has room for: nothing that follows comes in.
    pub fn is_full(&self) -> bool {
        self.cut
    }

    /// The first bytes of output that are in the file, `most` at most.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn head(&self, most: usize) -> Result<Vec<u8>, FilesError> {
        self.output(0, most)
    }

    /// The last bytes of output that are in the file, `most` at most.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn tail(&self, most: usize) -> Result<Vec<u8>, FilesError> {
        self.output(self.written.saturating_sub(most as u64), most)
    }

    fn output(&self, from: u64, most: usize) -> Result<Vec<u8>, FilesError> {
        let mut bytes = vec![0; most.min(usize::try_from(self.written - from).unwrap_or(most))];
        let read = self.file.read_exact_at(&mut bytes, self.start + from);
        read.map_err(FilesError::disk(ACTION_READ, &self.path)).map(|()| bytes)
    }

    /// Adds output. What is more than [`MAX_OUTPUT`] in all is left out, and a line says so.
    ///
    /// # Errors
    /// The disk is full, say. What part of `output` was written before that is written again by the next attempt.
    pub fn append(&mut self, output: &[u8]) -> Result<(), FilesError> {
        let appended = self.append_output(output);
        appended.map_err(FilesError::disk(ACTION_WRITE, &self.path))
    }

    fn append_output(&mut self, output: &[u8]) -> io::Result<()> {
        let room = usize::try_from(MAX_OUTPUT - self.written).unwrap_or(usize::MAX);
        let (fits, rest) = output.split_at(room.min(output.len()));
        if !fits.is_empty() {
            self.file.write_all_at(fits, self.start + self.written)?;
            self.written += fits.len() as u64;
        }
        if !rest.is_empty() && !self.cut {
            self.file.write_all_at(CUT, self.start + self.written)?;
            self.cut = true;
        }
        Ok(())
    }

    /// Brings what was added to disk. After that the installer's container, which has the same output, may be removed.
    ///
    /// # Errors
    /// The disk says no.
    pub fn finish(self) -> Result<(), FilesError> {
        let synced = self.file.sync_data();
        synced.map_err(FilesError::disk(ACTION_WRITE, &self.path))
    }
}

/// The output of a server's last installation, or the whole log where it has no marker; `None` where there is no log. Bytes
/// that are no UTF-8 are replaced. Of a longer text the last `max_bytes` are given, after a line that says so.
///
/// # Errors
/// The log cannot be read.
pub fn read_output(layout: &Layout, id: ServerId, max_bytes: usize) -> Result<Option<String>, FilesError> {
    let path = layout.install_log(id);
    match read_path(&path, max_bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FilesError::disk(ACTION_READ, &path)(error)),
    }
}

fn read_path(path: &Path, max_bytes: usize) -> io::Result<String> {
    let file = open_regular(OpenOptions::new().read(true), path)?;
    let length = file.metadata()?.len();
    let start = find_output(&file)?.unwrap_or(0);
    let left_out = length.saturating_sub(start).saturating_sub(max_bytes as u64);
    let mut bytes = vec![0; usize::try_from(length - start - left_out).unwrap_or(0)];
    let read = read_at_most(&file, &mut bytes, start + left_out)?;
    bytes.truncate(read);
    if left_out == 0 {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    // Not in the middle of a character.
    let begin = bytes.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
    let text = String::from_utf8_lossy(&bytes[begin..]);
    Ok(format!("[the first {} bytes are left out]\n{text}", left_out + begin as u64))
}

/// The output of a server's last installation from its beginning, see [`read_output`]; `None` where there is no log.
///
/// # Errors
/// The log cannot be read.
pub fn output(layout: &Layout, id: ServerId) -> Result<Option<LogReader>, FilesError> {
    let path = layout.install_log(id);
    let open = || {
        let file = open_regular(OpenOptions::new().read(true), &path)?;
        let start = find_output(&file)?.unwrap_or(0);
        Ok::<_, io::Error>(LogReader::new(file, start))
    };
    match open() {
        Ok(reader) => Ok(Some(reader)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FilesError::disk(ACTION_READ, &path)(error)),
    }
}

/// Where a log's output begins; `None` where the marker is missing.
fn find_output(file: &File) -> io::Result<Option<u64>> {
    let mut header = Vec::new();
    file.take(MAX_HEADER).read_to_end(&mut header)?;
    let found = header.windows(MARKER.len()).position(|window| window == MARKER);
    Ok(found.map(|position| (position + MARKER.len()) as u64))
}

#[cfg(test)]
mod tests;
