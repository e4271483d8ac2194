//! Fetches the install script from the panel.

use async_trait::async_trait;

use super::{BackgroundJob, JobError, JobOutput, JobRun, panel};
use crate::retry;

/// The script becomes part of the manifest.
pub(super) struct FetchScript;

#[async_trait]
impl BackgroundJob for FetchScript {
    async fn run(&self, run: &JobRun) -> Result<JobOutput, JobError> {
        let (id, context, token) = (run.server, &run.context, run.subject.to_string());
        let panel = panel::panel_of(context)?;
        let script = {
            let _permit = context.questions.acquire().await;
            panel.script(id).await?
        };
        let write = move |store: &crate::store::Store| {
            let begun = |record: &mut crate::model::Record| record.install.begun = Some(token);
            store.sync(id, None, |manifest| manifest.spec.script = Some(script), begun)
        };
        let written = context.store.run(write).await;
        written.map(|_| JobOutput::Nothing).map_err(|error| JobError::new(retry::PANEL, error.to_string()))
    }
}
