//! The validated configuration of this host, which the other modules use.
#![allow(missing_docs)]

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv4Net;

use super::backups::{TransferLimits, storage_pool};
use super::environment::token;
use super::file::{ConfigFile, DockerFile, PullPolicy, SystemFile, ThrottlesFile};
use super::lenient::{Lenient, within};
use super::schedules;
use super::{
    ApiConfig, BackupsConfig, Directories, FilesConfig, Live, LiveConfig, Overhead, PanelConfig, Problem, Registries,
    SftpConfig, SocketAccess, Variables,
};

/// Starts at the same time after a boot, where the file leaves it open: at least as many.
const MIN_STARTS: usize = 4;
/// The longest time, in seconds.
const CENTURY: i64 = 3_155_760_000;
/// The most lines for a new console.
const MAX_BACKLOG: i64 = 10_000;

/// The key of [`NodeConfig::crash_activity_lines`].
const CRASH_LINES: &str = "system.crash_detection_activity_lines";

/// The node's configuration. Shared as `Arc<NodeConfig>`.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeConfig {
    /// Path of the file.
    pub source: PathBuf,
    pub debug: bool,
    /// Log warnings and errors only. Never together with `debug`.
    pub quiet: bool,
    /// Name in `[<app_name> Daemon]:` console lines.
    pub app_name: String,
    /// The node's UUID on the panel; not validated.
    pub uuid: String,
    /// What applies without a restart: tokens and the containers' log.
    pub live: Live,
    pub api: ApiConfig,
    pub sftp: SftpConfig,
    /// `None` for a node without a panel.
    pub panel: Option<PanelConfig>,
    pub directories: Directories,
    /// Group and mode of the local API's socket.
    pub socket_access: SocketAccess,
    /// The system user that owns the servers' files.
    pub owner: Owner,
    /// User of processes in containers if it is not `owner`: the daemon and Docker run without root.
    pub rootless: Option<ContainerUser>,
    /// Whether `/etc/passwd` and `/etc/group` are mounted in servers.
    pub mount_passwd: bool,
    /// Whether `/etc/machine-id` is mounted in servers.
    pub mount_machine_id: bool,
    /// Name of the node's timezone in the timezone database.
    pub timezone: String,
    /// Valid values only. `log_config` is in `live`, and `registries` and `overhead` are below.
    pub docker: DockerFile,
    pub registries: Registries,
    /// Memory of containers beyond the server's limit.
    pub overhead: Overhead,
    pub pull_policy: PullPolicy,
    /// Networks of single servers.
    pub server_networks: ServerNetworks,
    /// Host paths below which servers may mount.
    pub allowed_mounts: Vec<PathBuf>,
    /// Whether mounts at or below `/home/container` are rejected.
    pub block_base_dir_mount: bool,
    /// Whether a crashed server is started again, if its own settings leave it open.
    pub crash_detection: bool,
    /// Whether an unrequested exit with code 0 is a crash.
    pub clean_exit_is_crash: bool,
    /// After a second crash within this time the server stays offline. Zero: it is always started again.
    pub crash_timeout: Duration,
    /// Lines of the console that the panel gets with a crash.
    pub crash_activity_lines: u32,
    /// Time between measurements of a server's disk usage. `None`: never, and no limit is enforced.
    pub disk_check_interval: Option<Duration>,
    /// Whether disk limits are project quotas of the file system, where it has them.
    pub quotas: bool,
    /// Time between an entry of the activity log and its report to the panel.
    pub activity_interval: Duration,
    /// Entries of one report.
    pub activity_batch: usize,
    /// Whether the owner of a server's files is set before each start.
    pub check_permissions_on_boot: bool,
    /// Whether a server's local backups are deleted with it.
    pub remove_backups_on_server_delete: bool,
    /// How backups are made and restored.
    pub backups: BackupsConfig,
    /// Whether the files of a server that the panel deletes are kept for a while.
    pub keep_deleted_by_panel: bool,
    /// How fast servers come and leave; `None` for no limit.
    pub transfer_limits: TransferLimits,
    /// The storage that this node shares with others: a server that is transferred between them is not copied.
    pub storage_pool: Option<String>,
    /// Passes that run at the same time.
    pub workers: usize,
    /// Installers that run at the same time.
    pub concurrent_installs: usize,
    /// Servers that are started at the same time after a boot.
    pub concurrent_starts: usize,
    /// The longest run of an install script; `None` for no limit.
    pub install_timeout: Option<Duration>,
    /// Whether an install script with an exit code other than 0 has failed.
    pub fail_on_nonzero_exit: bool,
    /// Size at which a new file of a console transcript is started.
    pub max_transcript_bytes: u64,
    /// Number of files of a console transcript, including the current one.
    pub max_transcript_files: u32,
    /// Console lines that viewers get in each interval; `None` for no limit.
    pub console_limit: Option<ConsoleLimit>,
    /// Lines of a container's log that are sent to a new console.
    pub console_backlog: u32,
    /// Access to servers' files.
    pub files: FilesConfig,
    /// Whether the daemon writes a logrotate file for its log.
    pub rotate_daemon_log: bool,
    /// Invalid values, each with the value that is used.
    pub adjusted: Vec<Problem>,
}

/// A limit on console lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsoleLimit {
    /// At most so many.
    pub lines: u64,
    /// After this time the count starts again.
    pub interval: Duration,
}

impl ConsoleLimit {
    fn resolve(file: &ThrottlesFile, lenient: &mut Lenient) -> Option<Self> {
        let lines = lenient.within("throttles.lines", file.lines, 1..=i64::from(u32::MAX), "lines", 2000);
        let (key, interval) = ("throttles.line_reset_interval", file.line_reset_interval);
        let milliseconds = lenient.within(key, interval, 1..=3_600_000, "milliseconds", 100);
        file.enabled.then_some(Self { lines, interval: Duration::from_millis(milliseconds) })
    }
}

/// A system user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub name: String,
    pub uid: u32,
    /// The user's own group.
    pub gid: u32,
}

/// Networks that belong to one server each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerNetworks {
    /// Whether each server has one.
    pub isolate: bool,
    /// Their IPv4 addresses.
    pub range: Ipv4Net,
}

/// A user and group in a container, displayed in the format of Docker's `User`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerUser {
    pub uid: u32,
    pub gid: u32,
}

impl Display for ContainerUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

impl NodeConfig {
    /// Validates `file`, which was read from `source`.
    ///
    /// # Errors
    /// The invalid values that cannot be replaced. Replaced values are listed in `adjusted`.
    pub fn resolve(
        file: &ConfigFile,
        source: &Path,
        variables: Variables<'_>,
        owner: Owner,
        timezone: String,
    ) -> Result<Self, Vec<Problem>> {
        let lenient = &mut Lenient::default();
        let token_id = lenient.require(token("token_id", "WINGS_TOKEN_ID", &file.token_id, variables));
        let token = lenient.require(token("token", "WINGS_TOKEN", &file.token, variables));
        let system = &file.system;
        let alula = &file.alula;
        let (crash, reconcile, install, logs) =
            (&system.crash_detection, &alula.reconcile, &alula.install, &alula.logs);
        let mut docker = file.docker.clone();
        docker.validate(lenient);
        // Wings treats a crash timeout below 0 as 0.
        let crash_timeout = lenient_seconds("system.crash_detection.timeout", crash.timeout, 0, lenient);
        let crash_activity_lines =
            lenient.within(CRASH_LINES, system.crash_detection_activity_lines, 0..=100, "lines", 0);
        let disk_check_interval =
            lenient_seconds("system.disk_check_interval", system.disk_check_interval, 150, lenient);
        let activity = (system.activity_send_interval, system.activity_send_count);
        let activity_interval: u64 =
            lenient.within("system.activity_send_interval", activity.0, 1..=86_400, "seconds", 60);
        let activity_batch: u32 = lenient.within("system.activity_send_count", activity.1, 1..=32_000, "entries", 100);
        let installs = reconcile.concurrent_installs;
        let panel = token_id.as_ref().zip(token.as_ref()).and_then(|(token_id, token)| {
            let panel = PanelConfig::resolve(file, token_id, token, lenient);
            lenient.require(panel)
        });
        let api = ApiConfig::resolve(file, source, lenient);
        let sftp = SftpConfig::resolve(&system.sftp, lenient);
        let directories = Directories::resolve(system, alula.socket.as_deref(), source, lenient);
        let directories = lenient.require(directories);
        let socket_access = SocketAccess::resolve(alula, lenient);
        let socket_access = lenient.require(socket_access);
        let overhead = Overhead::resolve(&std::mem::take(&mut docker.overhead), lenient);
        let overhead = lenient.require(overhead);
        let workers = lenient.require(within("alula.reconcile.workers", reconcile.workers, 1..=1024, "workers"));
        let installers = within("alula.reconcile.concurrent_installs", installs, 1..=1024, "installers");
        let installers = lenient.require(installers);
        let range = server_range(&alula.network.range);
        let range = lenient.require(range);
        let starts = within("alula.reconcile.concurrent_starts", reconcile.concurrent_starts, 0..=1024, "starts");
        let starts = lenient.require(starts);
        let install_timeout =
            lenient.require(seconds_or_none("alula.install.timeout_seconds", install.timeout_seconds));
        let transcript_mib = within("alula.logs.max_size_mib", logs.max_size_mib, 1..=1 << 20, "MiB");
        let transcript_mib: Option<u64> = lenient.require(transcript_mib);
        let transcript_files = lenient.require(within("alula.logs.max_files", logs.max_files, 1..=1000, "files"));
        let rootless = ContainerUser::resolve(system, lenient);
        let console_limit = ConsoleLimit::resolve(&file.throttles, lenient);
        let (key, backlog) = ("system.websocket_log_count", system.websocket_log_count);
        let console_backlog = lenient.within(key, backlog, 0..=MAX_BACKLOG, "lines", 150);
        let allowed_mounts = allowed_mounts(&file.allowed_mounts, lenient);
        let files = FilesConfig::resolve(file, lenient);
        let backups = BackupsConfig::resolve(&system.backups, lenient);
        let backup_schedules = lenient.require(schedules::resolve(&alula.backups, &timezone));
        let transfer_limits = TransferLimits::resolve(&system.transfers, lenient);
        let invalid = std::mem::take(&mut lenient.1);
        if !invalid.is_empty() {
            return Err(invalid);
        }
        let (Some(token_id), Some(token), Some(panel), Some(api)) = (token_id, token, panel, api) else {
            return Err(invalid);
        };
        let (Some(directories), Some(socket_access), Some(overhead)) = (directories, socket_access, overhead) else {
            return Err(invalid);
        };
        let (Some(workers), Some(concurrent_installs), Some(install_timeout), Some(mib), Some(max_transcript_files)) =
            (workers, installers, install_timeout, transcript_mib, transcript_files)
        else {
            return Err(invalid);
        };
        let (Some(starts), Some(range), Some(backup_schedules)) = (starts, range, backup_schedules) else {
            return Err(invalid);
        };
        let adjusted = std::mem::take(&mut lenient.0);
        Ok(Self {
            source: source.to_owned(),
            debug: file.debug,
            quiet: file.quiet && !file.debug,
            app_name: file.app_name.clone(),
            uuid: file.uuid.clone(),
            live: Live::new(LiveConfig {
                token_id: token_id.expose().to_owned(),
                token,
                log_config: std::mem::take(&mut docker.log_config),
                backup_schedules,
            }),
            api,
            sftp,
            panel,
            directories,
            socket_access,
            owner,
            rootless,
            mount_passwd: system.user.passwd.enable,
            mount_machine_id: system.machine_id.enable,
            timezone,
            registries: Registries::resolve(std::mem::take(&mut docker.registries)),
            overhead,
            docker,
            pull_policy: alula.pull.policy,
            server_networks: ServerNetworks { isolate: alula.network.isolate, range },
            allowed_mounts,
            block_base_dir_mount: file.block_base_dir_mount,
            crash_detection: crash.enabled,
            clean_exit_is_crash: crash.detect_clean_exit_as_crash,
            crash_timeout: crash_timeout.unwrap_or_default(),
            crash_activity_lines,
            disk_check_interval,
            quotas: system.quotas.enabled,
            activity_interval: Duration::from_secs(activity_interval),
            activity_batch: activity_batch as usize,
            check_permissions_on_boot: system.check_permissions_on_boot,
            remove_backups_on_server_delete: system.backups.remove_backups_on_server_delete,
            backups,
            keep_deleted_by_panel: alula.trash.panel,
            transfer_limits,
            storage_pool: storage_pool(&system.transfers),
            workers,
            concurrent_installs,
            concurrent_starts: if starts == 0 { cores().max(MIN_STARTS) } else { starts },
            install_timeout,
            fail_on_nonzero_exit: install.fail_on_nonzero_exit,
            max_transcript_bytes: mib * 1024 * 1024,
            max_transcript_files,
            console_limit,
            console_backlog,
            files,
            rotate_daemon_log: system.enable_log_rotate,
            adjusted,
        })
    }

    /// Whether the HTTP API is served over TCP: callers need a token.
    pub fn serves_api(&self) -> bool {
        !self.live.get().token.is_empty()
    }

    /// The user of processes in containers.
    pub fn container_user(&self) -> ContainerUser {
        self.rootless.unwrap_or(ContainerUser { uid: self.owner.uid, gid: self.owner.gid })
    }

    /// The timezone of a container: the server's own `SERVER_TIMEZONE` if it is valid, else the node's.
    pub fn timezone_for(&self, server_timezone: Option<&str>) -> String {
        server_timezone.and_then(super::timezone::canonical).unwrap_or_else(|| self.timezone.clone())
    }
}

impl ContainerUser {
    fn resolve(system: &SystemFile, lenient: &mut Lenient) -> Option<Self> {
        let rootless = &system.user.rootless;
        let mut id = |key: &str, value, unit| lenient.within(key, value, 0..=i64::from(u32::MAX - 1), unit, 0);
        rootless.enabled.then(|| Self {
            uid: id("system.user.rootless.container_uid", rootless.container_uid, "as a user id"),
            gid: id("system.user.rootless.container_gid", rootless.container_gid, "as a group id"),
        })
    }
}

fn allowed_mounts(file: &[String], lenient: &mut Lenient) -> Vec<PathBuf> {
    let mounts = file.iter().filter(|text| !text.is_empty()).map(|text| match Path::new(text).is_absolute() {
        true => Ok(Path::new(text).components().collect()),
        false => Err(format!("{text:?} is not an absolute path")),
    });
    mounts.filter_map(|mount| lenient.keep("allowed_mounts", mount)).collect()
}

/// The range of the networks of single servers.
fn server_range(text: &str) -> Result<Ipv4Net, Problem> {
    let range = text.parse::<Ipv4Net>().ok().filter(|range| (8..=24).contains(&range.prefix_len()));
    let expected = "expected a range of IPv4 addresses from /8 to /24, such as 10.208.0.0/12";
    range
        .map(|range| range.trunc())
        .ok_or_else(|| Problem::new("alula.network.range", format!("is {text:?}: {expected}")))
}

/// The cores of the host.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A time in seconds; 0 is none.
fn seconds_or_none(key: &str, value: i64) -> Result<Option<Duration>, Problem> {
    let seconds: u64 = within(key, value, 0..=CENTURY, "seconds")?;
    Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
}

/// As [`seconds_or_none`], with an invalid value replaced.
fn lenient_seconds(key: &str, value: i64, default: i64, lenient: &mut Lenient) -> Option<Duration> {
    let seconds: u64 = lenient.within(key, value, 0..=CENTURY, "seconds", default);
    (seconds > 0).then(|| Duration::from_secs(seconds))
}
