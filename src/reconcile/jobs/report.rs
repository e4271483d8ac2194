//! Reports to the panel what it does not know: see [`PanelSync::report`](crate::sync::PanelSync::report).

use async_trait::async_trait;

use super::{BackgroundJob, JobError, JobRun};

/// The result of an installation, then states.
pub(super) struct Report;

#[async_trait]
impl BackgroundJob for Report {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        match run.sync()?.report(run.server).await {
            Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
