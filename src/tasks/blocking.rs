//! Runs blocking work: on other threads than the runtime's, or in the simulation on its only thread.

use std::io;

/// Where blocking work runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocking {
    /// On tokio's pool of blocking threads.
    Pool,
    /// In the caller, for the simulation.
    Inline,
}

impl Blocking {
    /// Runs blocking work in the current span and waits for its result.
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self {
            Blocking::Inline => work(),
            Blocking::Pool => match tokio::task::spawn_blocking(in_current_span(work)).await {
                Ok(value) => value,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Blocking work is cancelled only when the runtime shuts down.
                    Err(_) => std::future::pending().await,
                },
            },
        }
    }

    /// Runs work that may never end on a new thread, which occupies no thread of the pool and does not delay the shutdown.
    ///
    /// # Errors
    /// The thread cannot be created.
    pub fn run_detached(self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        match self {
            Blocking::Inline => work(),
            Blocking::Pool => drop(std::thread::Builder::new().name(name.into()).spawn(in_current_span(work))?),
        }
        Ok(())
    }
}

/// Runs the work in the span of the caller.
fn in_current_span<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let span = tracing::Span::current();
    move || span.in_scope(work)
}

#[cfg(test)]
mod tests {
    use tracing::Instrument;
    use tracing::dispatcher::{get_default, with_default};

    use super::*;
    use crate::telemetry::capture::Capture;

    #[tokio::test]
    async fn blocking_work_runs_in_the_span_of_its_caller() {
        let (log, _guard) = Capture::of_this_thread("info");
        let dispatch = get_default(Clone::clone);
        let work = move || with_default(&dispatch, || tracing::info!("here"));
        let (ended, end) = tokio::sync::oneshot::channel();
        let detached = work.clone();
        async {
            Blocking::Pool.run(work).await;
            let work = move || {
                detached();
                // The test waits for it.
                let _ = ended.send(());
            };
            Blocking::Pool.run_detached("detached", work).unwrap();
        }
        .instrument(tracing::info_span!("asked", number = 7))
        .await;
        end.await.unwrap();
        let lines = log.lines();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.contains("asked{number=7}: ") && line.ends_with("here")), "{lines:?}");
    }
}
