//! Faults of one daemon process: at each file operation, runtime call and panel call.
//!
//! After a crash at a point nothing else happens: asynchronous callers wait without end, file operations unwind. The harness then
//! drops the whole daemon and boots another one over the same folder.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use alula::model::ServerId;
use alula::panel::PanelError;
use alula::runtime::{ContainerChange, ErrorKind, RuntimeError, RuntimeEvent};
use alula::testing::fake::{Call, Delivery, Faults};
use alula::testing::{PanelCall, PanelFaults};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::journal::Journal;
use crate::plan::Plan;
use crate::rng::Rng;

/// Faults per thousand occasions, by kind.
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
    /// The panel rejects the call.
    pub panel_rejects: u64,
    /// The event of a container's end is lost, in addition to `event_lost`.
    pub end_lost: u64,
}

/// Maximum points in one minute: a daemon that passes more loops.
pub const MAX_IN_A_MINUTE: u64 = 600;
/// The same for equal calls to the engine.
pub const MAX_ALIKE_IN_A_MINUTE: u64 = 30;

/// The faults of one daemon process.
pub struct ProcessFaults {
    plan: Plan,
    process: u64,
    state: Mutex<State>,
    crashed: Notify,
    journal: OnceLock<Journal>,
}

struct State {
    rates: Rates,
    /// Occasions so far, by kind.
    occasions: BTreeMap<String, u64>,
    /// Points passed in this process.
    passed: u64,
    /// The point at which the process crashes.
    crash_at: Option<u64>,
    over: bool,
    /// The runtime call that the engine always rejects.
    rejected: &'static str,
    /// Begin of the current minute, and points passed in it.
    minute: (Instant, u64),
    busiest: u64,
    /// Calls to the engine in the current minute, by name and server.
    calls: BTreeMap<(&'static str, Option<ServerId>), u64>,
    busiest_call: (u64, &'static str),
}

/// Stops the caller where the daemon has crashed.
async fn hold(crashes: bool) {
    if crashes {
        std::future::pending::<()>().await;
    }
}

impl ProcessFaults {
    /// The only process of a run.
    pub fn new(seed: u64, rates: Rates, crash_at: Option<u64>) -> Arc<Self> {
        Self::of_process(Plan::new(seed), 1, rates, crash_at)
    }

    pub fn of_process(plan: Plan, process: u64, rates: Rates, crash_at: Option<u64>) -> Arc<Self> {
        let state = State {
            rates,
            occasions: BTreeMap::new(),
            passed: 0,
            crash_at,
            over: false,
            rejected: "",
            minute: (Instant::now(), 0),
            busiest: 0,
            calls: BTreeMap::new(),
            busiest_call: (0, ""),
        };
        Arc::new(Self { plan, process, state: Mutex::new(state), crashed: Notify::new(), journal: OnceLock::new() })
    }

    pub fn set_rates(&self, rates: Rates) {
        self.state.lock().unwrap().rates = rates;
    }

    /// Makes the engine reject this call from now on; no call when it is empty.
    pub fn reject(&self, call: &'static str) {
        self.state.lock().unwrap().rejected = call;
    }

    pub fn passed(&self) -> u64 {
        self.state.lock().unwrap().passed
    }

    /// Counts a call to the engine, except reads.
    fn count(&self, call: &Call) {
        if call.name == "inspect" {
            return;
        }
        let mut state = self.state.lock().unwrap();
        let count = state.calls.entry((call.name, call.server)).or_default();
        *count += 1;
        let count = *count;
        if count > state.busiest_call.0 {
            state.busiest_call = (count, call.name);
        }
    }

    /// The most calls of one kind about one server in one minute.
    pub fn busiest_call(&self) -> (u64, &'static str) {
        self.state.lock().unwrap().busiest_call
    }

    /// The most points in one minute.
    pub fn busiest(&self) -> u64 {
        self.state.lock().unwrap().busiest
    }

    pub fn is_over(&self) -> bool {
        self.state.lock().unwrap().over
    }

    /// Crashes at the next point.
    pub fn crash_at_next_point(&self) {
        let mut state = self.state.lock().unwrap();
        state.crash_at = Some(state.passed);
    }

    /// Crashes after so many more points.
    pub fn crash_after(&self, points: u64) {
        let mut state = self.state.lock().unwrap();
        state.crash_at = Some(state.passed + points);
    }

    pub async fn crashed(&self) {
        while !self.is_over() {
            self.crashed.notified().await;
        }
    }

    /// Records events in this journal from now on.
    pub fn write_into(&self, journal: &Journal) {
        // A process has one machine.
        let _ = self.journal.set(journal.clone());
    }

    pub fn note(&self, what: impl Display) {
        if let Some(journal) = self.journal.get() {
            journal.note(what);
        }
    }

    /// Passes a point. Returns whether the daemon has crashed.
    pub fn crashes_at(&self, what: impl Display) -> bool {
        let mut state = self.state.lock().unwrap();
        if state.over {
            return true;
        }
        self.note(format_args!("{} {what}", state.passed));
        if state.crash_at == Some(state.passed) {
            state.over = true;
            drop(state);
            self.crashed.notify_one();
            return true;
        }
        state.passed += 1;
        if state.minute.0.elapsed() >= Duration::from_secs(60) {
            state.minute = (Instant::now(), 0);
            state.calls.clear();
        }
        state.minute.1 += 1;
        state.busiest = state.busiest.max(state.minute.1);
        if state.busiest > MAX_IN_A_MINUTE || state.busiest_call.0 > MAX_ALIKE_IN_A_MINUTE {
            // Crash here: the paused time would not advance any more.
            state.over = true;
            drop(state);
            self.crashed.notify_one();
            return true;
        }
        false
    }

    /// An occasion for faults: the nth of its kind in this process.
    pub fn occasion(&self, kind: String) -> Occasion<'_> {
        let mut state = self.state.lock().unwrap();
        let number = state.occasions.entry(kind.clone()).or_default();
        *number += 1;
        let name = format!("{}/{kind}/{number}", self.process);
        drop(state);
        Occasion { faults: self, name }
    }
}

/// The name of a panel call's occasion.
fn in_short(call: &PanelCall) -> String {
    let call = call.to_string();
    let part = |part: &str| part.parse().map_or_else(|_| part.replace(' ', ""), short);
    call.split('/').map(part).collect::<Vec<_>>().join("-")
}

/// A server's number in its run.
pub fn short(id: ServerId) -> String {
    u64::from_str_radix(&id.simple()[28..], 16).unwrap_or_default().to_string()
}

/// One occasion for faults.
pub struct Occasion<'a> {
    faults: &'a ProcessFaults,
    name: String,
}

impl Occasion<'_> {
    pub fn has(&self, fault: &str, rate: impl Fn(&Rates) -> u64) -> bool {
        let rate = rate(&self.faults.state.lock().unwrap().rates);
        let name = format!("{}/{fault}", self.name);
        rate > 0 && self.faults.plan.rng(&name).permille(rate) && self.faults.plan.happens(&name)
    }

    fn rng(&self, what: &str) -> Rng {
        self.faults.plan.rng(&format!("{}/{what}", self.name))
    }
}

/// A moment of a call to the engine: `before` or `after` it.
struct Named<'a>(&'static str, &'a Call);

impl Named<'_> {
    /// The name of its occasion.
    fn kind(&self) -> String {
        let Named(side, Call { name, server, role }) = self;
        let server = server.map(|id| format!("/{}", short(id))).unwrap_or_default();
        let role = role.map(|role| format!("/{}", role.as_str())).unwrap_or_default();
        format!("{name}{server}{role}/{side}")
    }
}

impl Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Named(side, Call { name, server, role }) = self;
        write!(f, "{side} {name}")?;
        if let Some(server) = server {
            write!(f, " {server}")?;
        }
        role.map_or(Ok(()), |role| write!(f, " {}", role.as_str()))
    }
}

/// The faults of one daemon's connection to the engine.
pub struct RuntimeFaults(pub Arc<ProcessFaults>);

#[async_trait::async_trait]
impl Faults for RuntimeFaults {
    async fn before(&self, call: Call) -> Result<(), RuntimeError> {
        tracing::debug!(call = call.name, server.id = ?call.server, "runtime call");
        self.0.count(&call);
        let crashes = self.0.crashes_at(Named("before", &call));
        hold(crashes).await;
        let occasion = self.0.occasion(Named("before", &call).kind());
        if occasion.has("slow", |rates| rates.runtime_slow) {
            tokio::time::sleep(occasion.rng("pause").millis(1, 15_000)).await;
        }
        if self.0.state.lock().unwrap().rejected == call.name {
            return Err(RuntimeError::new(ErrorKind::Failed, call.name, "rejected"));
        }
        if occasion.has("failed", |rates| rates.runtime_fails) {
            return Err(match occasion.rng("how").permille(500) {
                true => RuntimeError::new(ErrorKind::Unavailable, call.name, "simulated"),
                false => RuntimeError::new(ErrorKind::Failed, call.name, "simulated"),
            });
        }
        Ok(())
    }

    async fn after(&self, call: Call) -> Result<(), RuntimeError> {
        let crashes = self.0.crashes_at(Named("after", &call));
        hold(crashes).await;
        if self.0.occasion(Named("after", &call).kind()).has("lost", |rates| rates.runtime_answer_lost) {
            return Err(RuntimeError::new(ErrorKind::Unavailable, call.name, "simulated reset"));
        }
        Ok(())
    }

    fn deliver(&self, event: &RuntimeEvent) -> Delivery {
        let RuntimeEvent { server, role, change } = event;
        let occasion = self.0.occasion(format!("event/{}/{}/{change:?}", short(*server), role.as_str()));
        let end_lost = *change == ContainerChange::Ended && occasion.has("end-lost", |rates| rates.end_lost);
        if end_lost || occasion.has("lost", |rates| rates.event_lost) {
            Delivery::Lost
        } else if occasion.has("twice", |rates| rates.event_twice) {
            Delivery::Twice
        } else if occasion.has("late", |rates| rates.event_late) {
            Delivery::Late(occasion.rng("pause").millis(1, 30_000))
        } else {
            Delivery::Once
        }
    }
}

/// The faults of one daemon's connection to the panel.
pub struct PanelConnectionFaults(pub Arc<ProcessFaults>);

#[async_trait::async_trait]
impl PanelFaults for PanelConnectionFaults {
    async fn before(&self, call: &PanelCall) -> Result<(), PanelError> {
        let crashes = self.0.crashes_at(format_args!("before {call}"));
        hold(crashes).await;
        let occasion = self.0.occasion(in_short(call));
        if occasion.has("slow", |rates| rates.panel_slow) {
            tokio::time::sleep(occasion.rng("pause").millis(10, 4000)).await;
        }
        if occasion.has("failed", |rates| rates.panel_fails) {
            return Err(PanelError::Failed {
                call: call.to_string(),
                status: 502,
                detail: "simulated".into(),
                retry_after: None,
            });
        }
        Ok(())
    }

    async fn after(&self, call: &PanelCall) -> Result<(), PanelError> {
        let crashes = self.0.crashes_at(format_args!("after {call}"));
        hold(crashes).await;
        if self.0.occasion(format!("{}/after", in_short(call))).has("lost", |rates| rates.panel_answer_lost) {
            return Err(PanelError::Unreachable { call: call.to_string(), cause: "simulated reset".into() });
        }
        Ok(())
    }

    fn rejection(&self, call: &PanelCall) -> Option<u16> {
        if matches!(call, PanelCall::ReportBackup(_) | PanelCall::ReportRestore(_)) {
            // An archive is removed after a 404, which the panel says only about a backup that it does not have.
            return None;
        }
        let occasion = self.0.occasion(format!("{}/answer", in_short(call)));
        let rejects = occasion.has("refused", |rates| rates.panel_rejects);
        rejects.then(|| *occasion.rng("status").pick(&[403, 404, 409, 422]))
    }
}
