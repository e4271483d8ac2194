//! The command line: sub-commands and options. Comments without a full stop are help texts.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::ContextKind;
use clap::{Args, Parser, Subcommand};

use super::error::CliError;
use super::output::Format;
use crate::diagnostics::{LOG_LINES, MAX_LOG_LINES};
use crate::model::time::Span;

/// Node daemon of a game-server host: reconciles the host's servers with their specs
///
/// Without a command it runs the daemon, as Wings does.
#[derive(Debug, Parser)]
#[command(name = "alula", version, propagate_version = false, max_term_width = 100)]
pub struct Arguments {
    #[command(flatten)]
    pub node: NodeArguments,
    /// For the daemon, if no command is given.
    #[command(flatten)]
    pub run: RunOptions,
    /// Output format
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub output: Format,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options that name a node.
#[derive(Debug, Clone, Args)]
pub struct NodeArguments {
    /// The node's configuration file [env: ALULA_CONFIG] [default: /etc/pelican/config.yml]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "root")]
    pub config: Option<PathBuf>,
    /// The state folder of a node; its config.yml is read if there is one
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// The socket of a running daemon; no other file is read [env: ALULA_SOCKET]
    #[arg(long, global = true, value_name = "PATH", conflicts_with_all = ["config", "root"])]
    pub socket: Option<PathBuf>,
}

/// Names the socket of a running daemon, for commands.
pub const SOCKET_VARIABLE: &str = "ALULA_SOCKET";
/// Names the node's configuration file.
const CONFIG_VARIABLE: &str = "ALULA_CONFIG";

impl NodeArguments {
    /// The node that the command line names or else the environment: for a command by its socket, if there is one, or by its file.
    pub fn or_environment(self, is_command: bool, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        if self.config.is_some() || self.root.is_some() || self.socket.is_some() {
            return self;
        }
        let path = |name| variable(name).filter(|text| !text.is_empty()).map(PathBuf::from);
        match path(SOCKET_VARIABLE).filter(|_| is_command) {
            Some(socket) => Self { socket: Some(socket), ..self },
            None => Self { config: path(CONFIG_VARIABLE), ..self },
        }
    }
}

/// Options of the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct RunOptions {
    /// Write debug messages to the log
    #[arg(long)]
    pub debug: bool,
    /// Do not verify the panel's TLS certificate
    #[arg(long)]
    pub ignore_certificate_errors: bool,
    /// Get the API's certificate from Let's Encrypt instead of from `api.ssl`; port 80 of this host must be reachable
    #[arg(long, requires = "tls_hostname")]
    pub auto_tls: bool,
    /// The name of this host in the certificate
    #[arg(long, value_name = "NAME")]
    pub tls_hostname: Option<String>,
    /// Another certificate authority than Let's Encrypt, by the URL of its ACME directory
    #[arg(long, value_name = "URL", requires = "auto_tls")]
    pub acme_directory: Option<String>,
    /// The root certificate of that authority's ACME server, PEM, if this host does not trust it
    #[arg(long, value_name = "FILE", requires = "acme_directory")]
    pub acme_root: Option<PathBuf>,
    /// The port that answers the authority, if requests to port 80 are forwarded to another one [default: 80]
    #[arg(long, value_name = "PORT", requires = "auto_tls")]
    pub acme_port: Option<u16>,
}

impl RunOptions {
    /// The options of this one and of the other.
    pub fn and(self, other: Self) -> Self {
        Self {
            debug: self.debug || other.debug,
            ignore_certificate_errors: self.ignore_certificate_errors || other.ignore_certificate_errors,
            auto_tls: self.auto_tls || other.auto_tls,
            tls_hostname: self.tls_hostname.or(other.tls_hostname),
            acme_directory: self.acme_directory.or(other.acme_directory),
            acme_root: self.acme_root.or(other.acme_root),
            acme_port: self.acme_port.or(other.acme_port),
        }
    }
}

/// Options of Wings that alula does not have, each with what to do instead.
const WINGS_OPTIONS: [(&str, &str); 3] =
    [("--pprof", NO_PROFILING), ("--pprof-port", NO_PROFILING), ("--pprof-block-rate", NO_PROFILING)];
const NO_PROFILING: &str = "alula has no profiling server: leave this option out, and use `perf` instead";

impl Arguments {
    /// Reads the command line of this process. It prints help or an error and ends the process where that is called for.
    ///
    /// # Errors
    /// An option of Wings that alula does not have.
    pub fn read() -> Result<Self, CliError> {
        Self::try_parse().or_else(|error| {
            let unknown = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
            match WINGS_OPTIONS.iter().find(|(option, _)| unknown.split_whitespace().next() == Some(option)) {
                Some((option, why)) => Err(CliError::Usage(format!("{option}: {why}"))),
                None => error.exit(),
            }
        })
    }
}

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground
    Run(RunOptions),
    /// Write the node's configuration file, as the panel has it
    Configure(Configure),
    /// List servers, or with `operations` the backups, restores and transfers that run now
    Get(Select),
    /// Show the details of one server: conditions, installation, crashes, events, files
    Describe(One),
    /// Show the steps that the next pass would execute, and why
    Plan(Select),
    /// Check files without a node: manifests, override.yml, the node's config.yml
    Validate(Validate),
    /// Show what the first start takes over from Wings on this host
    Adopt(Adopt),
    /// Create or change servers from manifests (needs the daemon)
    Apply(Apply),
    /// Start, stop, restart or kill servers (needs the daemon)
    Power(Power),
    /// Run install scripts again, or abort installations (needs the daemon)
    Install(Install),
    /// Delete servers (needs the daemon). Their files and local backups are kept for a day
    Delete(Delete),
    /// List deleted servers that are kept, or bring one back
    RestoreDeleted(RestoreDeleted),
    /// Show events
    Events(Events),
    /// Show the console output or the install log of a server
    Logs(Logs),
    /// Copy files and directories into a server's directory, or out of it
    Cp(Cp),
    /// Make, list, restore, verify and remove backups
    #[command(subcommand)]
    Backup(Backup),
    /// Write a server with all its files to standard output, to move it to another node
    Export(Export),
    /// Create a server from standard input, as `alula export` has written it (needs the daemon)
    Import,
    /// Print a report about the node for people who help you; it contains no secrets and is sent nowhere
    Diagnostics(Diagnostics),
    /// Print the version
    Version,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the JSON Schema of a manifest
    Schema,
}

/// Arguments of `configure`, as the panel prints them for Wings. What is missing is asked for.
#[derive(Debug, Args)]
pub struct Configure {
    /// Address of the panel, such as https://panel.example.com
    #[arg(short, long, value_name = "URL")]
    pub panel_url: Option<String>,
    /// API key of an administrator (not the node's token)
    #[arg(short, long, value_name = "KEY")]
    pub token: Option<String>,
    /// Number of the node in the panel
    #[arg(short, long, value_name = "NUMBER")]
    pub node: Option<String>,
    /// The file to write, instead of --config
    #[arg(short, long, value_name = "FILE")]
    pub config_path: Option<PathBuf>,
    /// Change a file that is there; its other keys stay
    #[arg(long)]
    pub r#override: bool,
    /// Do not verify the panel's TLS certificate
    #[arg(long)]
    pub allow_insecure: bool,
}

/// Any number of servers.
#[derive(Debug, Args)]
pub struct Select {
    /// Servers, by name, UUID, or its beginning (at least 4 characters); all servers if none is named
    #[arg(value_name = "SERVER")]
    pub servers: Vec<String>,
}

/// At least one server.
#[derive(Debug, Args)]
pub struct Targets {
    /// Servers, by name, UUID, or its beginning (at least 4 characters)
    #[arg(value_name = "SERVER", required = true)]
    pub servers: Vec<String>,
}

/// One server.
#[derive(Debug, Args)]
pub struct One {
    /// The server, by name, UUID, or its beginning (at least 4 characters)
    #[arg(value_name = "SERVER")]
    pub server: String,
}

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// Files to check, or folders of them; `-` is standard input
    #[arg(value_name = "FILE|DIR", required = true)]
    pub files: Vec<PathBuf>,
}

/// Arguments of `adopt`.
#[derive(Debug, Args)]
pub struct Adopt {
    /// Change nothing. Required: the start of the daemon is what takes the node over
    #[arg(long, required = true)]
    pub dry_run: bool,
}

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// A manifest, or a folder of them (*.yml, */config.yml, servers/*/config.yml); `-` is standard input
    #[arg(short, long = "filename", value_name = "FILE|DIR", required = true)]
    pub files: Vec<PathBuf>,
    /// Print what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `power`.
#[derive(Debug, Args)]
pub struct Power {
    /// The power action
    #[arg(value_parser = actions())]
    pub action: String,
    /// How long a stop or restart waits for a server's end before it kills the server, such as 90s or 20m; also for a stop that is
    /// under way
    #[arg(long, value_name = "TIME", value_parser = stop_timeout)]
    pub timeout: Option<Span>,
    #[command(flatten)]
    pub targets: Targets,
}

fn stop_timeout(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|expected| format!("expected {expected}"))?;
    if span.is_stop_timeout() { Ok(span) } else { Err(format!("expected {}", Span::STOP_TIMEOUTS)) }
}

/// The power actions, each with its help.
fn actions() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new([
        PossibleValue::new("start").help("Start, unless the server runs"),
        PossibleValue::new("stop").help("Stop, as the egg configures it"),
        PossibleValue::new("restart").help("Stop and start"),
        PossibleValue::new("kill").help("Kill the container at once"),
    ])
}

/// Arguments of `install`.
#[derive(Debug, Args)]
pub struct Install {
    /// Abort the current installation; it counts as failed
    #[arg(long)]
    pub abort: bool,
    #[command(flatten)]
    pub targets: Targets,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  alula export lobby > lobby.tar\n  alula export lobby | ssh other-node alula import"
)]
pub struct Export {
    /// Write its local backups, too
    #[arg(long)]
    pub with_backups: bool,
    #[command(flatten)]
    pub one: One,
}

/// Arguments of `restore-deleted`.
#[derive(Debug, Args)]
pub struct RestoreDeleted {
    /// The deleted server, by name, UUID, or its beginning (at least 4 characters); without it they are listed
    #[arg(value_name = "SERVER")]
    pub server: Option<String>,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Remove the files at once and for good
    #[arg(long)]
    pub now: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub targets: Targets,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Continue with new output (needs the daemon)
    #[arg(short, long)]
    pub follow: bool,
    /// Show the output of the last installation instead of the console
    #[arg(long)]
    pub install: bool,
    /// Begin with the last N lines instead of the whole file
    #[arg(long, value_name = "N")]
    pub tail: Option<u64>,
    #[command(flatten)]
    pub one: One,
}

/// Arguments of `cp`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  alula cp ./world lobby:/world\n  alula cp lobby:/server.properties .")]
pub struct Cp {
    /// What is copied: SERVER:PATH, or a path of this host
    #[arg(value_name = "FROM")]
    pub from: OsString,
    /// Where to: a path of this host, or SERVER:PATH. Into a directory that exists; files that exist are replaced
    #[arg(value_name = "TO")]
    pub to: OsString,
}

/// Sub-commands of `backup`.
#[derive(Debug, Subcommand)]
pub enum Backup {
    /// Make a backup of a server, while it runs (needs the daemon)
    Create(CreateBackup),
    /// List backups, and what is wrong with them
    List(Select),
    /// Restore a backup, or single files of it (needs the daemon). The server is stopped meanwhile, and started again
    Restore(RestoreBackup),
    /// Bring the files back that the latest restore has replaced; again: those of the restore (needs the daemon)
    Undo(UndoRestore),
    /// Remove a backup, or end one that is being made (needs the daemon)
    Delete(DeleteBackup),
    /// Read archives to their end and compare them with the record (needs the daemon)
    Verify(VerifyBackups),
    /// Write the archive of a backup (tar.gz) to standard output
    Export(BackupOf),
    /// List the files in a backup
    Ls(ListBackup),
    /// Write a file of a backup to standard output
    Cat(CatBackup),
}

/// A backup of a server.
#[derive(Debug, Args)]
pub struct BackupOf {
    #[command(flatten)]
    pub one: One,
    /// The backup, by its UUID or its beginning (at least 4 characters), or `latest`
    #[arg(value_name = "BACKUP")]
    pub backup: String,
}

/// Arguments of `backup create`.
#[derive(Debug, Args)]
pub struct CreateBackup {
    #[command(flatten)]
    pub one: One,
    /// A file of patterns of files to leave out, one a line, as in .gitignore; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub ignore_file: Option<PathBuf>,
    /// Wait until it is complete
    #[arg(short, long)]
    pub wait: bool,
}

/// Arguments of `backup restore`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  alula backup restore lobby latest --wait\n  alula backup restore lobby 7c9e world/level.dat server.properties"
)]
pub struct RestoreBackup {
    #[command(flatten)]
    pub backup: BackupOf,
    /// Only these files and directories of the backup; all of them if none is named
    #[arg(value_name = "PATH")]
    pub paths: Vec<String>,
    /// Keep files that the backup does not have. This is the default
    #[arg(long, conflicts_with = "truncate")]
    pub keep_files: bool,
    /// Remove files that the backup does not have
    #[arg(long, conflicts_with = "paths")]
    pub truncate: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
    /// Wait until it is complete
    #[arg(short, long)]
    pub wait: bool,
}

/// Arguments of `backup undo`.
#[derive(Debug, Args)]
pub struct UndoRestore {
    #[command(flatten)]
    pub one: One,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
    /// Wait until it is complete
    #[arg(short, long)]
    pub wait: bool,
}

/// Arguments of `backup delete`.
#[derive(Debug, Args)]
pub struct DeleteBackup {
    #[command(flatten)]
    pub backup: BackupOf,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `backup verify`.
#[derive(Debug, Args)]
pub struct VerifyBackups {
    /// The server, by name, UUID, or its beginning (at least 4 characters); all servers if none is named
    #[arg(value_name = "SERVER")]
    pub server: Option<String>,
    /// The backup, by its UUID or its beginning (at least 4 characters), or `latest`; all backups if none is named
    #[arg(value_name = "BACKUP")]
    pub backup: Option<String>,
    /// Wait for the results; a damaged archive is a failure then
    #[arg(short, long)]
    pub wait: bool,
}

/// Arguments of `backup ls`.
#[derive(Debug, Args)]
pub struct ListBackup {
    #[command(flatten)]
    pub backup: BackupOf,
    /// Only this file or directory, and what is below it
    #[arg(value_name = "PATH")]
    pub path: Option<OsString>,
}

/// Arguments of `backup cat`.
#[derive(Debug, Args)]
pub struct CatBackup {
    #[command(flatten)]
    pub backup: BackupOf,
    /// The file
    #[arg(value_name = "PATH")]
    pub path: OsString,
}

/// Arguments of `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Continue with new events; wait for the daemon while it does not run
    #[arg(short, long)]
    pub follow: bool,
    #[command(flatten)]
    pub select: Select,
}

/// Arguments of `diagnostics`.
#[derive(Debug, Args)]
pub struct Diagnostics {
    /// Show the addresses of the panel and of the daemon's listeners
    #[arg(long)]
    pub include_endpoints: bool,
    /// Leave the daemon's log out
    #[arg(long)]
    pub no_logs: bool,
    /// The last N lines of the daemon's log, at most 500
    #[arg(long, value_name = "N", default_value_t = LOG_LINES, value_parser = clap::value_parser!(u64).range(1..=MAX_LOG_LINES))]
    pub log_lines: u64,
}
