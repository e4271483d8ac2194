//! What a host needs of its container engine.

use async_trait::async_trait;

use crate::config::Credentials;
use crate::runtime::{NetworkInfo, NetworkSpec, RuntimeError};

/// What a [`Host`](super::Host) asks of its engine: images and networks by name.
#[async_trait]
pub trait Engine: Clone + Send + Sync + 'static {
    /// The id of the image that is there under exactly this reference.
    async fn image(&self, reference: &str) -> Result<Option<String>, RuntimeError>;

    /// Pulls an image to its end. An error inside the pull stream is an error. `progress` gets short lines.
    async fn pull(
        &self,
        reference: &str,
        auth: Option<&Credentials>,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), RuntimeError>;

    /// Makes the network where it is missing, with a free subnet where the wanted one overlaps, and inspects it.
    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<NetworkInfo, RuntimeError>;
}
