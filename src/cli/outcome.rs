//! The results of a command that changes several servers, one after the other.
//!
//! A closed output stops no work. An unreachable daemon hides no earlier result. The exit code covers all of it.

use serde::Serialize;

use super::error::CliError;
use super::output::{Format, Printer, clean, notify, print};
use super::server::ServerView;
use crate::model::ServerId;

/// The result for one server or file.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The server; `None` for a file that names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<ServerId>,
    /// The server's name.
    pub name: String,
    /// The file that was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Nothing is written.
    pub dry_run: bool,
    /// What was done; `failed` or `invalid` if nothing was.
    pub result: String,
    /// Why nothing was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl From<&ServerView> for Outcome {
    fn from(server: &ServerView) -> Self {
        Self { uuid: Some(server.uuid), name: server.name().into(), ..Self::default() }
    }
}

impl Outcome {
    fn line(&self) -> String {
        let uuid = self.uuid.map(|uuid| uuid.to_string()).unwrap_or_default();
        let title = format!("{uuid} {}", clean(&self.name));
        let note = if self.dry_run { " (dry run)" } else { "" };
        format!("{}: {}{note}\n", title.trim_end(), clean(&self.result))
    }
}

/// Runs `act` on one item after the other, reports each result at once, and returns all of them.
///
/// # Errors
/// `act` failed for some of them, or the output cannot be written.
pub async fn each<T, R: Into<String>>(
    items: &[T],
    printer: Printer,
    mut act: impl AsyncFnMut(&T) -> Result<R, CliError>,
) -> Result<(), CliError>
where
    for<'a> Outcome: From<&'a T>,
{
    let (mut outcomes, mut printed) = (Vec::new(), Ok(()));
    for (number, item) in items.iter().enumerate() {
        match act(item).await {
            Ok(result) => {
                let outcome = Outcome { result: result.into(), ..item.into() };
                if printer.format == Format::Table && printed.is_ok() {
                    printed = print(&outcome.line());
                }
                outcomes.push(outcome);
            }
            Err(error) => {
                let outcome = Outcome { result: "failed".into(), error: Some(error.to_string()), ..item.into() };
                let subject = outcome.file.clone().or(outcome.uuid.map(|uuid| uuid.to_string()));
                notify(&format!("error: {}: {error}", subject.unwrap_or_default()));
                outcomes.push(outcome);
                let left = items.len() - number - 1;
                if error.is_of_daemon() && left > 0 {
                    notify(&format!("{left} more, after this one, not tried"));
                    break;
                }
            }
        }
    }
    let all = printer.print(&outcomes, String::new);
    judged(printed.and(all), outcomes.iter().all(|outcome| outcome.error.is_none()))
}

/// The end of a command: a failure unless everything was `good`, also if the reader of the output has gone.
///
/// # Errors
/// Not everything was good, or the output cannot be written.
pub fn judged(printed: Result<(), CliError>, good: bool) -> Result<(), CliError> {
    match printed {
        Ok(()) | Err(CliError::Closed) if !good => Err(CliError::Reported),
        printed => printed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_output_hides_no_failure() {
        let closed = || Err(CliError::Closed);
        let broken = || Err(CliError::Failed("cannot write the output: no space".into()));
        assert!(judged(Ok(()), true).is_ok());
        assert!(matches!(judged(closed(), true), Err(CliError::Closed)));
        assert!(matches!(judged(closed(), false), Err(CliError::Reported)));
        assert!(matches!(judged(Ok(()), false), Err(CliError::Reported)));
        assert!(matches!(judged(broken(), false), Err(CliError::Failed(_))));
    }
}
