//! Where blocking work runs: beside the runtime's threads, or in the simulation on the only one.

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
}
