//! Handlers of a server's files. Source: HTTP API, "Files".
//!
//! Paths are bytes of UTF-8 below the server's directory. What is sent and received is streamed; everything else is work of
//! [`ServerFiles`](crate::server_files::ServerFiles), which is completed although the caller goes away.

mod answer;
mod archives;
mod contents;
mod entry;
mod list;
mod names;
mod pull;
mod query;
mod search;
mod write;

pub use answer::answer;
pub use archives::{compress, decompress};
pub use contents::{body, content_disposition, contents};
pub use entry::Zone;
pub use list::list_directory;
pub use names::{change_mode, copy, create_directory, delete, rename};
pub use pull::{begin_pull, cancel_pull, pulls};
pub use query::{Query, path};
pub use search::search;
pub use write::{body_pieces, drained, write};
