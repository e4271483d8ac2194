//! Makes an image available, and what else its container needs: see [`Runtime::prepare`](crate::runtime::Runtime::prepare).

use std::pin::pin;

use async_trait::async_trait;
use tokio::sync::broadcast::error::RecvError;

use super::{BackgroundJob, JobError, JobRun, Subject};
use crate::events::EventKind;
use crate::events::frames::{INSTALL_OUTPUT, OutputBuilder};
use crate::model::{Role, ServerId};
use crate::reconcile::context::Context;
use crate::retry;
use crate::runtime::{ContainerSpec, ErrorKind, PullLine, RuntimeError, spec_builder};

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
        let prepared = match subject {
            Subject::Image { role: Role::Installer, .. } => context.runtime.prepare(&built.spec).await,
            _ => prepare_visibly(context, *server, &built.spec).await,
        };
        prepared.map_err(|error| JobError {
            fatal: error.kind == ErrorKind::InvalidImage,
            ..JobError::new(retry::IMAGE, error.to_string())
        })
    }
}

/// Prepares a server's container, and publishes how its image is pulled.
async fn prepare_visibly(context: &Context, id: ServerId, spec: &ContainerSpec) -> Result<(), RuntimeError> {
    let mut pulls = context.runtime.pulls();
    let mut prepared = pin!(context.runtime.prepare(spec));
    loop {
        tokio::select! {
            result = &mut prepared => {
                while let Ok(pull) = pulls.try_recv() {
                    publish(context, id, spec, &pull);
                }
                return result;
            }
            pull = pulls.recv() => match pull {
                Ok(pull) => publish(context, id, spec, &pull),
                // Lines that were missed are of no use.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return prepared.await,
            },
        }
    }
}

fn publish(context: &Context, id: ServerId, spec: &ContainerSpec, pull: &PullLine) {
    let events = context.store.events();
    if *pull.image != *spec.image || !events.is_watched(id) {
        return;
    }
    let mut output = OutputBuilder::new(INSTALL_OUTPUT);
    output.push(&pull.line, 0);
    if let Some(output) = output.take() {
        events.publish_output(id, || EventKind::Install(output));
    }
}
