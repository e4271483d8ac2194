//! Fetches a server's configuration from the panel before a start or an installation.

use async_trait::async_trait;

use super::{BackgroundJob, JobError, JobRun, Subject};

/// A start goes on without the panel soon. An installation waits for it, so each attempt may take as long as the panel's timeout.
pub(super) struct Sync;

#[async_trait]
impl BackgroundJob for Sync {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let sync = run.sync()?;
        let fetched = match run.subject {
            Subject::Install(_) => sync.fetch_for_install(run.server).await?,
            _ => sync.fetch_for_start(run.server).await?,
        };
        sync.apply(run.server, fetched, Some(run.subject.to_string())).await?;
        Ok(())
    }
}
