//! The panel's reset takes every server that the panel believes to be installing for installed. A wish to install that is
//! accepted while the reset is on its way would be forgotten by the panel, so one waits for the other.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Wishes that can be accepted at once.
const WISHES: u32 = 1024;

/// Lets many wishes through at once, or one reset.
pub struct ResetLock {
    places: Semaphore,
}

impl Default for ResetLock {
    fn default() -> Self {
        Self { places: Semaphore::new(WISHES as usize) }
    }
}

impl ResetLock {
    /// Waits for a reset that is under way. While the permit is held none begins.
    pub async fn request(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.places.acquire().await.ok()
    }

    /// Waits for wishes that are being written. While the permit is held none is accepted.
    pub async fn reset(&self) -> Option<SemaphorePermit<'_>> {
        self.places.acquire_many(WISHES).await.ok()
    }
}
