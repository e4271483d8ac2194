//! Having images: by policy, and one pull for all who want the same one at the same time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::oneshot;

use super::engine::{Engine, RegistryAuth};
use crate::config::{NodeConfig, PullPolicy};
use crate::runtime::{ErrorKind, RuntimeError};
use crate::tasks::Tasks;

/// The longest pull.
const PULL_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Most references whose meaning is remembered.
const REFERENCES: usize = 4096;

/// A pull under way, for all who wait for it.
type Pull = Shared<BoxFuture<'static, Result<(), RuntimeError>>>;

/// Pulls under way, by reference.
pub struct Images {
    node: Arc<NodeConfig>,
    tasks: Tasks,
    pulls: Arc<Mutex<BTreeMap<String, Pull>>>,
    /// What references meant when they were last asked for.
    ids: Mutex<BTreeMap<String, String>>,
}

impl Images {
    /// No pulls yet.
    pub fn new(node: Arc<NodeConfig>, tasks: Tasks) -> Self {
        Self { node, tasks, pulls: Arc::default(), ids: Mutex::default() }
    }

    /// The id of the image that a reference meant when it was last asked for.
    pub fn id(&self, reference: &str) -> Option<String> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).get(reference).cloned()
    }

    /// Makes sure that an image is there. `local` forbids to ask a registry.
    ///
    /// # Errors
    /// When it is not there afterwards.
    pub async fn ensure(&self, engine: &impl Engine, reference: &str, local: bool) -> Result<(), RuntimeError> {
        if reference.is_empty() {
            let message = "no image is named; set spec.settings.container.image";
            return Err(RuntimeError::with_message(ErrorKind::InvalidImage, message));
        }
        let policy = self.node.pull_policy;
        if local || policy != PullPolicy::Always {
            if self.is_there(engine, reference).await? {
                return Ok(());
            }
            if local || policy == PullPolicy::Never {
                let message = format!(
                    "the image {reference} is not on this host, and it is not to be pulled; load it with `docker load`"
                );
                return Err(RuntimeError::with_message(ErrorKind::NotFound, message));
            }
        }
        match self.pull(engine, reference).await {
            Err(error) if !error.is_outage() && self.is_there(engine, reference).await? => {
                tracing::warn!(image = reference, "{error}; the image on this host is used");
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => {
                // What was pulled has an id; and if it has just been removed, the container cannot be made.
                self.is_there(engine, reference).await.map(drop)
            }
        }
    }

    /// Looks for an image, and notes which one it is.
    async fn is_there(&self, engine: &impl Engine, reference: &str) -> Result<bool, RuntimeError> {
        let id = engine.image(reference).await.map_err(about_image)?;
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
    async fn pull(&self, engine: &impl Engine, reference: &str) -> Result<(), RuntimeError> {
        let pull = {
            let mut pulls = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
            match pulls.get(reference) {
                Some(pull) => pull.clone(),
                None => {
                    let pull = self.begin_pull(engine.clone(), reference);
                    pulls.insert(reference.to_owned(), pull.clone());
                    pull
                }
            }
        };
        pull.await
    }

    fn begin_pull(&self, engine: impl Engine, reference: &str) -> Pull {
        let (sender, receiver) = oneshot::channel();
        let pulls = self.pulls.clone();
        let credentials = self.node.registries.credentials_for(reference);
        let auth = credentials.map(|credentials| RegistryAuth {
            username: credentials.username.clone(),
            password: credentials.password.expose().to_owned(),
        });
        let name = reference.to_owned();
        self.tasks.spawn(format!("pull {reference}"), async move {
            let progress = |line: String| tracing::debug!(image = %name, "{line}");
            let pull = tokio::time::timeout(PULL_LIMIT, engine.pull(&name, auth, &progress)).await;
            let result = match pull {
                Ok(result) => result.map_err(about_image),
                Err(_) => {
                    let message = format!("the pull of {name} took longer than {} minutes", PULL_LIMIT.as_secs() / 60);
                    Err(RuntimeError::with_message(ErrorKind::Failed, message))
                }
            };
            pulls.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            // No caller waits any more; the next one finds the result.
            let _ = sender.send(result);
        });
        let name = reference.to_owned();
        let given_up = move |_| {
            let message = format!("the pull of {name} was given up, since the daemon is stopping");
            Err(RuntimeError::with_message(ErrorKind::Unavailable, message))
        };
        receiver.map(|ended| ended.unwrap_or_else(given_up)).boxed().shared()
    }
}

/// In an answer about an image, what is invalid is its reference.
fn about_image(mut error: RuntimeError) -> RuntimeError {
    if error.kind == ErrorKind::Invalid {
        error.kind = ErrorKind::InvalidImage;
    }
    error
}
