//! The last lines that a server has printed.

use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;

use super::context::Context;
use crate::model::ServerId;
use crate::runtime::{ErrorKind, LogPart, RuntimeError};

/// Timeout of reading from the engine.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum of bytes that are read of a log.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Why the output of a server cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The engine has failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The transcript cannot be read.
    #[error("cannot read the console's transcript: {0}")]
    Transcript(#[from] io::Error),
}

impl Context {
    /// The last lines of a container's log, or of the transcript where the engine keeps no log. If the engine hangs, the lines that were
    /// read by then.
    ///
    /// # Errors
    /// Neither can be read.
    pub async fn last_lines(&self, id: ServerId, container: &str, lines: u32) -> Result<Vec<String>, OutputError> {
        let mut output = match self.runtime.logs(container, LogPart::Tail(lines)).await {
            // A log driver such as `none` keeps nothing that can be read.
            Err(error) if error.kind == ErrorKind::Unsupported => {
                return Ok(last(&self.transcript(id, lines).await?, lines));
            }
            output => output?,
        };
        let mut bytes = Vec::new();
        let until = Instant::now() + READ_TIMEOUT;
        while let Ok(Some(chunk)) = tokio::time::timeout_at(until, output.next()).await {
            bytes.extend_from_slice(&chunk?);
            if bytes.len() > MAX_BYTES {
                break;
            }
        }
        Ok(last(&bytes, lines))
    }

    /// The end of a server's transcript, with its last `lines` lines.
    async fn transcript(&self, id: ServerId, lines: u32) -> io::Result<Vec<u8>> {
        let handover = self.console.handover(id, &self.node.layout.logs(id)).await?;
        let read = move || {
            let mut bytes = Vec::new();
            if let Some(mut file) = handover.file {
                file.skip_to_last(lines.into())?;
                bytes = file.read_rest(MAX_BYTES)?;
            }
            bytes.extend(handover.unwritten);
            Ok(bytes)
        };
        self.store.blocking().run(read).await
    }
}

fn last(bytes: &[u8], lines: u32) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let all: Vec<&str> = text.lines().map(|line| line.trim_end_matches('\r')).collect();
    let excess = all.len().saturating_sub(lines as usize);
    all[excess..].iter().map(|line| (*line).to_owned()).collect()
}
