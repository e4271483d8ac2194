//! Where one life of the daemon can go wrong: at each file operation, each runtime call and each panel call.
//!
//! A crash at a point means that nothing behind it happens any more: asynchronous callers wait for ever, file
//! operations unwind. The harness then drops the whole daemon and boots another one over the same folder.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula::model::ServerId;
use alula::panel::PanelError;
use alula::runtime::fake::{Call, Delivery, Faults};
use alula::runtime::{RuntimeError, RuntimeEvent};
use alula::store::{DiskHook, DiskOp};
use tokio::sync::Notify;

use crate::rng::Rng;

/// How often what goes wrong, in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    pub runtime_fails: u64,
    pub runtime_answer_lost: u64,
    pub runtime_slow: u64,
    pub event_lost: u64,
    pub event_twice: u64,
    pub event_late: u64,
    pub disk_full: u64,
    pub panel_fails: u64,
    pub panel_answer_lost: u64,
    pub panel_slow: u64,
}

/// One life's faults.
pub struct Fate {
    state: Mutex<State>,
    crashed: Notify,
}

struct State {
    rng: Rng,
    rates: Rates,
    /// Points passed in this life.
    passed: u64,
    /// The point at which it ends.
    crash_at: Option<u64>,
    over: bool,
    /// The runtime call that the engine refuses, whenever it comes.
    refused: &'static str,
}

/// What a file operation unwinds with when the daemon is dead.
struct Crashed;

impl Fate {
    pub fn new(seed: u64, rates: Rates, crash_at: Option<u64>) -> Arc<Self> {
        let state = State { rng: Rng::new(seed), rates, passed: 0, crash_at, over: false, refused: "" };
        Arc::new(Self { state: Mutex::new(state), crashed: Notify::new() })
    }

    pub fn set_rates(&self, rates: Rates) {
        self.state.lock().unwrap().rates = rates;
    }

    /// From now on the engine refuses this call; none when it is empty.
    pub fn refuse(&self, call: &'static str) {
        self.state.lock().unwrap().refused = call;
    }

    pub fn passed(&self) -> u64 {
        self.state.lock().unwrap().passed
    }

    pub fn is_over(&self) -> bool {
        self.state.lock().unwrap().over
    }

    /// Ends the life at the next point.
    pub fn doom(&self) {
        let mut state = self.state.lock().unwrap();
        state.crash_at = Some(state.passed);
    }

    pub async fn crashed(&self) {
        while !self.is_over() {
            self.crashed.notified().await;
        }
    }

    /// Passes a point. `true`: the daemon is dead.
    fn dies(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        if state.over {
            return true;
        }
        if state.crash_at == Some(state.passed) {
            state.over = true;
            drop(state);
            self.crashed.notify_one();
            return true;
        }
        state.passed += 1;
        false
    }

    async fn point(&self) {
        if self.dies() {
            std::future::pending::<()>().await;
        }
    }

    fn chance(&self, rate: impl Fn(&Rates) -> u64) -> bool {
        let mut state = self.state.lock().unwrap();
        let rate = rate(&state.rates);
        rate > 0 && state.rng.permille(rate)
    }

    fn pause(&self, from: u64, to: u64) -> Duration {
        self.state.lock().unwrap().rng.millis(from, to)
    }

    /// Before a call to the panel.
    pub async fn before_panel(&self, call: &str) -> Result<(), PanelError> {
        self.point().await;
        if self.chance(|rates| rates.panel_slow) {
            tokio::time::sleep(self.pause(10, 4000)).await;
        }
        if self.chance(|rates| rates.panel_fails) {
            return Err(PanelError::Failed { call: call.into(), status: 502, detail: "simulated".into() });
        }
        Ok(())
    }

    /// After a call to the panel that had its effect.
    pub async fn after_panel(&self, call: &str) -> Result<(), PanelError> {
        self.point().await;
        if self.chance(|rates| rates.panel_answer_lost) {
            return Err(PanelError::Unreachable { call: call.into(), cause: "simulated reset".into() });
        }
        Ok(())
    }
}

/// The runtime's faults in one life.
pub struct RuntimeFate(pub Arc<Fate>);

#[async_trait::async_trait]
impl Faults for RuntimeFate {
    async fn before(&self, call: Call) -> Result<(), RuntimeError> {
        self.0.point().await;
        if self.0.chance(|rates| rates.runtime_slow) {
            tokio::time::sleep(self.0.pause(1, 15_000)).await;
        }
        let attempt = call.name.to_string();
        if self.0.state.lock().unwrap().refused == call.name {
            return Err(RuntimeError::Refused { attempt, status: 500, message: "refused".into() });
        }
        if self.0.chance(|rates| rates.runtime_fails) {
            return Err(match self.0.chance(|_| 500) {
                true => RuntimeError::Unreachable { attempt, cause: "simulated".into() },
                false => RuntimeError::Refused { attempt, status: 500, message: "simulated".into() },
            });
        }
        Ok(())
    }

    async fn after(&self, call: Call) -> Result<(), RuntimeError> {
        self.0.point().await;
        if self.0.chance(|rates| rates.runtime_answer_lost) {
            return Err(RuntimeError::Unreachable { attempt: call.name.into(), cause: "simulated reset".into() });
        }
        Ok(())
    }

    fn deliver(&self, _event: &RuntimeEvent) -> Delivery {
        if self.0.chance(|rates| rates.event_lost) {
            Delivery::Lost
        } else if self.0.chance(|rates| rates.event_twice) {
            Delivery::Twice
        } else if self.0.chance(|rates| rates.event_late) {
            Delivery::Late(self.0.pause(1, 30_000))
        } else {
            Delivery::Once
        }
    }
}

/// The disk's faults in one life.
pub struct DiskFate(pub Arc<Fate>);

impl DiskFate {
    fn point(&self) {
        if self.0.dies() {
            std::panic::resume_unwind(Box::new(Crashed));
        }
    }
}

impl DiskHook for DiskFate {
    fn before(&self, _server: ServerId, op: DiskOp) -> io::Result<()> {
        if op == DiskOp::WriteStatus {
            return if self.0.is_over() { Err(io::ErrorKind::Other.into()) } else { Ok(()) };
        }
        self.point();
        if self.0.chance(|rates| rates.disk_full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn after(&self, _server: ServerId, op: DiskOp) {
        if op != DiskOp::WriteStatus {
            self.point();
        }
    }
}
