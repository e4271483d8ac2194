//! The set-up of a run: images, programs of their containers, and servers of a panel or of a file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula::model::settings::{ConfigFile, Process, Replacement, Settings, Startup, Stop};
use alula::model::{Install, ManagedBy, Manifest, Role, Script, ServerId};
use alula::panel::PanelServer;
use alula::runtime::VolumeRole;
use alula::testing::PanelSide;
use alula::testing::fake::{Act, Launch, LocalImage, Program, RemoteImage, ServerScript};
use serde_json::json;

use crate::daemon::Machine;
use crate::rng::Rng;

/// The image of game servers.
pub const GAME: &str = "game:1";
/// Another one, for edits of files.
pub const OTHER_GAME: &str = "game:2";
/// The image of installers.
pub const INSTALLER: &str = "installer:1";
/// The last line of an installer.
pub const LAST_LINE: &str = "that was all of it";

/// How often the script of each installation ran to its end.
pub type Runs = Arc<Mutex<BTreeMap<String, u64>>>;

/// The file into which the egg writes a value before each start, and its content.
pub const CONFIG_FILE: (&str, &str) = ("config/game.properties", "port=25565\n");

fn config_file() -> ConfigFile {
    let replace = vec![Replacement { key: "port".into(), if_value: None, replace_with: "25565".into() }];
    ConfigFile { parser: "properties".into(), file: CONFIG_FILE.0.into(), create_file: true, replace }
}

/// A server of the panel.
pub fn wanted(id: ServerId, name: &str) -> PanelServer {
    let mut settings = Settings { invocation: "game".into(), ..Settings::default() };
    settings.container.image = GAME.into();
    settings.meta.name = name.into();
    settings.environment.insert("P_SERVER_UUID".into(), json!(id.to_string()));
    settings.build.disk_space = 100;
    let process = Process {
        startup: Startup { done: vec!["Done!".into()], strip_ansi: false },
        stop: Stop { kind: "command".into(), value: "stop".into(), timeout: None },
        configs: vec![config_file()],
    };
    PanelServer { suspended: false, settings, process }
}

fn script() -> Script {
    Script { image: INSTALLER.into(), entrypoint: "sh".into(), text: "echo hi\r\n".into() }
}

/// The panel's side of a new server.
pub fn panel_side(id: ServerId, name: &str) -> PanelSide {
    PanelSide::new(wanted(id, name), script())
}

/// A server of a file, with an installation.
pub fn by_hand(id: ServerId, version: String, then_start: bool) -> Manifest {
    let wanted = wanted(id, "by hand");
    let mut manifest = Manifest::new(id, ManagedBy::File);
    manifest.spec.settings = wanted.settings;
    manifest.spec.process = wanted.process;
    manifest.spec.script = Some(script());
    manifest.spec.install = Some(Install { version: Some(version), then_start, timeout: None });
    manifest
}

/// Sets the programs of containers, and counts completed installations.
pub fn set_up(machine: &Machine, seed: u64, runs: &Runs, calm: bool) {
    let pull =
        RemoteImage { takes: Duration::from_millis(1500), image: LocalImage::default(), ..RemoteImage::default() };
    for image in [GAME, OTHER_GAME, INSTALLER] {
        machine.engine.publish_image(image, pull.clone());
    }
    let (root, panel) = (machine.root.path().to_owned(), machine.panel.clone());
    let attempts = Mutex::new(BTreeMap::<String, u32>::new());
    machine.engine.choose_programs(move |launch: &Launch<'_>| {
        let id = launch.name;
        if launch.role() == Role::Server && root.join(format!("servers/{id}/.{id}.restore")).exists() {
            panel.lock().violations.push(format!("{id} starts while its files are restored"));
        }
        let attempt =
            attempts.lock().unwrap().entry(launch.name.to_owned()).and_modify(|n| *n += 1).or_insert(1).to_owned();
        if !calm && is_rejected(seed, launch.name, attempt) {
            return Program::bad_entrypoint("sh");
        }
        let mut rng = Rng::new(seed ^ u64::from(launch.run_of_name) ^ launch.name.len() as u64);
        match launch.role() {
            Role::Installer => installer(&mut rng, calm),
            Role::Server => server(&mut rng, calm),
        }
    });
    let runs = runs.clone();
    machine.engine.on_end(move |_, ended| {
        let Some(purpose) = ended.purpose.as_ref().filter(|purpose| purpose.role == Role::Installer) else { return };
        if !ended.by_itself {
            return;
        }
        *runs.lock().unwrap().entry(format!("{} {}", purpose.server, purpose.token)).or_default() += 1;
        if let Some(data) = ended.spec.volumes.iter().find(|volume| volume.role == VolumeRole::Data) {
            let path = PathBuf::from(data.path.as_deref().unwrap());
            std::fs::write(path.join("level.dat"), "precious").unwrap();
        }
    });
}

/// Whether this attempt to start is rejected: sometimes, and never twice in a row.
fn is_rejected(seed: u64, name: &str, attempt: u32) -> bool {
    attempt % 2 == 1 && Rng::new(seed ^ u64::from(attempt) << 32 ^ name.len() as u64).permille(60)
}

fn installer(rng: &mut Rng, calm: bool) -> Program {
    let lasts = if calm { Duration::from_secs(3) } else { rng.millis(0, 90_000) };
    let code = if rng.permille(200) { 3 } else { 0 };
    let mut lines = vec![(Duration::ZERO, "installing")];
    if !calm && rng.permille(300) {
        // More than a rotated log keeps.
        lines.extend((0..60).map(|at| (lasts * at / 60, "unpacking one more of very many files")));
    }
    lines.push((lasts / 2, "half way"));
    lines.push((lasts, LAST_LINE));
    Program::installer(&lines, lasts, code)
}

fn server(rng: &mut Rng, calm: bool) -> Program {
    let mut plan = ServerScript { boots_in: Some(Duration::from_secs(1)), ..ServerScript::default() };
    if !calm {
        plan.boots_in = Some(rng.millis(0, 20_000));
        plan.stops_in = if rng.permille(50) { None } else { Some(rng.millis(0, 20_000)) };
    }
    let program = Program::server(&plan);
    if !calm && rng.permille(60) {
        return program.and_then(rng.millis(0, 200_000), Act::Exit(1));
    }
    program
}
