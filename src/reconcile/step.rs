//! What can be done to bring a server closer to what it should be.
//!
//! Each step is idempotent, takes seconds at most, and leaves something that the next look finds: a container, a file, a
//! fact in the record, a job.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use strum::{EnumDiscriminants, IntoStaticStr, VariantArray};

use super::job::{JobKind, Subject};
use crate::model::{InstallOutcome, Reason, Role, Verb};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, EnumDiscriminants)]
#[serde(rename_all = "camelCase", tag = "step")]
#[strum_discriminants(name(StepKind), derive(PartialOrd, Ord, IntoStaticStr, VariantArray))]
#[strum_discriminants(
    doc = "The kind of a step. The variants' names are the texts in logs, events and ARCHITECTURE.md."
)]
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
        subject: Subject,
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
    pub fn subject(&self) -> Cow<'_, str> {
        match self {
            Step::StartJob { subject, .. } => subject.to_string().into(),
            Step::WriteScript { token }
            | Step::CreateInstaller { token }
            | Step::StartInstaller { token, .. }
            | Step::CreateServer { token }
            | Step::RecordInstall { token, .. } => token.into(),
            Step::StartServer { power, .. }
            | Step::RecordBegun { power }
            | Step::ClosePower { power, .. }
            | Step::Assign { power, .. } => power.into(),
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
            | Step::RecordCrash { container, .. } => container.into(),
            Step::Accept
            | Step::TakeInstallSlot
            | Step::ReleaseInstallSlot
            | Step::Prepare
            | Step::Quiesce
            | Step::Forget => "".into(),
        }
    }

    /// Its kind, which tells failures of different steps apart.
    pub fn kind(&self) -> StepKind {
        self.into()
    }
}

impl StepKind {
    /// Its name, for logs and people.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A sentence for people.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Accept => write!(f, "record the intent that the files hold"),
            Step::TakeInstallSlot => write!(f, "take one of the node's places for installations, if one is free"),
            Step::ReleaseInstallSlot => write!(f, "give the place for installations back"),
            Step::Prepare => write!(f, "make the server's folders and links"),
            Step::StartJob { job, .. } => write!(f, "{job}"),
            Step::WriteScript { token } => write!(f, "write the install script ({token}) and begin its log"),
            Step::CreateInstaller { token } => write!(f, "make the install container ({token})"),
            Step::StartInstaller { container, .. } => write!(f, "start the install container {container:.12}"),
            Step::Kill { container, .. } => write!(f, "send SIGKILL to container {container:.12}"),
            Step::RecordInterrupted { container, .. } => {
                write!(f, "note that the install script in {container:.12} was cut off; it is run again")
            }
            Step::CloseInstallLog { container, .. } => {
                write!(f, "bring the log of the install container {container:.12} to its end")
            }
            Step::RecordInstall { token, outcome, message, .. } => {
                let outcome = match outcome {
                    InstallOutcome::Succeeded => "succeeded",
                    InstallOutcome::Failed => "failed",
                };
                write!(f, "record the installation ({token}) as {outcome}: {message}")
            }
            Step::RemoveInstaller { container } => write!(f, "remove the install container {container:.12}"),
            Step::RemoveServer { container } => write!(f, "remove the server's container {container:.12}"),
            Step::CreateServer { token } => write!(f, "make the server's container ({token})"),
            Step::Assign { container, power } => {
                write!(f, "note that container {container:.12} serves the power request {power}")
            }
            Step::StartServer { container, .. } => write!(f, "attach to container {container:.12} and start it"),
            Step::Attach { container, .. } => write!(f, "attach to the running container {container:.12}"),
            Step::Stop { container, method: StopMethod::Kill, .. } => write!(f, "kill container {container:.12}"),
            Step::Stop { container, method, grace } => {
                write!(f, "stop container {container:.12} {method}; SIGKILL after {} s", grace.as_secs())
            }
            Step::UpdateLimits { container } => write!(f, "put the new limits on container {container:.12} in force"),
            Step::RecordBegun { power } => write!(f, "record that the start ({power}) has begun"),
            Step::RecordStarted { container } => {
                write!(f, "record that the start-up in container {container:.12} has finished")
            }
            Step::EndStart { container } => {
                write!(f, "record that the start in container {container:.12} is over, though its end was not seen")
            }
            Step::RecordCrash { container, message, .. } => {
                write!(f, "record a crash of container {container:.12}: {message}")
            }
            Step::ClosePower { power, message, .. } => {
                write!(f, "record that the power request {power} was handled: {message}")
            }
            Step::Quiesce => write!(f, "end everything that runs for the server"),
            Step::Forget => write!(f, "remove the server's record"),
        }
    }
}

impl fmt::Display for StopMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopMethod::Command(command) => write!(f, "by typing {command:?}"),
            StopMethod::Signal(signal) => write!(f, "with {signal}"),
            StopMethod::Native => write!(f, "with the signal that its image asks for"),
            StopMethod::Kill => write!(f, "with SIGKILL"),
        }
    }
}

/// Steps for tools and people: the fields of each, and its sentence as `text`.
pub(super) fn with_text<S: Serializer>(steps: &[Step], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Described<'a> {
        #[serde(flatten)]
        step: &'a Step,
        text: String,
    }
    serializer.collect_seq(steps.iter().map(|step| Described { step, text: step.to_string() }))
}

#[cfg(test)]
mod tests;
