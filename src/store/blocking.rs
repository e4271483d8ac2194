//! Where blocking work runs: beside the runtime's threads, or in the simulation on the only one.

use std::io;

/// Where blocking work runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocking {
    /// On tokio's pool of blocking threads.
    Pool,
    /// Where it is called: for the simulation, which owns the only thread.
    Inline,
}

impl Blocking {
    /// Runs blocking work off the runtime's threads and waits for its result.
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self {
            Blocking::Inline => work(),
            Blocking::Pool => match tokio::task::spawn_blocking(work).await {
                Ok(value) => value,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Blocking work is cancelled only when the whole runtime goes down.
                    Err(_) => std::future::pending().await,
                },
            },
        }
    }

    /// Runs work that may never end on a thread of its own: it takes none from the pool, and nobody waits for it at the end of
    /// the daemon.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn apart(self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        match self {
            Blocking::Inline => work(),
            Blocking::Pool => drop(std::thread::Builder::new().name(name.into()).spawn(work)?),
        }
        Ok(())
    }
}
