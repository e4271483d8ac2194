//! A panel in memory: what it wants, what it was told, and what it believes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use alula::model::{PowerState, Script, ServerId};
use alula::panel::{Listed, ListedServer, Panel, PanelError, PanelServer};
use async_trait::async_trait;

use crate::crash::Fate;

/// The panel, which outlives daemons.
#[derive(Clone, Default)]
pub struct SimPanel {
    state: Arc<Mutex<Believed>>,
}

#[derive(Default)]
pub struct Believed {
    pub away: bool,
    pub servers: BTreeMap<ServerId, PanelSide>,
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
    async fn ask<T>(
        &self,
        call: String,
        act: impl FnOnce(&mut Believed) -> Result<T, (u16, &'static str)>,
    ) -> Result<T, PanelError> {
        self.fate.before_panel(&call).await?;
        let result = {
            let mut state = self.panel.lock();
            if state.away {
                return Err(PanelError::Unreachable { call, cause: "connection refused".into() });
            }
            tracing::debug!(call, "the panel answers");
            act(&mut state)
        };
        self.fate.after_panel(&call).await?;
        result.map_err(|(status, detail)| PanelError::Refused { call, status, detail: detail.into() })
    }
}

fn known<'a>(state: &'a mut Believed, id: &ServerId) -> Result<&'a mut PanelSide, (u16, &'static str)> {
    state.servers.get_mut(id).ok_or((404, "no such server"))
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
        self.ask(format!("GET /servers/{id}"), |state| Ok(known(state, &id)?.wanted.clone())).await
    }

    async fn script(&self, id: ServerId) -> Result<Script, PanelError> {
        self.ask(format!("GET /servers/{id}/install"), |state| Ok(known(state, &id)?.script.clone())).await
    }

    async fn report_install(&self, id: ServerId, successful: bool, reinstall: bool) -> Result<(), PanelError> {
        self.ask(format!("POST /servers/{id}/install"), |state| {
            let side = known(state, &id)?;
            side.installing = false;
            side.promised = false;
            side.reports.push((successful, reinstall));
            Ok(())
        })
        .await
    }

    async fn report_state(&self, id: ServerId, previous: PowerState, new: PowerState) -> Result<(), PanelError> {
        self.ask(format!("POST /servers/{id}/container/status"), |state| {
            known(state, &id)?.states.push((previous, new));
            Ok(())
        })
        .await
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
