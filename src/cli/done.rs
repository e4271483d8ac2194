//! What became of each of several servers, for commands that do something with them.
//!
//! Who reads of it decides nothing: a closed output ends no work half-way, a daemon that goes away does not hide what was done
//! before, and the exit code says what was done and what was not.

use serde::Serialize;

use super::error::CliError;
use super::output::{Format, Printer, print, tell};
use super::server::ServerView;
use crate::model::ServerId;

/// What became of one server.
#[derive(Debug, Serialize)]
struct Done {
    uuid: ServerId,
    /// What was done; `failed` where nothing was.
    result: String,
    /// Why nothing was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What became of several.
pub struct Outcomes {
    done: Vec<Done>,
    printer: Printer,
    /// How the output took what was said so far.
    printed: Result<(), CliError>,
}

impl Outcomes {
    /// Does something with one server after the other and says at once what became of it.
    pub async fn of<T: AsRef<str>>(
        servers: &[ServerView],
        printer: Printer,
        mut act: impl AsyncFnMut(&ServerView) -> Result<T, CliError>,
    ) -> Self {
        let mut outcomes = Self { done: Vec::new(), printer, printed: Ok(()) };
        for (number, server) in servers.iter().enumerate() {
            match act(server).await {
                Ok(result) => outcomes.say(server, result.as_ref()),
                Err(error) => {
                    outcomes.fail(server, &error);
                    if error.is_of_daemon() {
                        not_tried(servers.len() - number - 1);
                        break;
                    }
                }
            }
        }
        outcomes
    }

    fn say(&mut self, server: &ServerView, result: &str) {
        if self.printer.format == Format::Table && self.printed.is_ok() {
            self.printed = print(&format!("{}: {result}\n", server.title()));
        }
        self.done.push(Done { uuid: server.uuid, result: result.into(), error: None });
    }

    fn fail(&mut self, server: &ServerView, error: &CliError) {
        let error = error.to_string();
        tell(&format!("error: {}: {error}", server.uuid));
        self.done.push(Done { uuid: server.uuid, result: "failed".into(), error: Some(error) });
    }

    /// Says all of it to programs, and whether it all was done.
    ///
    /// # Errors
    /// Something was not done, or the output cannot be written.
    pub fn end(self) -> Result<(), CliError> {
        let printed = match self.printer.format {
            Format::Table => self.printed,
            Format::Json | Format::Yaml => self.printer.print(&self.done, String::new),
        };
        judged(printed, self.done.iter().all(|done| done.error.is_none()))
    }
}

/// Says how many were left alone after a daemon has gone away.
pub fn not_tried(count: usize) {
    if count > 0 {
        tell(&format!("{count} more, after this one, not tried"));
    }
}

/// How a command ends that has done or judged something: badly if not all of it was `good`, whoever reads of that.
///
/// # Errors
/// It was not, or the output cannot be written.
pub fn judged(printed: Result<(), CliError>, good: bool) -> Result<(), CliError> {
    match printed {
        Ok(()) | Err(CliError::Closed) if !good => Err(CliError::Reported),
        printed => printed,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_closed_output_hides_no_failure() {
        let closed = || Err(CliError::Closed);
        let broken = || Err(CliError::Output(io::Error::from(io::ErrorKind::StorageFull)));
        assert!(judged(Ok(()), true).is_ok());
        assert!(matches!(judged(closed(), true), Err(CliError::Closed)));
        assert!(matches!(judged(closed(), false), Err(CliError::Reported)));
        assert!(matches!(judged(Ok(()), false), Err(CliError::Reported)));
        assert!(matches!(judged(broken(), false), Err(CliError::Output(_))));
    }
}
