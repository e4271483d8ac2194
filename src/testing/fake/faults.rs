//! Faults between a caller and the fake engine: a test decides them for each call.

use std::time::Duration;

use async_trait::async_trait;

use crate::model::{Role, ServerId};
use crate::runtime::{RuntimeError, RuntimeEvent};

/// One call of the [`Runtime`](crate::runtime::Runtime) trait, as the faults see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method's name: `create`, `start`, `inspect`, …
    pub name: &'static str,
    /// The server, where the call is about a container that exists.
    pub server: Option<ServerId>,
    /// The container's role, likewise.
    pub role: Option<Role>,
}

/// How an event reaches one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// At once.
    Once,
    /// Never.
    Lost,
    /// Two times, both at once.
    Twice,
    /// This much later; other events may overtake it.
    Late(Duration),
}

/// The faults of one connection to the engine.
///
/// No method runs under the machine's lock, so all of them may use it. Their time counts against the call's timeout.
#[async_trait]
pub trait Faults: Send + Sync {
    /// Before the engine gets the call: may delay it, or fail it without an effect.
    async fn before(&self, _call: Call) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// After the engine did what the call wants: may delay or lose the answer, or never return.
    async fn after(&self, _call: Call) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// How long the engine takes to execute the call, even if the caller is dropped; `None`: at once.
    fn takes(&self, _call: &Call) -> Option<Duration> {
        None
    }

    /// How an event is delivered.
    fn deliver(&self, _event: &RuntimeEvent) -> Delivery {
        Delivery::Once
    }
}

/// No faults.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFaults;

impl Faults for NoFaults {}
