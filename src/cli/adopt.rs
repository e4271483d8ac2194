//! `alula adopt --dry-run`: what the first start takes over from Wings on this host. Nothing is changed.

mod survey;

use std::path::PathBuf;

use serde::Serialize;

use super::arguments::NodeArguments;
use super::error::CliError;
use super::node::config_path;
use super::outcome::judged;
use super::output::{Cell, Printer, clean, paint, table, tone};
use crate::config::{self, HostEnvironment, Loaded, Problem};
use crate::model::{PowerState, Role, ServerId};
use crate::store::states::is_up;
use survey::{Installer, Survey};

/// What the first start takes over.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    config: PathBuf,
    /// The folders of the node: what they hold, and where they are.
    folders: Vec<Folder>,
    /// Version of the container engine; absent if it does not answer.
    engine: Option<String>,
    /// How many servers the panel lists; absent without an answer.
    panel_servers: Option<usize>,
    servers: Vec<Server>,
    /// What has no effect or needs a decision. It does not prevent the takeover.
    attention: Vec<String>,
    /// What has to be fixed first.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Folder {
    holds: &'static str,
    path: PathBuf,
    exists: bool,
    /// Where alula links to it, in its state folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Server {
    uuid: ServerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Whether the panel lists it; absent without its list.
    #[serde(skip_serializing_if = "Option::is_none")]
    listed: Option<bool>,
    /// The state now; absent if the engine does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<PowerState>,
    /// The state that Wings has left in states.json.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<PowerState>,
    /// The state after the takeover.
    wanted: PowerState,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    installer: Option<Installer>,
    /// The folder of its files, if that exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<PathBuf>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attention: Vec<String>,
}

/// Prints what would be taken over.
///
/// # Errors
/// The configuration cannot be used, or something has to be fixed first.
pub async fn run(
    arguments: &NodeArguments,
    printer: Printer,
    on_host: impl AsyncFn(&Loaded) -> Vec<Problem>,
) -> Result<(), CliError> {
    let loaded = config::load(&config_path(arguments)?, HostEnvironment::of_this_process())?;
    let mut survey = Survey::of(&loaded, |name| std::env::var_os(name)).await;
    survey.problems = on_host(&loaded).await;
    let report = report(&loaded, survey);
    let printed = printer.print(&report, || text(&report, printer.width));
    judged(printed, report.problems.is_empty())
}

fn report(loaded: &Loaded, survey: Survey) -> Report {
    let (mut attention, mut problems) = (loaded.notices.clone(), Vec::new());
    attention.extend(node_attention(loaded, &survey));
    for problem in &survey.problems {
        // Wings has the port until it is stopped.
        if survey.wings.is_none() || problem.key != "api.port" {
            problems.push(problem.to_string());
        }
    }
    let directories = &loaded.node.directories;
    let unnamed = directories.root.join("volumes");
    if directories.data.is_none() && unnamed.is_dir() {
        problems.push(format!(
            "system.data: is not named, and {} exists: name the folder that Wings uses, or the servers' files are looked for elsewhere",
            unnamed.display()
        ));
    }
    Report {
        config: loaded.node.source.clone(),
        folders: folders(loaded),
        engine: survey.engine.as_ref().ok().map(|engine| engine.version.clone()),
        panel_servers: survey.panel.as_ref().and_then(|panel| Some(panel.as_ref().ok()?.len())),
        servers: survey.ids().into_iter().map(|id| server(loaded, &survey, id)).collect(),
        attention,
        problems,
    }
}

/// What concerns the node as a whole.
fn node_attention(loaded: &Loaded, survey: &Survey) -> Vec<String> {
    let node = &loaded.node;
    let mut attention = Vec::new();
    if let Some(wings) = &survey.wings {
        attention.push(format!("{wings} runs on this node: stop it before alula starts"));
    }
    if let Some(daemon) = &survey.daemon {
        attention.push(format!("alula runs on this node already ({daemon}): see `alula get`"));
    }
    attention.extend(survey.states.problem.clone());
    if let Err(error) = &survey.engine {
        attention.push(format!("{error}; what runs is not known. Servers run on while the engine does"));
    }
    match &survey.panel {
        None => attention.push("the file names no panel: only servers with a manifest are run".into()),
        Some(Err(error)) => attention
            .push(format!("{error}; names are not known. Servers run on, and are managed when the panel answers")),
        Some(Ok(_)) => {}
    }
    if loaded.file.system.quotas.enabled {
        attention.push(
            "system.quotas: each server keeps the project that Wings gave it, and gets all of its files into it; /etc/projects and \
             /etc/projid are read, and no longer written".into(),
        );
    }
    if let Some(user) = &node.rootless {
        attention.push(format!(
            "system.user.rootless: containers run as {user}; alula has to run as the user of the engine, not as root"
        ));
    }
    if let Some(context) = &survey.context {
        attention.push(format!(
            "the Docker context {context:?} is selected for the command line: a daemon uses DOCKER_HOST, or /var/run/docker.sock"
        ));
    }
    attention
}

fn folders(loaded: &Loaded) -> Vec<Folder> {
    let directories = &loaded.node.directories;
    let root = &directories.root;
    let own = root.join("servers/{uuid}/data");
    let data = directories.data.clone().unwrap_or_else(|| root.join("servers"));
    let link = |at: &str| Some(root.join(at).display().to_string());
    let of_data = directories.data.as_ref().map(|_| own.display().to_string());
    let of_log = if directories.log == *root { None } else { link("install/{uuid}.log") };
    let sftp = data.join(".sftp/id_ed25519");
    [
        ("state", root.clone(), None),
        ("servers' files", data, of_data),
        ("logs", directories.log.clone(), of_log),
        ("backups", directories.backup.clone(), None),
        ("install scripts", directories.tmp.clone(), None),
        ("machine ids", directories.machine_id.clone(), None),
        ("SFTP host key", sftp, None),
    ]
    .map(|(holds, path, link)| Folder { holds, exists: path.exists(), path, link })
    .into()
}

/// What becomes of one server.
fn server(loaded: &Loaded, survey: &Survey, id: ServerId) -> Server {
    let found = |role| survey.containers.iter().find(|found| found.listed.server == id && found.listed.role == role);
    let (container, installer) = (found(Role::Server), found(Role::Installer));
    let runs = container.is_some_and(|container| container.listed.running);
    let left = survey.states.states.get(&id).copied();
    let installer = installer.map(|found| if found.listed.running { Installer::Running } else { Installer::Ended });
    let on_panel = survey.on_panel(id);
    let listed = survey.panel.as_ref().and_then(|panel| panel.as_ref().ok()).map(|_| on_panel.is_some());
    let suspended = on_panel.is_some_and(|on_panel| on_panel.suspended);
    let files = loaded.node.directories.server_data(&id);
    let managed = listed != Some(false);
    let starts = managed && !suspended && left.is_some_and(is_up);
    let mut attention = Vec::new();
    if !managed {
        attention.push("the panel does not list it: it is left as it is".to_owned());
    }
    if let Some(other) = container.and_then(|container| container.listed.owner.other()) {
        attention.push(format!("its container belongs to {other} and is left alone"));
    }
    if suspended && runs {
        attention.push("the panel has suspended it: it is stopped".into());
    }
    if left == Some(PowerState::Stopping) && runs && !suspended {
        attention.push("Wings was stopping it: stop it again if it runs on".into());
    }
    if starts && !runs && installer.is_none() {
        attention.push("Wings ran it, and it does not run now: it is started".into());
    }
    match installer {
        Some(Installer::Running) => {
            attention.push("its installation runs: it is followed to its end, and its result reported".into());
        }
        Some(Installer::Ended) => {
            attention
                .push("its installation has ended: its result is reported, unless the server was started since".into());
        }
        None => {}
    }
    if managed && !files.exists() {
        attention.push(format!("it has no files at {}", files.display()));
    }
    Server {
        uuid: id,
        name: on_panel.map(|on_panel| on_panel.name.clone()).filter(|name| !name.is_empty()),
        listed,
        state: survey.engine.is_ok().then_some(if runs { PowerState::Running } else { PowerState::Offline }),
        left,
        wanted: if (runs && !suspended) || starts { PowerState::Running } else { PowerState::Offline },
        container: container.map(|container| container.listed.id.clone()),
        image: container.and_then(|container| container.image.clone()),
        installer,
        files: files.exists().then_some(files),
        attention,
    }
}

/// For people.
fn text(report: &Report, width: Option<usize>) -> String {
    let mut text = format!("{}\n", paint(tone::HEAD, &clean(&report.config.display().to_string())));
    let rows = report.folders.iter().map(|folder| {
        let path = folder.path.display().to_string();
        let link = folder.link.as_deref().unwrap_or_default();
        let exists = if folder.exists { Cell::plain("yes") } else { Cell::new(tone::NOTICE, "no") };
        vec![Cell::plain(folder.holds), Cell::plain(path), exists, Cell::plain(link)]
    });
    text += &table("  ", None, &["HOLDS", "PATH", "EXISTS", "LINKED FROM"], rows.collect());
    let count = |count: Option<usize>| count.map_or("not known".into(), |count| count.to_string());
    text += &format!(
        "  engine: {}; servers on the panel: {}\n\n",
        clean(report.engine.as_deref().unwrap_or("not known")),
        count(report.panel_servers)
    );
    let state = |state: Option<PowerState>| Cell::plain(state.map_or("", PowerState::as_str));
    let rows = report.servers.iter().map(|server| {
        vec![
            Cell::plain(server.uuid.to_string()),
            Cell::plain(server.name.as_deref().unwrap_or_default()),
            state(server.state),
            state(Some(server.wanted)),
            Cell::plain(server.container.as_deref().map_or("", |id| &id[..id.len().min(12)])),
            Cell::plain(server.image.as_deref().unwrap_or_default()),
            Cell::plain(server.attention.join("; ")),
        ]
    });
    text += &table("", width, &["UUID", "NAME", "STATE", "WANTED", "CONTAINER", "IMAGE", "ATTENTION"], rows.collect());
    for (title, tone, lines) in
        [("Fix this first", tone::BAD, &report.problems), ("Look at this", tone::NOTICE, &report.attention)]
    {
        if !lines.is_empty() {
            text += &format!("\n{}\n", paint(tone, title));
            lines.iter().for_each(|line| text += &format!("  {}\n", clean(line)));
        }
    }
    text + "\nNothing was changed. The first start takes the node over: systemctl disable wings; systemctl enable --now alula\n"
}

#[cfg(test)]
mod tests;
