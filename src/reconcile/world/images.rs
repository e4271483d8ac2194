//! Having images: by policy, and one pull for all who want the same one at the same time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::oneshot;

use super::pulls_always;
use crate::config::{NodeConfig, PullPolicy};
use crate::runtime::{ErrorKind, RegistryAuth, Runtime, RuntimeError};
use crate::tasks::Tasks;

/// The longest pull.
const PULL_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Most references whose meaning is remembered.
const REFERENCES: usize = 4096;

/// Why an image is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ImageError {
    /// Whether only another image reference helps.
    pub fatal: bool,
    /// The engine could not be asked.
    pub outage: bool,
    /// For people.
    pub message: String,
}

/// A pull under way, for all who wait for it.
type Pull = Shared<BoxFuture<'static, Result<(), ImageError>>>;

/// Pulls under way, by reference.
pub struct Images {
    runtime: Arc<dyn Runtime>,
    node: Arc<NodeConfig>,
    tasks: Tasks,
    pulls: Arc<Mutex<BTreeMap<String, Pull>>>,
    /// What references meant when they were last asked for.
    ids: Mutex<BTreeMap<String, String>>,
}

impl Images {
    /// No pulls yet.
    pub fn new(runtime: Arc<dyn Runtime>, node: Arc<NodeConfig>, tasks: Tasks) -> Self {
        Self { runtime, node, tasks, pulls: Arc::default(), ids: Mutex::default() }
    }

    /// The id of the image that a reference meant when it was last asked for.
    pub fn id(&self, reference: &str) -> Option<String> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).get(reference).cloned()
    }

    /// Has an image there. `local` forbids to ask a registry.
    ///
    /// # Errors
    /// When it is not there afterwards.
    pub async fn ensure(&self, reference: &str, local: bool) -> Result<(), ImageError> {
        if reference.is_empty() {
            let message = "no image is named; set spec.settings.container.image".to_string();
            return Err(ImageError { fatal: true, outage: false, message });
        }
        if local || !pulls_always(&self.node) {
            if self.is_there(reference).await? {
                return Ok(());
            }
            if local || self.node.docker.pull_policy == PullPolicy::Never {
                let message = format!(
                    "the image {reference} is not on this host, and it is not to be pulled; load it with `docker load`"
                );
                return Err(ImageError { fatal: false, outage: false, message });
            }
        }
        match self.pull(reference).await {
            Err(error) if !error.outage && self.is_there(reference).await? => {
                tracing::warn!(image = reference, "{error}; the image on this host is used");
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => {
                // What was pulled has an id; and if somebody has just removed it, the container cannot be made.
                self.is_there(reference).await.map(drop)
            }
        }
    }

    /// Looks for an image, and notes which one it is.
    async fn is_there(&self, reference: &str) -> Result<bool, ImageError> {
        let id = self.runtime.image(reference).await.map_err(|error| classify(&error))?;
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = id else {
            ids.remove(reference);
            return Ok(false);
        };
        if ids.len() >= REFERENCES {
            // References come from panels, which may name ever new ones.
            ids.clear();
        }
        ids.insert(reference.to_owned(), id);
        Ok(true)
    }

    /// Joins the pull of this reference, or begins it. The pull goes on when a caller gives up.
    async fn pull(&self, reference: &str) -> Result<(), ImageError> {
        let pull = {
            let mut pulls = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
            match pulls.get(reference) {
                Some(pull) => pull.clone(),
                None => {
                    let pull = self.begin_pull(reference);
                    pulls.insert(reference.to_owned(), pull.clone());
                    pull
                }
            }
        };
        pull.await
    }

    fn begin_pull(&self, reference: &str) -> Pull {
        let (sender, receiver) = oneshot::channel();
        let (runtime, pulls) = (self.runtime.clone(), self.pulls.clone());
        let credentials = self.node.docker.registries.credentials_for(reference);
        let auth = credentials.map(|credentials| RegistryAuth {
            username: credentials.username.clone(),
            password: credentials.password.expose().to_owned(),
        });
        let name = reference.to_owned();
        self.tasks.spawn(format!("pull {reference}"), async move {
            let progress = |line: String| tracing::debug!(image = %name, "{line}");
            let pull = tokio::time::timeout(PULL_LIMIT, runtime.pull(&name, auth, &progress)).await;
            let result = match pull {
                Ok(result) => result.map_err(|error| classify(&error)),
                Err(_) => Err(ImageError {
                    fatal: false,
                    outage: false,
                    message: format!("the pull of {name} took longer than {} minutes", PULL_LIMIT.as_secs() / 60),
                }),
            };
            pulls.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            // Nobody waits any more: the result is found by the next one who asks.
            let _ = sender.send(result);
        });
        let name = reference.to_owned();
        let given_up = move |_| {
            let message = format!("the pull of {name} was given up, since the daemon is stopping");
            Err(ImageError { fatal: false, outage: true, message })
        };
        receiver.map(|ended| ended.unwrap_or_else(given_up)).boxed().shared()
    }
}

/// A reference that no registry can resolve is for a person; everything else may be better later.
fn classify(error: &RuntimeError) -> ImageError {
    let fatal = matches!(error.kind, ErrorKind::Invalid | ErrorKind::InvalidImage);
    ImageError { fatal, outage: error.is_outage(), message: error.to_string() }
}
