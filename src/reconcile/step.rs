//! What can be done to bring a server closer to its desired state.
//!
//! Each step is idempotent, takes seconds at most, and leaves something that the next pass observes: a container, a file, an entry of
//! the record, a job.

#![allow(missing_docs)]

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use strum::{Display, EnumDiscriminants, IntoStaticStr, VariantArray};

use super::job::{JobKind, Subject};
use crate::model::{Crash, Handled, InstallResult, Role};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, EnumDiscriminants)]
#[serde(rename_all = "camelCase", tag = "step")]
#[strum_discriminants(name(StepKind), derive(PartialOrd, Ord, IntoStaticStr, VariantArray))]
#[strum_discriminants(doc = "The kind of a step. Its name is the text in logs, events and ARCHITECTURE.md.")]
pub enum Step {
    /// Record the manifest that was accepted (observed as `record.generation`).
    Accept,
    /// Take an install slot, if one is free.
    TakeInstallSlot,
    /// Release the install slot.
    ReleaseInstallSlot,
    /// Take a slot for a start after a boot, if one is free and no server with a higher priority waits.
    TakeStartSlot { priority: i32 },
    /// Release that slot, or stop waiting for one.
    ReleaseStartSlot,
    /// Create the server's folders, links and machine-id.
    Prepare,
    /// Start a background job.
    StartJob { job: JobKind, subject: Subject },
    /// Write the install script into its folder and begin the log.
    WriteScript { token: String },
    /// Create the installer's container.
    CreateInstaller { token: String },
    /// Start the installer's container.
    StartInstaller { container: String, token: String },
    /// Send SIGKILL to a container.
    Kill { container: String, role: Role },
    /// Complete the install log.
    CloseInstallLog { container: String, token: String },
    /// Record how an installation ended; the report to the panel follows from the record.
    RecordInstall(InstallResult),
    /// Record that the engine or the host has interrupted the install script; it is run again.
    RecordInterrupted { container: String, token: String },
    /// Accept a start for a server that Wings has started: it is to run, here as there.
    AdoptServer { container: String },
    /// Begin the log of an installer that Wings has started, and accept an installation that follows it.
    AdoptInstaller { container: String, reinstall: bool },
    /// Remove the installer's container, and its script.
    RemoveInstaller { container: String },
    /// Remove the server's container.
    RemoveServer { container: String },
    /// Create the server's container, for the power request or installation that is its token.
    CreateServer { token: String },
    /// Record that a container serves another request than its label names.
    Assign { container: String, power: String },
    /// Attach to the server's container and start it for a power request.
    StartServer { container: String, power: String },
    /// Attach to a running container. With `replay` its log is read first: its start-up may have finished unseen.
    Attach { container: String, replay: bool },
    /// Ask a running server to stop. SIGKILL follows after `grace`.
    Stop { container: String, method: StopMethod, grace: Duration },
    /// Change the limits of a running container; with `boost` to those of its start-up.
    UpdateLimits { container: String, boost: bool },
    /// Record that a start has begun: it no longer expires.
    RecordBegun { power: String },
    /// Record that the start-up has finished. What was fetched and pulled for it does not count for a later start.
    RecordStarted { container: String },
    /// Record that a start is over whose end was not seen. The next one asks panel and registry again.
    EndStart { container: String },
    /// Record a crash. The power request is handled unless the server is started again.
    RecordCrash { crash: Crash, handled: Handled },
    /// Record that a power request was handled.
    ClosePower(Handled),
    /// End every job and attachment of a server that is being deleted.
    Quiesce,
    /// Remove the server from the store, or create it again where that was requested after the deletion.
    Forget,
}

/// How a running server is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Display)]
#[serde(rename_all = "camelCase")]
pub enum StopMethod {
    /// Send a command to the terminal; as `Native` where none is attached.
    #[strum(to_string = "by the command {0:?}")]
    Command(String),
    #[strum(to_string = "with {0}")]
    Signal(&'static str),
    /// Send the image's stop signal, SIGTERM by default, as `docker stop` does.
    #[strum(to_string = "with the signal that its image asks for")]
    Native,
    #[strum(to_string = "with SIGKILL")]
    Kill,
}

impl StepKind {
    /// Whether such a step only writes into the state folder.
    pub fn is_record(self) -> bool {
        matches!(
            self,
            StepKind::Accept
                | StepKind::RecordInstall
                | StepKind::RecordInterrupted
                | StepKind::Assign
                | StepKind::RecordBegun
                | StepKind::RecordStarted
                | StepKind::EndStart
                | StepKind::RecordCrash
                | StepKind::AdoptServer
                | StepKind::AdoptInstaller
                | StepKind::ClosePower
        )
    }
}

impl Step {
    /// What the step is for. Kind and subject identify a failure.
    pub fn subject(&self) -> Cow<'_, str> {
        match self {
            Step::StartJob { subject, .. } => subject.to_string().into(),
            Step::WriteScript { token }
            | Step::CreateInstaller { token }
            | Step::StartInstaller { token, .. }
            | Step::CreateServer { token }
            | Step::RecordInstall(InstallResult { token, .. }) => token.into(),
            Step::StartServer { power, .. }
            | Step::RecordBegun { power }
            | Step::ClosePower(Handled { id: power, .. })
            | Step::Assign { power, .. } => power.into(),
            Step::Kill { container, .. }
            | Step::CloseInstallLog { container, .. }
            | Step::RecordInterrupted { container, .. }
            | Step::AdoptServer { container }
            | Step::AdoptInstaller { container, .. }
            | Step::RemoveInstaller { container }
            | Step::RemoveServer { container }
            | Step::Attach { container, .. }
            | Step::Stop { container, .. }
            | Step::UpdateLimits { container, .. }
            | Step::RecordStarted { container }
            | Step::EndStart { container }
            | Step::RecordCrash { crash: Crash { container, .. }, .. } => container.into(),
            Step::Accept
            | Step::TakeInstallSlot
            | Step::ReleaseInstallSlot
            | Step::TakeStartSlot { .. }
            | Step::ReleaseStartSlot
            | Step::Prepare
            | Step::Quiesce
            | Step::Forget => "".into(),
        }
    }

    /// Its kind.
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

/// For people.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Accept => write!(f, "record the accepted manifest"),
            Step::TakeInstallSlot => write!(f, "take an install slot, if one is free"),
            Step::ReleaseInstallSlot => write!(f, "release the install slot"),
            Step::TakeStartSlot { .. } => write!(f, "take a slot for a start after a boot, if one is free"),
            Step::ReleaseStartSlot => write!(f, "release the slot for a start after a boot"),
            Step::Prepare => write!(f, "create the server's folders and links"),
            Step::StartJob { job, .. } => write!(f, "{job}"),
            Step::WriteScript { token } => write!(f, "write the install script ({token}) and begin its log"),
            Step::CreateInstaller { token } => write!(f, "create the install container ({token})"),
            Step::StartInstaller { container, .. } => write!(f, "start the install container {container:.12}"),
            Step::Kill { container, .. } => write!(f, "send SIGKILL to container {container:.12}"),
            Step::RecordInterrupted { container, .. } => {
                write!(f, "record that the install script in {container:.12} was interrupted; it is run again")
            }
            Step::CloseInstallLog { container, .. } => {
                write!(f, "complete the log of the install container {container:.12}")
            }
            Step::RecordInstall(InstallResult { token, outcome, message, .. }) => {
                write!(f, "record the installation ({token}) as {outcome}: {message}")
            }
            Step::AdoptServer { container } => {
                write!(f, "record that the server is to run: Wings has started container {container:.12}")
            }
            Step::AdoptInstaller { container, .. } => {
                write!(f, "take over the installation that Wings has begun in container {container:.12}")
            }
            Step::RemoveInstaller { container } => write!(f, "remove the install container {container:.12}"),
            Step::RemoveServer { container } => write!(f, "remove the server's container {container:.12}"),
            Step::CreateServer { token } => write!(f, "create the server's container ({token})"),
            Step::Assign { container, power } => {
                write!(f, "record that container {container:.12} serves the power request {power}")
            }
            Step::StartServer { container, .. } => write!(f, "attach to container {container:.12} and start it"),
            Step::Attach { container, .. } => write!(f, "attach to the running container {container:.12}"),
            Step::Stop { container, method: StopMethod::Kill, .. } => write!(f, "kill container {container:.12}"),
            Step::Stop { container, method, grace } => {
                write!(f, "stop container {container:.12} {method}; SIGKILL after {} s", grace.as_secs())
            }
            Step::UpdateLimits { container, .. } => write!(f, "apply the new limits to container {container:.12}"),
            Step::RecordBegun { power } => write!(f, "record that the start ({power}) has begun"),
            Step::RecordStarted { container } => {
                write!(f, "record that the start-up in container {container:.12} has finished")
            }
            Step::EndStart { container } => {
                write!(f, "record that the start in container {container:.12} is over, though its end was not seen")
            }
            Step::RecordCrash { crash, handled } => {
                write!(f, "record a crash of container {:.12}: {}", crash.container, handled.message)
            }
            Step::ClosePower(Handled { id, message, .. }) => {
                write!(f, "record that the power request {id} was handled: {message}")
            }
            Step::Quiesce => write!(f, "end the server's jobs and detach its terminal"),
            Step::Forget => write!(f, "remove the server's record"),
        }
    }
}

/// The fields of each step, and its sentence as `text`.
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
