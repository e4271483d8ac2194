//! The log of a server's last installation.
//!
//! It has a header about the installation and the unchanged output of the installer. The format is that of Wings:
//!
//! ```text
//! Pelican Server Installation Log
//! …
//! |
//! | Script Output
//! | ------------------------------
//! (the output)
//! ```
//!
//! The length of the file is the progress: a daemon that adopts a running installer continues to read its output from there
//! ([`InstallLog::written`]). Each byte of output has a fixed position in the file. So two writers of the same output, such as an
//! old process and its successor, do not corrupt it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::log::{LogReader, open_regular, read_at_most};
use super::prepare::make_private;
use super::tree::Entry;
use super::{FilesError, Layout};
use crate::atomic;
use crate::model::ServerId;

/// The most output in a log, in bytes. More output is replaced by a line about it.
pub const MAX_OUTPUT: u64 = 16 * 1024 * 1024;

/// Follows output that was cut.
const CUT: &[u8] = b"\n[the rest of the output is left out: the log is full]\n";

/// Precedes the output.
const MARKER: &[u8] = b"| Script Output\n| ------------------------------\n";

/// The longest header, in bytes. The marker is searched in it.
const MAX_HEADER: u64 = 2 * 1024 * 1024;

/// The most environment variables in a log, in bytes; less than [`MAX_HEADER`] even with each character escaped.
const MAX_ENVIRONMENT: usize = 256 * 1024;

/// The longest other value, in characters.
const MAX_FIELD: usize = 1000;

const ACTION_OPEN: &str = "open the install log";
const ACTION_WRITE: &str = "write to the install log";
const ACTION_READ: &str = "read the install log";

/// The header of a log.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy)]
pub struct LogHeader<'a> {
    pub image: &'a str,
    pub entrypoint: &'a str,
    /// Release of the kernel.
    pub kernel: &'a str,
    /// `KEY=value` of all environment variables.
    pub environment: &'a [String],
}

/// Replaces the log by one without output. Durable on return: the output of the previous log must not count as output of this
/// installation.
///
/// # Errors
/// It cannot be written; the previous one stays.
pub fn begin(layout: &Layout, id: ServerId, header: &LogHeader<'_>) -> Result<(), FilesError> {
    let path = layout.install_log(id);
    if let Some(folder) = path.parent() {
        make_private(folder)?;
    }
    Ok(atomic::write_file(&path, header_text(id, header).as_bytes(), 0o600)?)
}

/// Opens the log, and returns its attributes, too. `None` if there is none.
///
/// # Errors
/// It cannot be opened.
pub fn open(layout: &Layout, id: ServerId) -> Result<Option<(File, Entry)>, FilesError> {
    let path = layout.install_log(id);
    let failed = FilesError::disk(ACTION_OPEN, &path);
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&path) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(file) => file,
    };
    let entry = Entry::of_file(path.file_name().unwrap_or_default(), &file).map_err(failed)?;
    Ok(entry.is_file().then_some((file, entry)))
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

/// The first characters of `text` on one line, so that a value cannot contain the marker.
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

/// A log that is open for writing.
#[derive(Debug)]
pub struct InstallLog {
    file: File,
    path: PathBuf,
    /// Start of the output.
    start: u64,
    /// Bytes of output.
    written: u64,
    /// Whether [`CUT`] follows the output.
    cut: bool,
}

impl InstallLog {
    /// Opens a server's log to append output. If there is no log, or a person removed its marker, a marker is appended.
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

    /// Bytes of output in the file, which is the position in the installer's output to continue from.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether the log is full and accepts no more output.
    pub fn is_full(&self) -> bool {
        self.cut
    }

    /// The first bytes of output, at most `max`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn head(&self, max: usize) -> Result<Vec<u8>, FilesError> {
        self.output(0, max)
    }

    /// The last bytes of output, at most `max`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn tail(&self, max: usize) -> Result<Vec<u8>, FilesError> {
        self.output(self.written.saturating_sub(max as u64), max)
    }

    fn output(&self, from: u64, max: usize) -> Result<Vec<u8>, FilesError> {
        let mut bytes = vec![0; max.min(usize::try_from(self.written - from).unwrap_or(max))];
        let read = self.file.read_exact_at(&mut bytes, self.start + from);
        read.map_err(FilesError::disk(ACTION_READ, &self.path)).map(|()| bytes)
    }

    /// Appends output. Output beyond [`MAX_OUTPUT`] is replaced by a line about it.
    ///
    /// # Errors
    /// The write fails, such as on a full disk. The next attempt overwrites what was written.
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

    /// Syncs the log to disk. The installer's container, which has the same output, may be removed afterwards.
    ///
    /// # Errors
    /// The sync fails.
    pub fn finish(self) -> Result<(), FilesError> {
        let synced = self.file.sync_data();
        synced.map_err(FilesError::disk(ACTION_WRITE, &self.path))
    }
}

/// The output of a server's last installation, or the whole log if it has no marker; `None` if there is no log. Bytes that are
/// not UTF-8 are replaced. Of a longer text only the last `max_bytes` are returned, after a line about it.
///
/// # Errors
/// The log cannot be read.
pub fn read_output(layout: &Layout, id: ServerId, max_bytes: usize) -> Result<Option<String>, FilesError> {
    let read = |(file, start): (File, u64)| read_end(&file, start, max_bytes);
    let text = open_output(layout, id)?.map(read).transpose();
    text.map_err(FilesError::disk(ACTION_READ, &layout.install_log(id)))
}

fn read_end(file: &File, start: u64, max_bytes: usize) -> io::Result<String> {
    let length = file.metadata()?.len().saturating_sub(start);
    let left_out = length.saturating_sub(max_bytes as u64);
    let mut bytes = vec![0; usize::try_from(length - left_out).unwrap_or(0)];
    let read = read_at_most(file, &mut bytes, start + left_out)?;
    bytes.truncate(read);
    if left_out == 0 {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    // Skip the rest of a character.
    let begin = bytes.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
    let text = String::from_utf8_lossy(&bytes[begin..]);
    Ok(format!("[the first {} bytes are left out]\n{text}", left_out + begin as u64))
}

/// A reader of the output of a server's last installation, see [`read_output`]; `None` if there is no log.
///
/// # Errors
/// The log cannot be read.
pub fn output(layout: &Layout, id: ServerId) -> Result<Option<LogReader>, FilesError> {
    Ok(open_output(layout, id)?.map(|(file, start)| LogReader::new(file, start)))
}

/// The log and the start of its output.
fn open_output(layout: &Layout, id: ServerId) -> Result<Option<(File, u64)>, FilesError> {
    let path = layout.install_log(id);
    let opened = open_regular(OpenOptions::new().read(true), &path).and_then(|file| {
        let start = find_output(&file)?.unwrap_or(0);
        Ok((file, start))
    });
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some).map_err(FilesError::disk(ACTION_READ, &path)),
    }
}

/// The start of a log's output; `None` if the marker is missing.
fn find_output(file: &File) -> io::Result<Option<u64>> {
    let mut header = Vec::new();
    file.take(MAX_HEADER).read_to_end(&mut header)?;
    let found = header.windows(MARKER.len()).position(|window| window == MARKER);
    Ok(found.map(|position| (position + MARKER.len()) as u64))
}

#[cfg(test)]
mod tests;
