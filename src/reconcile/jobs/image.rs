//! Makes an image available, and what else its container needs: see [`Runtime::prepare`](crate::runtime::Runtime::prepare).

use async_trait::async_trait;

use super::{BackgroundJob, JobError, JobRun, Subject};
use crate::model::Role;
use crate::retry;
use crate::runtime::{ErrorKind, spec_builder};

/// Of the server's or the installer's container.
pub(super) struct PrepareImage;

#[async_trait]
impl BackgroundJob for PrepareImage {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let JobRun { context, server, subject } = run;
        let Some(manifest) = context.store.get(*server).and_then(|snapshot| snapshot.manifest.clone()) else {
            return Ok(());
        };
        let (spec, host) = (&manifest.spec, context.runtime.host());
        let built = match (subject, &spec.script) {
            (Subject::Image { role: Role::Installer, .. }, Some(script)) => {
                spec_builder::installer_container(*server, spec, script, &context.node.config, &host)
            }
            (Subject::Image { role: Role::Installer, .. }, None) => return Ok(()),
            _ => spec_builder::server_container(&manifest, &context.node.config, &host),
        };
        context.runtime.prepare(&built.spec).await.map_err(|error| JobError {
            fatal: error.kind == ErrorKind::InvalidImage,
            ..JobError::new(retry::IMAGE, error.to_string())
        })?;
        Ok(())
    }
}
