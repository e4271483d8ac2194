//! The fake engine's streams: output, logs, events, and the terminal's input.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::engine::FakeEngine;
use super::faults::{Delivery, Faults};
use crate::runtime::{RuntimeError, RuntimeEvent};

/// Earlier output, then new output.
pub(super) fn output(
    before: Option<Bytes>,
    from: Option<mpsc::Receiver<Bytes>>,
) -> BoxStream<'static, Result<Bytes, RuntimeError>> {
    let before = stream::iter(before.filter(|bytes| !bytes.is_empty()).map(Ok));
    let Some(mut from) = from else {
        return before.boxed();
    };
    before.chain(stream::poll_fn(move |context| from.poll_recv(context).map(|chunk| chunk.map(Ok)))).boxed()
}

/// The input of a container's terminal, for one run over one connection.
pub(super) struct TerminalInput {
    pub(super) engine: FakeEngine,
    pub(super) id: String,
    /// The run it belongs to.
    pub(super) run: u32,
    /// The engine's generation it belongs to.
    pub(super) generation: u64,
}

impl AsyncWrite for TerminalInput {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let typed = self.engine.with(|state| {
            let current = state.find(&self.id).is_some_and(|container| container.run <= self.run);
            current && state.generation == self.generation && state.type_in(&self.id, bytes)
        });
        Poll::Ready(if typed { Ok(bytes.len()) } else { Err(io::ErrorKind::BrokenPipe.into()) })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// One listener to events, with the faults of its connection.
pub(super) struct Listener {
    engine: FakeEngine,
    faults: Arc<dyn Faults>,
    from: mpsc::UnboundedReceiver<(Duration, RuntimeEvent)>,
    ready: VecDeque<RuntimeEvent>,
    late: BTreeMap<(Instant, u64), RuntimeEvent>,
    delayed: u64,
}

impl Listener {
    pub(super) fn new(
        engine: FakeEngine,
        faults: Arc<dyn Faults>,
        from: mpsc::UnboundedReceiver<(Duration, RuntimeEvent)>,
    ) -> Self {
        Self { engine, faults, from, ready: VecDeque::new(), late: BTreeMap::new(), delayed: 0 }
    }

    pub(super) fn into_stream(self) -> BoxStream<'static, RuntimeEvent> {
        stream::unfold(self, |mut listener| async move { Some((listener.next().await?, listener)) }).boxed()
    }

    async fn next(&mut self) -> Option<RuntimeEvent> {
        loop {
            while let Some(entry) = self.late.first_entry()
                && entry.key().0 <= Instant::now()
            {
                self.ready.push_back(entry.remove());
            }
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let due = self.late.keys().next().map(|(at, _)| *at);
            let wait = tokio::time::sleep_until(due.unwrap_or_else(Instant::now));
            tokio::select! {
                biased;
                acknowledged = self.from.recv() => {
                    let (at, event) = acknowledged?;
                    self.deliver(at, event);
                }
                () = wait, if due.is_some() => {}
            }
        }
    }

    fn deliver(&mut self, at: Duration, event: RuntimeEvent) {
        match self.faults.deliver(&event) {
            Delivery::Once => self.ready.push_back(event),
            Delivery::Lost => {}
            Delivery::Twice => self.ready.extend([event.clone(), event]),
            Delivery::Late(by) => {
                self.delayed += 1;
                self.late.insert((self.engine.instant(at) + by, self.delayed), event);
            }
        }
    }
}
