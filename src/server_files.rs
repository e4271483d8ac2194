//! Stub.
use std::sync::Arc;
use crate::files::tree::Tree;
use crate::model::ServerId;
/// Stub.
#[derive(Clone)]
pub struct ServerFiles(pub Arc<dyn Fn(ServerId) -> Option<Tree> + Send + Sync>);
/// Stub.
#[derive(Debug, thiserror::Error)]
#[error("unavailable")]
pub struct Unavailable;
impl ServerFiles {
    /// Stub.
    pub fn tree(&self, id: ServerId) -> Result<Tree, Unavailable> { (self.0)(id).ok_or(Unavailable) }
}
