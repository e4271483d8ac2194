//! Where one life of the daemon can go wrong: at each file operation, each runtime call and each panel call.
//!
//! A crash at a point means that nothing behind it happens any more: asynchronous callers wait for ever, file
//! operations unwind. The harness then drops the whole daemon and boots another one over the same folder.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use alula::model::ServerId;
use alula::panel::PanelError;
use alula::runtime::fake::{Call, Delivery, Faults};
use alula::runtime::{ContainerChange, ErrorKind, RuntimeError, RuntimeEvent};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::journal::Journal;
use crate::plan::Plan;
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
    /// The panel says no.
    pub panel_rejects: u64,
    /// The news of a container's end is lost, beside what else is.
    pub end_lost: u64,
}

/// Points that no minute of a life has: in a daemon that passes more it goes round in circles.
pub const MAX_IN_A_MINUTE: u64 = 600;
/// The same for calls to the engine that are alike.
pub const MAX_ALIKE_IN_A_MINUTE: u64 = 30;

/// One life's faults.
pub struct Fate {
    plan: Plan,
    life: u64,
    state: Mutex<State>,
    crashed: Notify,
    journal: OnceLock<Journal>,
}

struct State {
    rates: Rates,
    /// Occasions for faults so far, by kind.
    occasions: BTreeMap<String, u64>,
    /// Points passed in this life.
    passed: u64,
    /// The point at which it ends.
    crash_at: Option<u64>,
    over: bool,
    /// The runtime call that the engine refuses, whenever it comes.
    rejected: &'static str,
    /// The minute that it is, and points passed in it.
    minute: (Instant, u64),
    busiest: u64,
    /// Calls to the engine in the present minute, by name and server.
    calls: BTreeMap<(&'static str, Option<ServerId>), u64>,
    busiest_call: (u64, &'static str),
}

/// A daemon that is dead goes no further.
async fn hold(dies: bool) {
    if dies {
        std::future::pending::<()>().await;
    }
}

impl Fate {
    /// A life that stands alone.
    pub fn new(seed: u64, rates: Rates, crash_at: Option<u64>) -> Arc<Self> {
        Self::of_life(Plan::new(seed), 1, rates, crash_at)
    }

    pub fn of_life(plan: Plan, life: u64, rates: Rates, crash_at: Option<u64>) -> Arc<Self> {
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
        Arc::new(Self { plan, life, state: Mutex::new(state), crashed: Notify::new(), journal: OnceLock::new() })
    }

    pub fn set_rates(&self, rates: Rates) {
        self.state.lock().unwrap().rates = rates;
    }

    /// From now on the engine refuses this call; none when it is empty.
    pub fn reject(&self, call: &'static str) {
        self.state.lock().unwrap().rejected = call;
    }

    pub fn passed(&self) -> u64 {
        self.state.lock().unwrap().passed
    }

    /// Counts a call to the engine that does something. Looks come with whatever else happens.
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

    /// Whatever happens from now on is noted in this journal.
    pub fn write_into(&self, journal: &Journal) {
        // A life has one machine.
        let _ = self.journal.set(journal.clone());
    }

    pub fn note(&self, what: impl Display) {
        if let Some(journal) = self.journal.get() {
            journal.note(what);
        }
    }

    /// Passes a point. `true`: the daemon is dead.
    pub fn dies(&self, what: impl Display) -> bool {
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
            // Ended here, or time would stand still for ever.
            state.over = true;
            drop(state);
            self.crashed.notify_one();
            return true;
        }
        false
    }

    /// An occasion for faults: the nth of its kind in this life.
    pub fn occasion(&self, kind: String) -> Occasion<'_> {
        let mut state = self.state.lock().unwrap();
        let number = state.occasions.entry(kind.clone()).or_default();
        *number += 1;
        let name = format!("{}/{kind}/{number}", self.life);
        drop(state);
        Occasion { fate: self, name }
    }

    /// The status with which the panel says no to a call, if it does.
    pub fn rejection(&self, call: &str) -> Option<u16> {
        let occasion = self.occasion(format!("{}/answer", in_short(call)));
        let rejects = occasion.has("refused", |rates| rates.panel_rejects);
        rejects.then(|| *occasion.rng("status").pick(&[403, 404, 409, 422]))
    }

    /// Before a call to the panel.
    pub async fn before_panel(&self, call: &str) -> Result<(), PanelError> {
        let dies = self.dies(format_args!("before {call}"));
        hold(dies).await;
        let occasion = self.occasion(in_short(call));
        if occasion.has("slow", |rates| rates.panel_slow) {
            tokio::time::sleep(occasion.rng("pause").millis(10, 4000)).await;
        }
        if occasion.has("failed", |rates| rates.panel_fails) {
            return Err(PanelError::Failed { call: call.into(), status: 502, detail: "simulated".into() });
        }
        Ok(())
    }

    /// After a call to the panel that had its effect.
    pub async fn after_panel(&self, call: &str) -> Result<(), PanelError> {
        let dies = self.dies(format_args!("after {call}"));
        hold(dies).await;
        if self.occasion(format!("{}/after", in_short(call))).has("lost", |rates| rates.panel_answer_lost) {
            return Err(PanelError::Unreachable { call: call.into(), cause: "simulated reset".into() });
        }
        Ok(())
    }
}

/// A call to the panel as the name of an occasion.
fn in_short(call: &str) -> String {
    let part = |part: &str| part.parse().map_or_else(|_| part.replace(' ', ""), short);
    call.split('/').map(part).collect::<Vec<_>>().join("-")
}

/// The number of a server in its run.
pub fn short(id: ServerId) -> String {
    u64::from_str_radix(&id.simple()[28..], 16).unwrap_or_default().to_string()
}

/// One occasion for faults.
pub struct Occasion<'a> {
    fate: &'a Fate,
    name: String,
}

impl Occasion<'_> {
    pub fn has(&self, fault: &str, rate: impl Fn(&Rates) -> u64) -> bool {
        let rate = rate(&self.fate.state.lock().unwrap().rates);
        let name = format!("{}/{fault}", self.name);
        rate > 0 && self.fate.plan.rng(&name).permille(rate) && self.fate.plan.happens(&name)
    }

    fn rng(&self, what: &str) -> Rng {
        self.fate.plan.rng(&format!("{}/{what}", self.name))
    }
}

/// A call to the engine, with the side of it.
struct Named<'a>(&'static str, &'a Call);

impl Named<'_> {
    /// As the name of an occasion.
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

/// The runtime's faults in one life.
pub struct RuntimeFate(pub Arc<Fate>);

#[async_trait::async_trait]
impl Faults for RuntimeFate {
    async fn before(&self, call: Call) -> Result<(), RuntimeError> {
        tracing::debug!(call = call.name, server.id = ?call.server, "the engine is asked");
        self.0.count(&call);
        let dies = self.0.dies(Named("before", &call));
        hold(dies).await;
        let occasion = self.0.occasion(Named("before", &call).kind());
        if occasion.has("slow", |rates| rates.runtime_slow) {
            tokio::time::sleep(occasion.rng("pause").millis(1, 15_000)).await;
        }
        if self.0.state.lock().unwrap().rejected == call.name {
            return Err(RuntimeError::new(ErrorKind::Failed, call.name, "refused"));
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
        let dies = self.0.dies(Named("after", &call));
        hold(dies).await;
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
