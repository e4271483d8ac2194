//! Fetches the install script from the panel.

use async_trait::async_trait;

use super::{BackgroundJob, JobError, JobRun};

/// The script becomes part of the manifest.
pub(super) struct FetchScript;

#[async_trait]
impl BackgroundJob for FetchScript {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let (id, token) = (run.server, run.subject.to_string());
        let script = run.sync()?.fetch_script(id).await?;
        let written = run.context.store.run(move |store| {
            store.sync(
                id,
                None,
                |manifest| manifest.spec.script = Some(script),
                |record| record.install.begun = Some(token),
            )
        });
        written.await?;
        Ok(())
    }
}
