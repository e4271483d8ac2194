//! Attributes of files: each of them may be absent.

use super::reader::{Malformed, Reader};

const SIZE: u32 = 1;
const IDS: u32 = 2;
const MODE: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

/// User and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
}

/// Times in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    pub accessed: u32,
    pub modified: u32,
}

/// Attributes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    pub size: Option<u64>,
    pub ids: Option<Ids>,
    /// Type and permissions, as `st_mode`.
    pub mode: Option<u32>,
    pub times: Option<Times>,
}

impl Attributes {
    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let flags = from.u32()?;
        let has = |flag| flags & flag != 0;
        let attributes = Self {
            size: has(SIZE).then(|| from.u64()).transpose()?,
            ids: has(IDS).then(|| Ok(Ids { uid: from.u32()?, gid: from.u32()? })).transpose()?,
            mode: has(MODE).then(|| from.u32()).transpose()?,
            times: has(TIMES).then(|| Ok(Times { accessed: from.u32()?, modified: from.u32()? })).transpose()?,
        };
        if has(EXTENDED) {
            for _ in 0..from.u32()? {
                from.bytes()?;
                from.bytes()?;
            }
        }
        Ok(attributes)
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let flag = |present: bool, flag| if present { flag } else { 0 };
        let flags = flag(self.size.is_some(), SIZE)
            | flag(self.ids.is_some(), IDS)
            | flag(self.mode.is_some(), MODE)
            | flag(self.times.is_some(), TIMES);
        to.extend(flags.to_be_bytes());
        if let Some(size) = self.size {
            to.extend(size.to_be_bytes());
        }
        if let Some(Ids { uid, gid }) = self.ids {
            [uid, gid].iter().for_each(|id| to.extend(id.to_be_bytes()));
        }
        if let Some(mode) = self.mode {
            to.extend(mode.to_be_bytes());
        }
        if let Some(Times { accessed, modified }) = self.times {
            [accessed, modified].iter().for_each(|time| to.extend(time.to_be_bytes()));
        }
    }
}
