//! Steps of an installation: script, installer, result.

use std::time::Duration;

use super::{Done, Reconciler, StepError};
use crate::files::install_log;
use crate::model::{InstallOutcome, InstallResult, ManagedBy, Reason, Role, ServerId};
use crate::reconcile::job::JobKind;
use crate::runtime::Purpose;
use crate::runtime::spec_builder;

/// An installation waits so long for its files to be on disk.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

impl Reconciler {
    pub(super) async fn write_script(&self, id: ServerId, token: &str) -> Done {
        let Some(snapshot) = self.context.store.get(id) else { return Ok(false) };
        let Some(manifest) = snapshot.manifest.clone() else { return Ok(false) };
        let Some(script) = manifest.spec.script.clone() else { return Ok(false) };
        let host = self.context.runtime.host();
        let built = spec_builder::installer_container(id, &manifest.spec, &script, &self.context.node, &host);
        let (layout, kernel) = (self.context.layout.clone(), self.context.kernel.clone());
        let fresh = !matches!(self.context.with_server(id, |state| state.installer.fresh().cloned()), Some(Some(_)));
        let written = self.context.store.blocking().run(move || {
            layout.write_script(id, &script.text)?;
            if !fresh {
                return Ok(());
            }
            let header = install_log::LogHeader {
                image: &script.image,
                entrypoint: &script.entrypoint,
                kernel: &kernel,
                environment: &built.spec.environment,
            };
            install_log::begin(&layout, id, &header)
        });
        written.await.map_err(StepError::Files)?;
        self.context.with_server(id, |state| state.script_ready = Some(token.to_owned()));
        Ok(true)
    }

    pub(super) async fn create_installer(&self, id: ServerId, token: &str) -> Done {
        let Some(snapshot) = self.context.store.get(id) else { return Ok(false) };
        let Some(manifest) = snapshot.manifest.clone() else { return Ok(false) };
        let Some(script) = &manifest.spec.script else { return Ok(false) };
        let runtime = &self.context.runtime;
        let built = spec_builder::installer_container(id, &manifest.spec, script, &self.context.node, &runtime.host());
        let built = runtime.resolve(id, built).await?;
        let purpose = Purpose { server: id, role: Role::Installer, token: token.to_owned() };
        self.create(id, &built.spec, &purpose).await
    }

    pub(super) async fn start_installer(&self, id: ServerId, container: &str) -> Done {
        self.context.with_server(id, |state| {
            state.installer.invalidate();
            state.installer_seen = Some(container.to_owned());
        });
        self.context.runtime.start(container).await?;
        self.context.with_server(id, |state| state.installer.invalidate());
        self.context.store.event(id, self.context.clock.now(), Reason::InstallStarted, "the install script is running");
        Ok(true)
    }

    pub(super) async fn record_install(
        &self,
        id: ServerId,
        token: &str,
        outcome: InstallOutcome,
        exit_code: Option<i64>,
        reason: Reason,
        message: &str,
    ) -> Done {
        let Some(snapshot) = self.context.store.get(id) else { return Ok(false) };
        let Some(manifest) = &snapshot.manifest else { return Ok(false) };
        let at = self.context.clock.now();
        let Some(install) = snapshot.asked(at).install().filter(|install| install.id == token) else {
            return Ok(false);
        };
        let is_reported = self.context.sync.is_some() && manifest.metadata.managed_by == ManagedBy::Panel;
        let result = InstallResult {
            token: token.to_owned(),
            sequence: install.sequence,
            outcome,
            reinstall: install.reinstall,
            exit_code,
            reason,
            message: message.to_owned(),
            at,
            reported: !is_reported,
        };
        self.flush(id).await;
        self.context.store.event(id, result.at, reason.of_install_event(), message);
        self.commit(id, move |record| record.finish_install(result)).await?;
        self.context.with_server(id, |state| {
            state.script_ready = None;
            state.usage = None;
        });
        Ok(true)
    }

    pub(super) async fn record_interrupted(&self, id: ServerId, container: &str, token: &str) -> Done {
        let (owned, token) = (container.to_owned(), token.to_owned());
        self.commit(id, move |record| record.interrupt_install(&token, &owned)).await?;
        let message = "the container engine or the host went down under the install script; it is run again";
        self.context.store.event(id, self.context.clock.now(), Reason::InstallInterrupted, message);
        Ok(true)
    }

    /// What the script wrote is on disk before the record says that it ran: after a power cut nobody would run it again. A disk
    /// that is busy does not hold the installation up for longer than [`FLUSH_LIMIT`].
    pub(super) async fn flush(&self, id: ServerId) {
        let layout = self.context.layout.clone();
        let flushed = self.context.store.blocking().run(move || layout.flush(id));
        match tokio::time::timeout(FLUSH_LIMIT, flushed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(server.id = %id, "{error}"),
            Err(_) => {
                tracing::warn!(server.id = %id, "the disk is busy: the installation's files may not be on it yet")
            }
        }
    }

    pub(super) async fn remove_installer(&self, id: ServerId, container: &str) -> Done {
        self.context.with_server(id, |state| state.installer.invalidate());
        let removal = self.context.runtime.remove(container).await?;
        self.context.with_server(id, |state| {
            state.installer.invalidate();
            state.script_ready = None;
            state.end_jobs(|job| job.kind == JobKind::InstallLog);
        });
        let layout = self.context.layout.clone();
        self.context.store.blocking().run(move || layout.remove_script(id)).await?;
        Ok(self.is_removed(id, removal))
    }
}
