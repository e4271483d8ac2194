//! What can be typed: sub-commands, options, and the options of Wings.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use super::output::Format;

/// Node daemon of a game-server host: makes the servers that should exist exist.
///
/// Without a command it runs the daemon, as Wings does.
#[derive(Debug, Parser)]
#[command(name = "alula", version, propagate_version = false, max_term_width = 100)]
pub struct Arguments {
    /// Which node.
    #[command(flatten)]
    pub node: NodeArguments,
    /// How the daemon runs, where no command is given.
    #[command(flatten)]
    pub run: RunOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Which node is meant.
#[derive(Debug, Clone, Args)]
pub struct NodeArguments {
    /// The node's configuration file [default: /etc/pelican/config.yml]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "root")]
    pub config: Option<PathBuf>,
    /// The state folder of a node; its config.yml is read where there is one
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// How the daemon runs.
#[derive(Debug, Clone, Default, Args)]
pub struct RunOptions {
    /// Log what happens in detail
    #[arg(long)]
    pub debug: bool,
    /// Believe any certificate of the panel
    #[arg(long)]
    pub ignore_certificate_errors: bool,
    /// Options of Wings that are refused.
    #[command(flatten)]
    pub foreign: ForeignOptions,
}

/// Options of Wings without a meaning here. They are known so that the refusal can say what to do instead.
#[derive(Debug, Clone, Default, Args)]
pub struct ForeignOptions {
    #[arg(long, hide = true)]
    auto_tls: bool,
    #[arg(long, hide = true, value_name = "HOST")]
    tls_hostname: Option<String>,
    #[arg(long, hide = true)]
    pprof: bool,
    #[arg(long, hide = true, value_name = "PORT")]
    pprof_port: Option<String>,
    #[arg(long, hide = true, value_name = "RATE")]
    pprof_block_rate: Option<String>,
}

impl ForeignOptions {
    /// Why these options cannot be served, if any of them was given.
    pub fn rejection(&self) -> Option<String> {
        let certificates = "alula fetches no certificates: have certbot or a reverse proxy do it, name the files in \
                            `api.ssl` of config.yml, and leave this option out";
        let profiling = "alula has no profiling server: leave this option out, and use `perf` where needed";
        let given = [
            (self.auto_tls, "--auto-tls", certificates),
            (self.tls_hostname.is_some(), "--tls-hostname", certificates),
            (self.pprof, "--pprof", profiling),
            (self.pprof_port.is_some(), "--pprof-port", profiling),
            (self.pprof_block_rate.is_some(), "--pprof-block-rate", profiling),
        ];
        given.into_iter().find(|(given, ..)| *given).map(|(_, option, why)| format!("{option}: {why}"))
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon until it is told to end
    Run(RunOptions),
    /// List servers: what they are, how they are
    Get(Select),
    /// Show everything about one server: conditions, installation, crashes, events, files
    Describe(One),
    /// Show what would be done now, and why
    Plan(Select),
    /// Check files without a node: records of servers, override.yml, the node's config.yml
    Validate(Validate),
    /// Make servers be as files say (needs the daemon)
    Apply(Apply),
    /// Start, stop, restart or kill servers (needs the daemon)
    Power(Power),
    /// Run install scripts again, or end installations
    Install(Install),
    /// Delete servers with all their files (needs the daemon)
    Delete(Delete),
    /// Show what happened
    Events(Events),
    /// Show what a server printed
    Logs(Logs),
    /// Print the version
    Version(Output),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the JSON Schema of a server's record
    Schema,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Any number of servers.
#[derive(Debug, Args)]
pub struct Select {
    /// Servers, by UUID or its beginning (at least 4 characters); all of them where none is named
    #[arg(value_name = "UUID")]
    pub servers: Vec<String>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// One server.
#[derive(Debug, Args)]
pub struct One {
    /// The server, by UUID or its beginning (at least 4 characters)
    #[arg(value_name = "UUID")]
    pub server: String,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// Files to check, or folders of them; `-` is standard input
    #[arg(value_name = "FILE|DIR", required = true)]
    pub files: Vec<PathBuf>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// A file with one record, or a folder of them (*.yml, */config.yml, servers/*/config.yml); `-` is standard input
    #[arg(short, long = "filename", value_name = "FILE|DIR", required = true)]
    pub files: Vec<PathBuf>,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `power`.
#[derive(Debug, Args)]
pub struct Power {
    /// What to do
    #[arg(value_parser = actions())]
    pub action: String,
    /// Servers, by UUID or its beginning (at least 4 characters)
    #[arg(value_name = "UUID", required = true)]
    pub servers: Vec<String>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// The words of the power actions, each with its help.
fn actions() -> impl TypedValueParser<Value = String> {
    let action = |word: &'static str, help: &'static str| PossibleValue::new(word).help(help);
    PossibleValuesParser::new([
        action("start", "Up, unless it is"),
        action("stop", "Down, as its egg says"),
        action("restart", "Down and up"),
        action("kill", "Down at once"),
    ])
}

/// `install`.
#[derive(Debug, Args)]
pub struct Install {
    /// Servers, by UUID or its beginning (at least 4 characters)
    #[arg(value_name = "UUID", required = true)]
    pub servers: Vec<String>,
    /// End the installation that is under way; it counts as failed
    #[arg(long)]
    pub abort: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Servers, by UUID or its beginning (at least 4 characters)
    #[arg(value_name = "UUID", required = true)]
    pub servers: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// The server, by UUID or its beginning (at least 4 characters)
    #[arg(value_name = "UUID")]
    pub server: String,
    /// Go on, and show what is printed (needs the daemon)
    #[arg(short, long)]
    pub follow: bool,
    /// Show the output of the last installation instead of the console
    #[arg(long)]
    pub install: bool,
    /// Begin with the last N lines instead of the whole file
    #[arg(long, value_name = "N")]
    pub tail: Option<u64>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Servers, by UUID or its beginning (at least 4 characters); all of them where none is named
    #[arg(value_name = "UUID")]
    pub servers: Vec<String>,
    /// Go on, and show what happens; a daemon that is away is waited for
    #[arg(short, long)]
    pub follow: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}
