//! A panel in memory: its servers, what was reported to it, and the faults of one daemon's connection to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;
use uuid::Uuid;

use super::{IMAGE, panel_server, server_id};
use crate::model::{PowerState, Script, ServerId};
use crate::panel::{
    BackupReport, Delivery, Listed, ListedServer, Panel, PanelError, PanelServer, SftpLogin, SftpUser, UploadLinks,
};

/// A connection to a panel in memory. Clones share the panel, which outlives daemons, and the faults.
#[derive(Clone, Default)]
pub struct TestPanel {
    state: Arc<Mutex<PanelState>>,
    faults: Arc<ScriptedFaults>,
    /// Replaces `faults`.
    connection: Option<Arc<dyn PanelFaults>>,
}

/// What the panel knows.
#[derive(Default)]
pub struct PanelState {
    pub servers: BTreeMap<ServerId, PanelSide>,
    /// Servers that moved to another node.
    pub elsewhere: BTreeMap<ServerId, PanelSide>,
    /// Servers with `managedBy: file`: a call about one is a violation.
    pub file_managed: BTreeSet<ServerId>,
    /// Connections are refused until then.
    pub unreachable_until: Option<Instant>,
    /// The next answers to [`Panel::list`], before those that `servers` gives.
    pub lists: VecDeque<Result<Listed, PanelError>>,
    /// Backups, as the panel has them.
    pub backups: BTreeMap<Uuid, PanelBackup>,
    /// Rows of the activity log.
    pub activity: Vec<Value>,
    /// Rows that the panel rejects (422), or on which it fails with this status.
    pub rejects_rows: Option<(RowRule, Option<u16>)>,
    /// Users who may log in, by name; every credential is right.
    pub sftp_users: BTreeMap<String, SftpUser>,
    /// Calls that must never happen and did.
    pub violations: Vec<String>,
}

/// Chooses rows of the activity log.
pub type RowRule = Box<dyn Fn(&Value) -> bool + Send>;

/// One server as the panel has it.
pub struct PanelSide {
    pub server: PanelServer,
    pub script: Script,
    /// The panel shows "installing".
    pub installing: bool,
    /// The daemon answered an install request with 2xx and has not reported its end.
    pub promised: bool,
    /// Reported results of installations: successful, reinstall.
    pub installs: Vec<(bool, bool)>,
    /// The panel shows "transferring".
    pub transferring: bool,
    /// Reported results of transfers: successful.
    pub transfers: Vec<bool>,
    /// Reported states: previous, new.
    pub states: Vec<(PowerState, PowerState)>,
}

/// One backup as the panel has it. The default is a backup of no use: it has no links.
#[derive(Debug, Clone, Default)]
pub struct PanelBackup {
    /// The panel has not committed it: calls about it are answered with 404 until then.
    pub visible_from: Option<Instant>,
    /// The answer to the next request for links. Its URLs are used as they are.
    pub links: Option<UploadLinks>,
    /// The sizes for which links were requested: each one began an upload and orphaned the one before.
    pub uploads: Vec<u64>,
    /// A successful report was accepted: further ones are answered with 400.
    pub completed: bool,
    /// Accepted reports.
    pub reports: Vec<BackupReport>,
    /// Reported results of restores.
    pub restores: Vec<bool>,
}

/// A call to the panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PanelCall {
    List,
    Server(ServerId),
    Script(ServerId),
    ReportInstall(ServerId),
    ReportState(ServerId, PowerState),
    ReportTransfer(ServerId),
    BackupUpload(Uuid),
    ReportBackup(Uuid),
    ReportRestore(Uuid),
    ReportActivity,
    SftpLogin,
    Reset,
}

/// The faults of one connection. No method runs under a lock of the panel.
#[async_trait]
pub trait PanelFaults: Send + Sync {
    /// Before the panel gets the call: may delay it, or fail it without an effect.
    async fn before(&self, call: &PanelCall) -> Result<(), PanelError>;

    /// After the effect: may delay or lose the answer.
    async fn after(&self, call: &PanelCall) -> Result<(), PanelError>;

    /// The status with which the panel rejects the call, where it does.
    fn rejection(&self, _call: &PanelCall) -> Option<u16> {
        None
    }
}

impl PanelSide {
    /// A server that was never installed or started.
    pub fn new(server: PanelServer, script: Script) -> Self {
        Self {
            server,
            script,
            installing: false,
            promised: false,
            installs: Vec::new(),
            transferring: false,
            transfers: Vec::new(),
            states: Vec::new(),
        }
    }
}

impl fmt::Display for PanelCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PanelCall::List => write!(f, "GET /servers"),
            PanelCall::Server(id) => write!(f, "GET /servers/{id}"),
            PanelCall::Script(id) => write!(f, "GET /servers/{id}/install"),
            PanelCall::ReportInstall(id) => write!(f, "POST /servers/{id}/install"),
            PanelCall::ReportState(id, _) => write!(f, "POST /servers/{id}/container/status"),
            PanelCall::ReportTransfer(id) => write!(f, "POST /servers/{id}/transfer"),
            PanelCall::BackupUpload(id) => write!(f, "GET /backups/{id}"),
            PanelCall::ReportBackup(id) => write!(f, "POST /backups/{id}"),
            PanelCall::ReportRestore(id) => write!(f, "POST /backups/{id}/restore"),
            PanelCall::ReportActivity => write!(f, "POST /activity"),
            PanelCall::SftpLogin => write!(f, "POST /sftp/auth"),
            PanelCall::Reset => write!(f, "POST /servers/reset"),
        }
    }
}

impl TestPanel {
    /// A panel with servers 0 to 19, each as [`panel_server`] has it with the command `run`.
    pub fn with_servers() -> Self {
        let panel = Self::default();
        (0..20).for_each(|number| panel.add(server_id(number), panel_server("run")));
        panel
    }

    /// The same panel over a connection with these faults.
    pub fn connect(&self, faults: Arc<dyn PanelFaults>) -> Self {
        Self { connection: Some(faults), ..self.clone() }
    }

    /// What the panel knows.
    pub fn lock(&self) -> MutexGuard<'_, PanelState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds or replaces a server; its script succeeds.
    pub fn add(&self, id: ServerId, server: PanelServer) {
        let script = Script { image: IMAGE.into(), entrypoint: "sh".into(), text: "true".into() };
        self.lock().servers.insert(id, PanelSide::new(server, script));
    }

    /// The results of installations that were reported for a server: successful, reinstall.
    pub fn installs(&self, id: ServerId) -> Vec<(bool, bool)> {
        self.lock().servers[&id].installs.clone()
    }

    /// The states that were reported for a server, answered or not: previous, new.
    pub fn states(&self, id: ServerId) -> Vec<(PowerState, PowerState)> {
        self.lock().servers[&id].states.clone()
    }

    /// Fails the chosen calls without an effect from now on, and counts calls from zero.
    pub fn fail(&self, fails: impl Fn(&PanelCall) -> bool + Send + 'static, error: PanelError) {
        let mut rules = self.faults.rules();
        rules.failure = Some((Box::new(fails), error));
        rules.calls = 0;
    }

    /// Delays the chosen calls from now on.
    pub fn delay(&self, delays: impl Fn(&PanelCall) -> bool + Send + 'static, by: Duration) {
        self.faults.rules().delay = Some((Box::new(delays), by));
    }

    /// Loses the answers to the chosen calls, after their effect, from now on.
    pub fn lose_answers(&self, loses: impl Fn(&PanelCall) -> bool + Send + 'static) {
        self.faults.rules().loss = Some(Box::new(loses));
    }

    /// Ends what [`TestPanel::fail`], [`TestPanel::delay`] and [`TestPanel::lose_answers`] began.
    pub fn succeed(&self) {
        let mut rules = self.faults.rules();
        (rules.failure, rules.delay, rules.loss) = (None, None, None);
    }

    /// Calls `act` once, while the next answer about one server's configuration is under way.
    pub fn during_next_fetch(&self, act: impl FnOnce() + Send + 'static) {
        self.faults.rules().during_fetch = Some(Box::new(act));
    }

    /// Calls since the panel was made, or since the last [`TestPanel::fail`].
    pub fn calls(&self) -> u32 {
        self.faults.rules().calls
    }

    /// The most calls that were delayed at once.
    pub fn max_concurrent(&self) -> u32 {
        self.faults.rules().max_concurrent
    }

    async fn call<T>(
        &self,
        call: PanelCall,
        act: impl FnOnce(&mut PanelState) -> Result<T, (u16, &'static str)>,
    ) -> Result<T, PanelError> {
        let faults = self.connection.as_deref().unwrap_or(&*self.faults);
        faults.before(&call).await?;
        let result = {
            let mut state = self.lock();
            if state.unreachable_until.is_some_and(|until| Instant::now() < until) {
                return Err(PanelError::Unreachable { call: call.to_string(), cause: "connection refused".into() });
            }
            tracing::debug!(%call, "panel call");
            act(&mut state)
        };
        faults.after(&call).await?;
        result.map_err(|(status, detail)| PanelError::Rejected {
            call: call.to_string(),
            status,
            detail: detail.into(),
        })
    }

    /// A call about one server. `acknowledge` takes effect even where the panel rejects the call.
    async fn call_about<T>(
        &self,
        id: ServerId,
        call: PanelCall,
        acknowledge: impl Fn(&mut PanelSide),
        act: impl FnOnce(&mut PanelSide) -> T,
    ) -> Result<T, PanelError> {
        let rejection = self.connection.as_ref().and_then(|faults| faults.rejection(&call));
        self.call(call, |state| {
            if state.file_managed.contains(&id) {
                state.violations.push(format!("{call}: the server is managed by a file"));
            }
            if let Some(side) = state.elsewhere.get_mut(&id) {
                acknowledge(side);
            }
            let side = state.servers.get_mut(&id).ok_or((404, "no such server"))?;
            acknowledge(side);
            match rejection {
                Some(status) => Err((status, "simulated")),
                None => Ok(act(side)),
            }
        })
        .await
    }

    /// A call about one backup.
    async fn call_about_backup<T>(
        &self,
        backup: Uuid,
        call: PanelCall,
        act: impl FnOnce(&mut PanelBackup) -> Result<T, (u16, &'static str)>,
    ) -> Result<T, PanelError> {
        let rejection = self.connection.as_ref().and_then(|faults| faults.rejection(&call));
        self.call(call, |state| {
            let side = state.backups.get_mut(&backup);
            let visible = |side: &&mut PanelBackup| side.visible_from.is_none_or(|from| from <= Instant::now());
            let side = side.filter(visible).ok_or((404, "no such backup"))?;
            match rejection {
                Some(status) => Err((status, "simulated")),
                None => act(side),
            }
        })
        .await
    }
}

#[async_trait]
impl Panel for TestPanel {
    async fn list(&self) -> Result<Listed, PanelError> {
        let asked = Instant::now();
        let listed = self.call(PanelCall::List, |state| {
            if let Some(list) = state.lists.pop_front() {
                return Ok(list);
            }
            let servers = state.servers.iter();
            let servers = servers.map(|(id, side)| ListedServer { id: *id, server: Ok(side.server.clone()) }).collect();
            Ok(Ok(Listed { servers, asked, incomplete: None }))
        });
        listed.await?
    }

    async fn server(&self, id: ServerId) -> Result<PanelServer, PanelError> {
        self.call_about(id, PanelCall::Server(id), |_| {}, |side| side.server.clone()).await
    }

    async fn script(&self, id: ServerId) -> Result<Script, PanelError> {
        self.call_about(id, PanelCall::Script(id), |_| {}, |side| side.script.clone()).await
    }

    async fn report_install(&self, id: ServerId, successful: bool, reinstall: bool) -> Result<(), PanelError> {
        let acknowledge = |side: &mut PanelSide| {
            side.installing = false;
            side.promised = false;
            side.installs.push((successful, reinstall));
        };
        self.call_about(id, PanelCall::ReportInstall(id), acknowledge, |_| ()).await
    }

    async fn report_state(&self, id: ServerId, previous: PowerState, new: PowerState) -> Result<(), PanelError> {
        let acknowledge = |side: &mut PanelSide| side.states.push((previous, new));
        self.call_about(id, PanelCall::ReportState(id, new), acknowledge, |_| ()).await
    }

    async fn report_transfer(&self, id: ServerId, successful: bool) -> Result<(), PanelError> {
        let acknowledge = |side: &mut PanelSide| {
            side.transferring = false;
            side.transfers.push(successful);
        };
        self.call_about(id, PanelCall::ReportTransfer(id), acknowledge, |_| ()).await
    }

    async fn backup_upload(&self, backup: Uuid, size: u64) -> Result<UploadLinks, PanelError> {
        let call = PanelCall::BackupUpload(backup);
        self.call_about_backup(backup, call, |side| match &side.links {
            _ if side.completed => Err((409, "the backup is already completed")),
            None => Err((400, "the backup is not stored on S3")),
            Some(links) => {
                side.uploads.push(size);
                Ok(links.clone())
            }
        })
        .await
    }

    async fn report_backup(&self, backup: Uuid, report: &BackupReport) -> Result<Delivery, PanelError> {
        self.call_about_backup(backup, PanelCall::ReportBackup(backup), |side| {
            if side.completed {
                return Ok(Delivery::AlreadyCompleted);
            }
            side.completed = report.successful;
            side.reports.push(report.clone());
            Ok(Delivery::Accepted)
        })
        .await
    }

    async fn report_restore(&self, backup: Uuid, successful: bool) -> Result<(), PanelError> {
        self.call_about_backup(backup, PanelCall::ReportRestore(backup), |side| {
            side.restores.push(successful);
            Ok(())
        })
        .await
    }

    async fn report_activity(&self, rows: &[&RawValue]) -> Result<(), PanelError> {
        let rows = rows.iter().map(|row| serde_json::from_str(row.get()).expect("a row is JSON"));
        let rows: Vec<Value> = rows.collect();
        self.call(PanelCall::ReportActivity, |state| {
            // The panel validates the batch before it adds a row.
            let rejected = state.rejects_rows.as_ref().filter(|(rejects, _)| rows.iter().any(rejects));
            let status = rejected.map(|(_, status)| *status);
            match status {
                None if !rows.is_empty() => state.activity.extend(rows),
                None | Some(None) => return Err((422, "the data is invalid")),
                Some(Some(status)) => return Ok(Err(failed(status))),
            }
            Ok(Ok(()))
        })
        .await?
    }

    async fn sftp_login(&self, login: &SftpLogin) -> Result<SftpUser, PanelError> {
        self.call(PanelCall::SftpLogin, |state| {
            state.sftp_users.get(&login.username).cloned().ok_or((403, "wrong credentials"))
        })
        .await
    }

    async fn reset(&self) -> Result<(), PanelError> {
        self.call(PanelCall::Reset, |state| {
            let promised = state.servers.iter().filter(|(_, side)| side.promised);
            let lost = promised.map(|(id, _)| format!("reset while the installation of {id} is promised"));
            state.violations.extend(lost);
            state.servers.values_mut().for_each(|side| side.installing = false);
            Ok(())
        })
        .await
    }
}

fn failed(status: u16) -> PanelError {
    PanelError::Failed { call: "POST /activity".into(), status, detail: "simulated".into(), retry_after: None }
}

type Choice = Box<dyn Fn(&PanelCall) -> bool + Send>;

/// Faults that a test sets while the daemon runs.
#[derive(Default)]
struct ScriptedFaults(Mutex<Rules>);

#[derive(Default)]
struct Rules {
    failure: Option<(Choice, PanelError)>,
    delay: Option<(Choice, Duration)>,
    loss: Option<Choice>,
    during_fetch: Option<Box<dyn FnOnce() + Send>>,
    calls: u32,
    concurrent: u32,
    max_concurrent: u32,
}

impl ScriptedFaults {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl PanelFaults for ScriptedFaults {
    async fn before(&self, call: &PanelCall) -> Result<(), PanelError> {
        let delay = {
            let mut rules = self.rules();
            rules.calls += 1;
            rules.concurrent += 1;
            rules.max_concurrent = rules.max_concurrent.max(rules.concurrent);
            rules.delay.as_ref().filter(|(delays, _)| delays(call)).map(|(_, by)| *by)
        };
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        let mut rules = self.rules();
        rules.concurrent -= 1;
        rules.failure.as_ref().filter(|(fails, _)| fails(call)).map_or(Ok(()), |(_, error)| Err(error.clone()))
    }

    async fn after(&self, call: &PanelCall) -> Result<(), PanelError> {
        let fetch = matches!(call, PanelCall::Server(_));
        let act = if fetch { self.rules().during_fetch.take() } else { None };
        if let Some(act) = act {
            tokio::time::sleep(Duration::from_millis(10)).await;
            act();
        }
        match &self.rules().loss {
            Some(loses) if loses(call) => {
                Err(PanelError::Unreachable { call: call.to_string(), cause: "connection reset".into() })
            }
            _ => Ok(()),
        }
    }
}
