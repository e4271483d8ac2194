//! Reports to the panel what it does not know: see [`reporter`].

use async_trait::async_trait;

use super::{BackgroundJob, JobError, JobOutput, JobRun, panel};
use crate::reconcile::reporter::{self, ReportError};
use crate::retry;

/// The result of an installation, then states.
pub(super) struct Report;

#[async_trait]
impl BackgroundJob for Report {
    async fn run(&self, run: &JobRun) -> Result<JobOutput, JobError> {
        let panel = panel::panel_of(&run.context)?;
        match reporter::report(&run.context, &*panel, run.server).await {
            Ok(()) => Ok(JobOutput::Nothing),
            Err(ReportError::Panel(error)) => Err(error.into()),
            Err(error) => Err(JobError::new(retry::PANEL, error.to_string())),
        }
    }
}
