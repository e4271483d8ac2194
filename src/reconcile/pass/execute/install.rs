//! Steps of an installation: script, installer, result.

use super::{Context, Done, StepError};
use crate::events::EventKind;
use crate::files::install_log;
use crate::model::{InstallResult, Reason, Role, Script, ServerId};
use crate::runtime::{BuiltSpec, spec_builder};
use crate::wait;

impl Context {
    /// The install script, and the spec of the container that runs it.
    fn installer(&self, id: ServerId) -> Option<(Script, BuiltSpec)> {
        let manifest = self.store.get(id)?.manifest.clone()?;
        let script = manifest.spec.script.clone()?;
        let (config, host) = (&self.node.config, self.runtime.host());
        let built = spec_builder::installer_container(id, &manifest.spec, &script, config, &host);
        Some((script, built))
    }

    pub(super) async fn write_script(&self, id: ServerId, token: &str) -> Done {
        let Some((script, built)) = self.installer(id) else { return Ok(()) };
        let (layout, kernel) = (self.node.layout.clone(), self.node.kernel.clone());
        // With a container there is a log, which the container's output continues.
        let begins_log = !matches!(self.servers.cached(id, Role::Installer), Some(Some(_)));
        let written = self.store.blocking().run(move || {
            layout.write_script(id, &script.text)?;
            if !begins_log {
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
        self.servers.script_written(id, token);
        Ok(())
    }

    pub(super) async fn create_installer(&self, id: ServerId, token: &str) -> Done {
        let Some((_, built)) = self.installer(id) else { return Ok(()) };
        self.create(id, Role::Installer, token, built).await
    }

    pub(super) async fn start_installer(&self, id: ServerId, container: &str) -> Done {
        self.servers.starting(id, Role::Installer, container);
        self.runtime.start(container).await?;
        self.servers.container_changed(id, Role::Installer);
        self.event(id, Reason::InstallStarted, "the install script is running");
        self.store.events().publish_output(id, || EventKind::InstallerStarted);
        Ok(())
    }

    pub(super) async fn record_install(&self, id: ServerId, result: InstallResult) -> Done {
        let Some(snapshot) = self.store.get(id) else { return Ok(()) };
        if snapshot.asked(result.at).install().is_none_or(|install| install.id != result.token) {
            return Ok(());
        }
        self.flush(id).await;
        self.event(id, result.reason.of_install_event(), &result.message);
        self.commit(id, move |record| record.finish_install(result)).await?;
        self.servers.install_recorded(id);
        self.accounts.not_measured(id);
        self.store.events().publish_output(id, || EventKind::InstallEnded);
        Ok(())
    }

    pub(super) async fn record_interrupted(&self, id: ServerId, container: &str, token: &str) -> Done {
        let (owned, token) = (container.to_owned(), token.to_owned());
        self.commit(id, move |record| record.interrupt_install(&token, &owned)).await?;
        let message = "the container engine or the host interrupted the install script; it is run again";
        self.event(id, Reason::InstallInterrupted, message);
        Ok(())
    }

    /// Flushes what the script wrote to disk. It must be there before the record says that the script ran: after a power cut it
    /// would not run again.
    async fn flush(&self, id: ServerId) {
        let layout = self.node.layout.clone();
        let flushed = self.store.blocking().run(move || layout.flush(id));
        match tokio::time::timeout(wait::INSTALL_FLUSH, flushed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot flush the installation's files"),
            Err(_) => tracing::warn!("the disk is busy: the installation's files may not be flushed yet"),
        }
    }

    pub(super) async fn remove_installer(&self, id: ServerId, container: &str) -> Result<bool, StepError> {
        self.servers.container_changed(id, Role::Installer);
        let removal = self.runtime.remove(container).await?;
        self.servers.installer_removed(id);
        let layout = self.node.layout.clone();
        self.store.blocking().run(move || layout.remove_script(id)).await?;
        Ok(self.is_removed(id, removal))
    }
}
