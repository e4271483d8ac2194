//! A panel in memory: what it wants, what it was told, and what it believes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use alula::model::{PowerState, Script, ServerId};
use alula::panel::{Listed, ListedServer, Panel, PanelError, PanelServer};
use async_trait::async_trait;
use tokio::time::Instant;

use crate::crash::Fate;

/// The panel, which outlives daemons.
#[derive(Clone, Default)]
pub struct SimPanel {
    state: Arc<Mutex<Believed>>,
}

#[derive(Default)]
pub struct Believed {
    /// It does not answer before this time.
    pub away_until: Option<Instant>,
    pub servers: BTreeMap<ServerId, PanelSide>,
    /// Servers that it has on this node no longer, until it has them again.
    pub elsewhere: BTreeMap<ServerId, PanelSide>,
    /// Servers of files, which are none of its business.
    pub of_files: BTreeSet<ServerId>,
    pub violations: Vec<String>,
}

/// One server as the panel has it.
pub struct PanelSide {
    pub wanted: PanelServer,
    pub script: Script,
    /// The panel shows "installing".
    pub installing: bool,
    /// The daemon answered an install request with 2xx and has not reported its end.
    pub promised: bool,
    pub reports: Vec<(bool, bool)>,
    pub states: Vec<(PowerState, PowerState)>,
}

impl Believed {
    pub fn is_away(&self) -> bool {
        self.away_until.is_some_and(|until| Instant::now() < until)
    }
}

impl SimPanel {
    pub fn lock(&self) -> MutexGuard<'_, Believed> {
        self.state.lock().unwrap()
    }
}

/// One daemon's connection to the panel.
pub struct Connection {
    pub panel: SimPanel,
    pub fate: Arc<Fate>,
}

impl Connection {
    /// Asks what the panel never refuses.
    async fn ask<T>(
        &self,
        call: String,
        act: impl FnOnce(&mut Believed) -> Result<T, (u16, &'static str)>,
    ) -> Result<T, PanelError> {
        self.fate.before_panel(&call).await?;
        let result = {
            let mut state = self.panel.lock();
            if state.is_away() {
                return Err(PanelError::Unreachable { call, cause: "connection refused".into() });
            }
            tracing::debug!(call, "the panel answers");
            act(&mut state)
        };
        self.fate.after_panel(&call).await?;
        result.map_err(|(status, detail)| PanelError::Rejected { call, status, detail: detail.into() })
    }

    /// Asks about one server. Now and then the panel says no: `acknowledged` is what becomes of a fact that it was told all the same.
    async fn ask_about<T>(
        &self,
        id: ServerId,
        call: String,
        acknowledged: impl Fn(&mut PanelSide),
        act: impl FnOnce(&mut PanelSide) -> T,
    ) -> Result<T, PanelError> {
        let rejection = self.fate.rejection(&call);
        let name = call.clone();
        self.ask(call, |state| {
            if state.of_files.contains(&id) {
                state.violations.push(format!("{name}: a server of a file"));
            }
            if let Some(side) = state.elsewhere.get_mut(&id) {
                acknowledged(side);
            }
            let side = state.servers.get_mut(&id).ok_or((404, "no such server"))?;
            acknowledged(side);
            match rejection {
                Some(status) => Err((status, "simulated")),
                None => Ok(act(side)),
            }
        })
        .await
    }
}

#[async_trait]
impl Panel for Connection {
    async fn list(&self) -> Result<Listed, PanelError> {
        let asked = tokio::time::Instant::now();
        self.ask("GET /servers".into(), |state| {
            let listed = state.servers.iter();
            let servers = listed.map(|(id, side)| ListedServer { id: *id, server: Ok(side.wanted.clone()) }).collect();
            Ok(Listed { servers, asked, incomplete: None })
        })
        .await
    }

    async fn server(&self, id: ServerId) -> Result<PanelServer, PanelError> {
        self.ask_about(id, format!("GET /servers/{id}"), |_| {}, |side| side.wanted.clone()).await
    }

    async fn script(&self, id: ServerId) -> Result<Script, PanelError> {
        self.ask_about(id, format!("GET /servers/{id}/install"), |_| {}, |side| side.script.clone()).await
    }

    async fn report_install(&self, id: ServerId, successful: bool, reinstall: bool) -> Result<(), PanelError> {
        // Refused or not, it is not said again.
        let acknowledged = |side: &mut PanelSide| {
            side.installing = false;
            side.promised = false;
            side.reports.push((successful, reinstall));
        };
        self.ask_about(id, format!("POST /servers/{id}/install"), acknowledged, |_| ()).await
    }

    async fn report_state(&self, id: ServerId, previous: PowerState, new: PowerState) -> Result<(), PanelError> {
        let acknowledged = |side: &mut PanelSide| side.states.push((previous, new));
        self.ask_about(id, format!("POST /servers/{id}/container/status"), acknowledged, |_| ()).await
    }

    async fn reset(&self) -> Result<(), PanelError> {
        self.ask("POST /servers/reset".into(), |state| {
            let promised: Vec<_> = state.servers.iter().filter(|(_, side)| side.promised).map(|(id, _)| *id).collect();
            for id in promised {
                state.violations.push(format!("reset while the installation of {id} is promised and not reported"));
            }
            for side in state.servers.values_mut() {
                side.installing = false;
            }
            Ok(())
        })
        .await
    }
}
