//! The packets of SFTP version 3 as pure functions: requests are read from bytes, answers are written to bytes.
//!
//! A packet is a length, a type and a body. Texts are bytes with a length, and need not be UTF-8. Sources: the draft
//! `draft-ietf-secsh-filexfer-02`, and `PROTOCOL` of OpenSSH for its extensions.

mod attributes;
mod reader;
mod replies;
mod request;

#[cfg(test)]
pub mod client;
#[cfg(test)]
mod tests;

pub use attributes::{Attributes, Ids, Times};
pub use reader::{Incoming, MAX_PACKET, Malformed, next_packet};
pub use replies::{FileSystem, Limits, Name, Replies, Status};
pub use request::{Handle, OpenFlags, Request, read_init, read_request};

/// The version of the protocol.
pub const VERSION: u32 = 3;

/// Types of packets.
mod kind {
    pub const INIT: u8 = 1;
    pub const VERSION: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const LSTAT: u8 = 7;
    pub const FSTAT: u8 = 8;
    pub const SETSTAT: u8 = 9;
    pub const FSETSTAT: u8 = 10;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const RMDIR: u8 = 15;
    pub const REALPATH: u8 = 16;
    pub const STAT: u8 = 17;
    pub const RENAME: u8 = 18;
    pub const READLINK: u8 = 19;
    pub const SYMLINK: u8 = 20;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const NAME: u8 = 104;
    pub const ATTRS: u8 = 105;
    pub const EXTENDED: u8 = 200;
    pub const EXTENDED_REPLY: u8 = 201;
}

/// Names of extensions, which are also offered with these versions.
mod extension {
    pub const POSIX_RENAME: &str = "posix-rename@openssh.com";
    pub const STATVFS: &str = "statvfs@openssh.com";
    pub const FSTATVFS: &str = "fstatvfs@openssh.com";
    pub const HARDLINK: &str = "hardlink@openssh.com";
    pub const FSYNC: &str = "fsync@openssh.com";
    pub const LSETSTAT: &str = "lsetstat@openssh.com";
    pub const LIMITS: &str = "limits@openssh.com";
    pub const EXPAND_PATH: &str = "expand-path@openssh.com";
    pub const COPY_DATA: &str = "copy-data";

    pub const ALL: [(&str, &str); 9] = [
        (POSIX_RENAME, "1"),
        (STATVFS, "2"),
        (FSTATVFS, "2"),
        (HARDLINK, "1"),
        (FSYNC, "1"),
        (LSETSTAT, "1"),
        (LIMITS, "1"),
        (EXPAND_PATH, "1"),
        (COPY_DATA, "1"),
    ];
}
