//! Fetches a server's configuration from the panel before a start or an installation.

use async_trait::async_trait;

use super::panel::{self, FetchedSpec, apply_sync};
use super::{BackgroundJob, JobError, JobOutput, JobRun, Subject};
use crate::retry;

/// A start goes on without the panel soon. An installation waits for it, so each attempt may take as long as the panel is allowed to.
pub(super) struct Sync;

#[async_trait]
impl BackgroundJob for Sync {
    async fn run(&self, run: &JobRun) -> Result<JobOutput, JobError> {
        let JobRun { context, server, subject } = run;
        let (id, panel) = (*server, panel::panel_of(context)?);
        let fetch = || async {
            let _permit = context.questions.acquire().await;
            let asked_at = context.clock.now();
            let server = panel.server(id).await?;
            Ok(FetchedSpec { server, asked_at, read_at: context.clock.now() })
        };
        let fetched = match subject {
            Subject::Install(_) => fetch().await?,
            _ => panel::patiently(context, id, fetch).await?,
        };
        let subject = subject.to_string();
        let written = context.store.run(move |store| apply_sync(store, id, &fetched, Some(subject))).await;
        written.map(|_| JobOutput::Nothing).map_err(|error| JobError::new(retry::PANEL, error.to_string()))
    }
}
