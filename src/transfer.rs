//! The wire of transfers between nodes: a multipart form over HTTP, from a source to a destination, either of which may be Wings.
//!
//! ```text
//! source:       files ─▶ FormWriter ─▶ pipe ─▶ Transfers::send ─▶ HTTP
//! destination:  HTTP ─▶ PartName ─▶ pipe ─▶ Receiver ─▶ a tree beside the server's files, archives of backups
//! ```
//!
//! What is read is not trusted, and nothing of it counts before [`Received::verified`]. Source: backups and transfers, "Server
//! transfer"; HTTP API, "Transfers between daemons".

mod form;
mod log;
mod parts;
mod pipe;
mod receive;
mod send;
mod session;

pub use form::FormWriter;
pub use log::{log_line, progress_line};
pub use parts::{InvalidPart, PartName};
pub use pipe::{Closed, PipeReader, PipeReceiver, PipeSender, PipeStream, PipeWriter, pipe};
pub use receive::{Destination, ReceiveError, Received, ReceivedArchive, ReceivedBackup};
pub use send::{POOL, SendError, Target, Transfers};
pub use session::{
    INSTALL_LOG, PAGES, SESSIONS, Session, SessionPhase, SessionRequest, SessionState, TransferPart, Verification,
    backup_of,
};
