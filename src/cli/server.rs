//! A server as the command line shows it, and the names that people use for servers.

use serde::{Deserialize, Serialize};

use super::error::CliError;
use super::output::clean;
use crate::model::{
    ConditionStatus, ConditionType, ManagedBy, Manifest, Phase, PowerState, Reason, Record, Requests, ServerId, Status,
    Timestamp,
};
use crate::requests::{self, Asked};
use crate::store::{STATUS_FILE, Snapshot, SpecProblem, Store};

/// Minimum number of characters of a server's name.
const MIN_NAME: usize = 4;
/// Candidates that an error lists.
const MAX_CANDIDATES: usize = 8;

/// A server: its spec, requests, record and status.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerView {
    pub uuid: ServerId,
    /// The effective manifest.
    pub manifest: Option<Manifest>,
    pub requests: Requests,
    pub record: Record,
    /// What is wrong with the manifest's files.
    pub problem: Option<SpecProblem>,
    /// The status that the daemon has written last.
    pub status: Status,
}

/// Reads a server from its files.
pub fn read(store: &Store, snapshot: &Snapshot) -> ServerView {
    let path = store.folder(snapshot.id).join(STATUS_FILE);
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let status = crate::yaml::parse::<Status>(&text).ok().filter(|status| status.uuid == snapshot.id);
    ServerView {
        uuid: snapshot.id,
        manifest: snapshot.manifest.as_deref().cloned(),
        requests: Requests::clone(&snapshot.requests),
        record: snapshot.record.without_secrets(),
        problem: snapshot.problem.clone(),
        status: status.unwrap_or_else(|| Status::new(snapshot.id)),
    }
}

impl ServerView {
    /// The requests, with the record of those that were handled.
    pub fn asked(&self, now: Timestamp) -> Asked<'_> {
        Asked { requests: &self.requests, record: &self.record, now }
    }

    pub fn name(&self) -> &str {
        self.manifest.as_ref().map(|manifest| manifest.spec.settings.meta.name.as_str()).unwrap_or_default()
    }

    /// The image of the manifest.
    pub fn image(&self) -> &str {
        self.manifest.as_ref().map(|manifest| manifest.spec.settings.container.image.as_str()).unwrap_or_default()
    }

    /// The image of the running container, which a restart replaces by that of the manifest; `None` if they are the same.
    pub fn running_image(&self) -> Option<&str> {
        let wanted = self.image();
        let running = self.status.image.as_deref().filter(|_| self.needs_restart())?;
        (running != wanted.strip_prefix('~').unwrap_or(wanted)).then_some(running)
    }

    /// Whether the manifest has values that the next start applies.
    pub fn needs_restart(&self) -> bool {
        let up_to_date = self.status.condition(ConditionType::UpToDate);
        up_to_date.is_some_and(|condition| condition.status == ConditionStatus::False)
    }

    pub fn managed_by(&self) -> &'static str {
        match self.manifest.as_ref().map(|manifest| manifest.metadata.managed_by) {
            Some(ManagedBy::Panel) => "panel",
            Some(ManagedBy::File) => "file",
            None => "",
        }
    }

    /// The phase. A deletion or parking counts before the status shows it.
    pub fn phase(&self) -> Phase {
        if requests::deletion(&self.requests).is_some() {
            Phase::Deleting
        } else if self.record.parked.is_some() {
            Phase::Parked
        } else {
            self.status.phase
        }
    }

    /// Reason and message of what is wrong: a problem with the manifest's files, or the condition `Ready` that is not true.
    pub fn trouble(&self) -> Option<(Reason, &str)> {
        if let Some(SpecProblem { reason, message }) = &self.problem {
            return Some((*reason, message));
        }
        let ready = self.status.condition(ConditionType::Ready)?;
        (ready.status != ConditionStatus::True).then_some((ready.reason, &ready.message))
    }
}

/// A hint about a server that runs without a power request, because another daemon has started it.
pub fn runs_unasked(asked: Asked<'_>, state: PowerState) -> Option<&'static str> {
    let runs = matches!(state, PowerState::Starting | PowerState::Running);
    (runs && asked.power().is_none())
        .then_some("it runs, but is not started again when it ends or the host reboots: `alula power start`")
}

/// The servers with these names, each once, in the order of the names.
///
/// # Errors
/// A name does not match exactly one server, or is too short for the beginning of a UUID.
pub fn pick(servers: Vec<ServerView>, names: &[String]) -> Result<Vec<ServerView>, CliError> {
    let mut picked: Vec<ServerView> = Vec::new();
    for name in names {
        let server = find(&servers, name)?;
        if !picked.iter().any(|other| other.uuid == server.uuid) {
            picked.push(server.clone());
        }
    }
    Ok(picked)
}

fn find<'a>(servers: &'a [ServerView], name: &str) -> Result<&'a ServerView, CliError> {
    let lower = name.to_ascii_lowercase();
    // A whole UUID is never the name of another server.
    if let Some(server) = servers.iter().find(|server| server.uuid.to_string() == lower) {
        return Ok(server);
    }
    let begins = |server: &ServerView| lower.len() >= MIN_NAME && server.uuid.to_string().starts_with(&lower);
    let found: Vec<&ServerView> =
        servers.iter().filter(|server| (server.name() == name && !name.is_empty()) || begins(server)).collect();
    match found.as_slice() {
        [server] => Ok(server),
        [] if lower.len() < MIN_NAME => {
            let message = format!(
                "no server is called {name:?}, which is too short for a UUID: write its name, or at least {MIN_NAME} \
                 characters of its UUID"
            );
            Err(CliError::Usage(message))
        }
        [] => {
            let message = format!("no server is called {name:?}, and no server's UUID begins with it; see `alula get`");
            Err(CliError::Failed(message))
        }
        several => {
            let mut message = format!("{name:?} could be any of {} servers; write more of the UUID:", several.len());
            for server in several.iter().take(MAX_CANDIDATES) {
                message.push_str(format!("\n  {} {}", server.uuid, clean(server.name())).trim_end());
            }
            Err(CliError::Failed(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(uuid: &str) -> ServerView {
        let uuid: ServerId = uuid.parse().unwrap();
        let (requests, record, status) = (Requests::default(), Record::default(), Status::new(uuid));
        ServerView { uuid, manifest: None, requests, record, problem: None, status }
    }

    fn servers() -> Vec<ServerView> {
        [
            "550e8400-e29b-41d4-a716-446655440000",
            "550e8400-e29b-41d4-a716-446655440001",
            "7777aaaa-e29b-41d4-a716-446655440000",
        ]
        .map(server)
        .into()
    }

    fn picked(names: &[&str]) -> Result<Vec<String>, String> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let picked = pick(servers(), &names).map_err(|error| error.to_string())?;
        Ok(picked.iter().map(|server| server.uuid.to_string()).collect())
    }

    #[test]
    fn a_unique_name_names_a_server() {
        let named = |number: usize, name: &str| {
            let mut server = servers().swap_remove(number);
            let mut manifest = Manifest::new(server.uuid, ManagedBy::File);
            manifest.spec.settings.meta.name = name.into();
            server.manifest = Some(manifest);
            server
        };
        let all = || vec![named(0, "mc"), named(1, "My Server"), named(2, "My Server")];
        let picked = |name: &str| pick(all(), &[name.to_owned()]).map_err(|error| error.to_string());
        assert_eq!(picked("mc").unwrap()[0].uuid, servers()[0].uuid);
        let several = picked("My Server").unwrap_err();
        assert!(several.contains("2 servers") && several.contains("7777aaaa"), "{several}");
        assert!(picked("my server").is_err(), "names have a case");
        // A name that is also the beginning of another server's UUID names neither.
        let both = vec![named(0, "7777"), named(2, "other")];
        assert!(pick(both, &["7777".into()]).is_err());
        let whole = servers()[2].uuid.to_string();
        let confusing = vec![named(0, &whole), named(2, "other")];
        assert_eq!(pick(confusing, &[whole]).unwrap()[0].uuid, servers()[2].uuid);
        // A server without a name has none.
        assert!(pick(servers(), &[String::new()]).is_err());
    }

    #[test]
    fn a_unique_prefix_names_a_server() {
        assert_eq!(picked(&["7777"]).unwrap(), ["7777aaaa-e29b-41d4-a716-446655440000"]);
        assert_eq!(picked(&["7777AA", "7777aaaa-e29b"]).unwrap().len(), 1);
        assert_eq!(picked(&["550e8400-e29b-41d4-a716-446655440001"]).unwrap().len(), 1);
        assert!(picked(&["777"]).unwrap_err().contains("at least 4"));
        assert!(picked(&["dead"]).unwrap_err().contains("alula get"));
        let several = picked(&["550e"]).unwrap_err();
        assert!(several.contains("2 servers") && several.contains("446655440001"), "{several}");
    }
}
