//! What can be done to bring a server closer to what it should be.
//!
//! Each step is idempotent, takes seconds at most, and leaves something that the next look finds: a container, a file, a
//! fact in the record, a job.

use std::time::Duration;

use serde::Serialize;

use super::observed::JobKind;
use crate::model::{InstallOutcome, Reason, Role, Verb};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "step")]
pub enum Step {
    /// Record the intent that was accepted (seen again as `record.generation`).
    Accept,
    /// Take one of the node's places for installations, if one is free.
    TakeInstallSlot,
    /// Give the place back.
    ReleaseInstallSlot,
    /// Make the server's folders, links and machine-id.
    Prepare,
    /// Start a job beside the passes.
    StartJob {
        /// Which.
        job: JobKind,
        /// What it is for.
        subject: String,
    },
    /// Write the install script into its folder and begin the log.
    WriteScript {
        /// The install token.
        token: String,
    },
    /// Make the installer's container.
    CreateInstaller {
        /// The install token.
        token: String,
    },
    /// Start the installer's container.
    StartInstaller {
        /// The container.
        container: String,
        /// The install token.
        token: String,
    },
    /// Send SIGKILL to a container.
    Kill {
        /// The container.
        container: String,
        /// Whose it is.
        role: Role,
    },
    /// Bring the log to its end.
    CloseInstallLog {
        /// The container.
        container: String,
        /// The install token.
        token: String,
    },
    /// Record how an installation ended; the panel is told from there.
    RecordInstall {
        /// The install token.
        token: String,
        /// How it ended.
        outcome: InstallOutcome,
        /// The script's exit status.
        exit_code: Option<i64>,
        /// One word.
        reason: Reason,
        /// A sentence.
        message: String,
    },
    /// Record that the engine or the host has cut off the install script; it is run again.
    RecordInterrupted {
        /// The container.
        container: String,
        /// The install token.
        token: String,
    },
    /// Remove a container and what was made for it beside the server's own files.
    RemoveInstaller {
        /// The container.
        container: String,
    },
    /// Remove the server's container.
    RemoveServer {
        /// The container.
        container: String,
    },
    /// Make the server's container.
    CreateServer {
        /// The power request (or installation) it is made for.
        token: String,
    },
    /// Write down that a container serves another request than its label says.
    Assign {
        /// The container.
        container: String,
        /// The power request.
        power: String,
    },
    /// Attach to the server's container and start it.
    StartServer {
        /// The container.
        container: String,
        /// The power request it starts for.
        power: String,
    },
    /// Attach to a running container.
    Attach {
        /// The container.
        container: String,
        /// Read its log first: its start-up may have finished unseen.
        replay: bool,
    },
    /// Ask a running server to stop.
    Stop {
        /// The container.
        container: String,
        /// How.
        method: StopMethod,
        /// How long it may take.
        grace: Duration,
    },
    /// Change the limits of a running container.
    UpdateLimits {
        /// The container.
        container: String,
    },
    /// Record that a start has begun: it no longer expires.
    RecordBegun {
        /// The power request.
        power: String,
    },
    /// Record that the start-up has finished. What was fetched and pulled for it counts for no later start, whatever may end
    /// this container.
    RecordStarted {
        /// The container.
        container: String,
    },
    /// Record that a start is over whose end was not seen. The next one asks panel and registry again.
    EndStart {
        /// The container.
        container: String,
    },
    /// Record a crash and what follows from it.
    RecordCrash {
        /// The container.
        container: String,
        /// Its exit status.
        exit_code: i64,
        /// Ended by the kernel for want of memory.
        oom_killed: bool,
        /// Whether the server is started again.
        restart: bool,
        /// The power request, handled when not restarted.
        power: String,
        /// Its position in the order of acceptance.
        sequence: u64,
        /// What it asked.
        verb: Verb,
        /// Why not, in a word.
        reason: Reason,
        /// A sentence.
        message: String,
    },
    /// Record that a power request was handled.
    ClosePower {
        /// The request.
        power: String,
        /// Its position in the order of acceptance.
        sequence: u64,
        /// What it asked.
        verb: Verb,
        /// One word.
        reason: Reason,
        /// A sentence.
        message: String,
    },
    /// End every job and attachment of a server that is being deleted.
    Quiesce,
    /// Forget the server, or begin anew where it is wanted again.
    Forget,
}

/// How a running server is asked to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StopMethod {
    /// Type a command; as `Native` where nothing is attached.
    Command(String),
    /// Send a signal.
    Signal(&'static str),
    /// The signal that the image asks for, SIGTERM as a rule: `docker stop` without its impatience.
    Native,
    /// SIGKILL.
    Kill,
}

impl Step {
    /// What the step is for: with its name it tells one failure from another.
    pub fn subject(&self) -> &str {
        match self {
            Step::StartJob { subject, .. } => subject,
            Step::WriteScript { token }
            | Step::CreateInstaller { token }
            | Step::StartInstaller { token, .. }
            | Step::CreateServer { token }
            | Step::RecordInstall { token, .. } => token,
            Step::StartServer { power, .. }
            | Step::RecordBegun { power }
            | Step::ClosePower { power, .. }
            | Step::Assign { power, .. } => power,
            Step::Kill { container, .. }
            | Step::CloseInstallLog { container, .. }
            | Step::RecordInterrupted { container, .. }
            | Step::RemoveInstaller { container }
            | Step::RemoveServer { container }
            | Step::Attach { container, .. }
            | Step::Stop { container, .. }
            | Step::UpdateLimits { container }
            | Step::RecordStarted { container }
            | Step::EndStart { container }
            | Step::RecordCrash { container, .. } => container,
            Step::Accept
            | Step::TakeInstallSlot
            | Step::ReleaseInstallSlot
            | Step::Prepare
            | Step::Quiesce
            | Step::Forget => "",
        }
    }

    /// The step's name, for logs and for telling failures apart.
    pub fn name(&self) -> &'static str {
        match self {
            Step::Accept => "Accept",
            Step::TakeInstallSlot => "TakeInstallSlot",
            Step::ReleaseInstallSlot => "ReleaseInstallSlot",
            Step::Prepare => "Prepare",
            Step::StartJob { .. } => "StartJob",
            Step::WriteScript { .. } => "WriteScript",
            Step::CreateInstaller { .. } => "CreateInstaller",
            Step::StartInstaller { .. } => "StartInstaller",
            Step::Kill { .. } => "Kill",
            Step::CloseInstallLog { .. } => "CloseInstallLog",
            Step::RecordInstall { .. } => "RecordInstall",
            Step::RecordInterrupted { .. } => "RecordInterrupted",
            Step::RemoveInstaller { .. } => "RemoveInstaller",
            Step::RemoveServer { .. } => "RemoveServer",
            Step::CreateServer { .. } => "CreateServer",
            Step::Assign { .. } => "Assign",
            Step::StartServer { .. } => "StartServer",
            Step::Attach { .. } => "Attach",
            Step::Stop { .. } => "Stop",
            Step::UpdateLimits { .. } => "UpdateLimits",
            Step::RecordBegun { .. } => "RecordBegun",
            Step::RecordStarted { .. } => "RecordStarted",
            Step::EndStart { .. } => "EndStart",
            Step::RecordCrash { .. } => "RecordCrash",
            Step::ClosePower { .. } => "ClosePower",
            Step::Quiesce => "Quiesce",
            Step::Forget => "Forget",
        }
    }
}
