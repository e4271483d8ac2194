//! Uploads of archives to a store of objects (S3), by presigned links of the panel.
//!
//! [`Uploads::upload`] sends an archive that is on disk, part by part. Links and the store's ETags are in a journal beside it, so that a
//! restart sends the missing parts only. [`Uploads::streamed`] is for a disk without room for an archive: it is sent while it is made, and
//! begins again after a crash. Both return the parts that the panel wants in the report. ADR 46.
//!
//! Source: remote API, "Backups".

mod archive;
mod attempt;
mod error;
mod journal;
mod send;
mod streamed;

pub use error::UploadError;
pub use journal::{path_for as journal_path, remove as remove_journal};
pub use send::{Limits, Uploads};
pub use streamed::{PartSink, StreamedUpload};

#[cfg(test)]
mod tests;
