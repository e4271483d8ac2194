//! Ensures that images exist, by the node's policy. Concurrent callers share one pull.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, oneshot};

use super::engine::Engine;
use super::in_flight::InFlight;
use crate::config::{NodeConfig, PullPolicy};
use crate::runtime::{ErrorKind, PullLine, RuntimeError};
use crate::tasks::Tasks;

/// The time limit of a pull.
const PULL_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Maximum number of cached ids.
const REFERENCES: usize = 4096;
/// Lines about pulls that wait for a slow subscriber.
const LINES: usize = 256;

/// The images of the engine.
pub struct Images {
    node: Arc<NodeConfig>,
    tasks: Tasks,
    /// Running pulls, by reference.
    pulls: InFlight<Result<(), RuntimeError>>,
    /// The ids of images, as observed last, by reference.
    ids: Mutex<BTreeMap<String, String>>,
    /// The progress of all pulls.
    lines: broadcast::Sender<PullLine>,
}

impl Images {
    pub fn new(node: Arc<NodeConfig>, tasks: Tasks) -> Self {
        Self { node, tasks, pulls: InFlight::default(), ids: Mutex::default(), lines: broadcast::Sender::new(LINES) }
    }

    /// Subscribes to the progress of all pulls from now on.
    pub fn lines(&self) -> broadcast::Receiver<PullLine> {
        self.lines.subscribe()
    }

    /// The id of an image, as observed last.
    pub fn id(&self, reference: &str) -> Option<String> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).get(reference).cloned()
    }

    /// Ensures that an image exists. `local` forbids a pull.
    ///
    /// # Errors
    /// The image does not exist.
    pub async fn ensure(&self, engine: &impl Engine, reference: &str, local: bool) -> Result<(), RuntimeError> {
        if reference.is_empty() {
            let message = "the server has no image; set spec.settings.container.image";
            return Err(RuntimeError::with_message(ErrorKind::InvalidImage, message));
        }
        let policy = self.node.pull_policy;
        if local || policy != PullPolicy::Always {
            if self.is_there(engine, reference).await? {
                return Ok(());
            }
            if local || policy == PullPolicy::Never {
                let message = format!(
                    "the image {reference} does not exist on this host, and the configuration forbids to pull it; load it with `docker load`"
                );
                return Err(RuntimeError::with_message(ErrorKind::NotFound, message));
            }
        }
        match self.pull(engine, reference).await {
            Err(error) if !error.is_outage() && self.is_there(engine, reference).await? => {
                tracing::warn!(image = reference, %error, "cannot pull the image; using the local one");
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => {
                // This caches the id. If the image was removed again, the creation of the container fails.
                self.is_there(engine, reference).await.map(drop)
            }
        }
    }

    /// Whether an image exists. Caches its id.
    async fn is_there(&self, engine: &impl Engine, reference: &str) -> Result<bool, RuntimeError> {
        let id = engine.image(reference).await.map_err(about_image)?;
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = id else {
            ids.remove(reference);
            return Ok(false);
        };
        if ids.len() >= REFERENCES {
            // Panels may send any number of references.
            ids.clear();
        }
        ids.insert(reference.to_owned(), id);
        Ok(true)
    }

    /// Joins the pull of this reference, or begins it.
    async fn pull(&self, engine: &impl Engine, reference: &str) -> Result<(), RuntimeError> {
        let pull = self.pulls.join(reference, |done| self.begin_pull(engine.clone(), reference.to_owned(), done));
        pull.result().await.unwrap_or_else(|| {
            let message = format!("the pull of {reference} was cancelled, because the daemon is stopping");
            Err(RuntimeError::with_message(ErrorKind::Unavailable, message))
        })
    }

    fn begin_pull(&self, engine: impl Engine, name: String, done: oneshot::Sender<Result<(), RuntimeError>>) {
        let credentials = self.node.registries.credentials_for(&name).cloned();
        let (image, lines): (Arc<str>, _) = (name.as_str().into(), self.lines.clone());
        self.tasks.spawn(format!("pull {name}"), async move {
            let progress = |line: String| {
                tracing::debug!(image = name, "{line}");
                // There may be no subscriber.
                let _ = lines.send(PullLine { image: image.clone(), line: line.into() });
            };
            let pull = tokio::time::timeout(PULL_LIMIT, engine.pull(&name, credentials.as_ref(), &progress)).await;
            let result = match pull {
                Ok(result) => result.map_err(about_image),
                Err(_) => {
                    let message = format!("the pull of {name} took longer than {} minutes", PULL_LIMIT.as_secs() / 60);
                    Err(RuntimeError::with_message(ErrorKind::Failed, message))
                }
            };
            // Every caller may have given up.
            let _ = done.send(result);
        });
    }
}

/// In an answer about an image, invalid is the reference.
fn about_image(mut error: RuntimeError) -> RuntimeError {
    if error.kind == ErrorKind::Invalid {
        error.kind = ErrorKind::InvalidImage;
    }
    error
}
