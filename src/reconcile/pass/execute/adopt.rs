//! Steps that take over what Wings has left running.

use super::{Context, Done, StepError};
use crate::files::install_log;
use crate::model::{Reason, Requester, Role, ServerId, Timestamp, Verb};
use crate::requests::{NewRequest, adopted_id};
use crate::store::states::start_of_wings;
use crate::store::{Snapshot, StoreError};

impl Context {
    pub(super) async fn adopt_server(&self, id: ServerId, container: &str) -> Done {
        let asked = |snapshot: &Snapshot, now| snapshot.asked(now).power().is_some();
        if self.accept_for_takeover(id, asked, start_of_wings(self.clock.now())).await? {
            let message = format!("took over the running container {container:.12} of Wings");
            self.event(id, Reason::TakenOver, &message);
        }
        Ok(())
    }

    pub(super) async fn adopt_installer(&self, id: ServerId, container: &str, reinstall: bool) -> Done {
        let installer = self.servers.cached(id, Role::Installer).flatten();
        let image = installer.and_then(|installer| installer.image).unwrap_or_default();
        let (layout, kernel) = (self.node.layout.clone(), self.node.kernel.clone());
        let begun = self.store.blocking().run(move || {
            let header = install_log::LogHeader {
                image: &image,
                entrypoint: "(started by Wings)",
                kernel: &kernel,
                environment: &[],
            };
            install_log::begin(&layout, id, &header)
        });
        begun.await.map_err(StepError::Files)?;
        let new = NewRequest {
            id: adopted_id(container),
            at: self.clock.now(),
            expires_at: None,
            timeout: None,
            by: Requester::Takeover,
            verb: Verb::Install { reinstall, then_start: false },
        };
        let asked = |snapshot: &Snapshot, now| snapshot.asked(now).install().is_some();
        if self.accept_for_takeover(id, asked, new).await? {
            let message = format!("took over the installation of Wings in container {container:.12}");
            self.event(id, Reason::TakenOver, &message);
        }
        Ok(())
    }

    /// Accepts a request, unless another one was made since the plan was: then the next plan follows that. Returns whether it did.
    async fn accept_for_takeover(
        &self,
        id: ServerId,
        asked: impl Fn(&Snapshot, Timestamp) -> bool,
        new: NewRequest,
    ) -> Result<bool, StepError> {
        let Some(snapshot) = self.store.get(id) else { return Ok(false) };
        if asked(&snapshot, new.at) || snapshot.is_being_deleted() {
            return Ok(false);
        }
        let revision = snapshot.revision;
        match self.store.run(move |store| store.request(id, Some(revision), [new])).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
