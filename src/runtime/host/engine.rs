//! The operations of an engine that a host needs.

use async_trait::async_trait;

use crate::config::RegistryFile;
use crate::runtime::{NetworkInfo, NetworkSpec, RuntimeError};

/// Images and networks of an engine, by name.
#[async_trait]
pub trait Engine: Clone + Send + Sync + 'static {
    /// The id of the image with exactly this reference.
    async fn image(&self, reference: &str) -> Result<Option<String>, RuntimeError>;

    /// Pulls an image. `progress` gets short lines.
    async fn pull(
        &self,
        reference: &str,
        auth: Option<&RegistryFile>,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), RuntimeError>;

    /// Inspects the network, after creating it if it is missing. An overlapping subnet is replaced by a free one.
    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<NetworkInfo, RuntimeError>;
}
