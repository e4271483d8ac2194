//! Reasons of conditions, events, and completed requests.
//!
//! A variant's name is its text in `status.yml`, `record.json` and the API. Code compares variants. A text that this release does not
//! know is read as [`Reason::Unrecognized`], so that files of a newer release stay readable.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

/// A reason in CamelCase, as in Kubernetes.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    Display,
    EnumString,
    IntoStaticStr,
)]
#[cfg_attr(test, derive(strum::VariantArray))]
pub enum Reason {
    // `Listed`
    /// The panel no longer lists the server; also an event.
    Parked,

    // `SpecAccepted`
    /// The files of the spec are valid and applied.
    Accepted,
    /// `config.yml` or `override.yml` cannot be read, parsed or validated; the last good spec stays applied.
    SpecInvalid,
    /// `config.yml` is gone; the last good spec stays applied and nothing is deleted.
    SpecMissing,
    /// `record.json` exists and cannot be read; nothing is done with the server.
    RecordUnreadable,

    // `Installed`, while an installation is pending
    /// The state folder cannot be written: it is read-only, full, or its disk fails.
    CannotRecord,
    /// An installation is about to begin.
    Pending,
    /// The server is stopped before its installation.
    Stopping,
    /// The panel is asked for the configuration or the install script.
    Fetching,
    /// An installation is requested and the manifest has no script.
    NoScript,
    /// The installation waits for one of the node's install slots.
    Queued,
    /// The engine did not make the server's container for the installation; it is tried again.
    ContainerBackOff,
    /// The install script has ended; its log and its result are being recorded.
    Harvesting,
    /// An installer of another daemon runs; the server starts when it has ended.
    ForeignInstaller,

    // `Installed`, results of installations
    /// The install script has ended, and its exit code does not count as a failure.
    Completed,
    /// The installation had no script to run.
    Skipped,
    /// The installation was ended by a request.
    Aborted,
    /// The install script was ended at its time limit.
    TimedOut,
    /// The install script has ended with an exit code that counts as a failure.
    ScriptFailed,
    /// An image of the installation could not be pulled in several attempts, or cannot be pulled at all.
    ImagePullFailed,
    /// The engine or the host has ended the install script: it runs again, or has failed where that happened too often.
    Interrupted,
    /// `record.json` was damaged: the request is taken for completed.
    RecordLost,

    // `ImageReady`
    /// The images are there; of `ContainerReady`: the container has the limits of the spec.
    Ready,
    /// An image is being pulled.
    Pulling,
    /// An image could not be pulled; it is tried again.
    ImagePullBackOff,
    /// The image reference is invalid or was refused; it is tried again when the spec changes.
    InvalidImage,

    // `ContainerReady`
    /// The engine refused to make, start or remove the container; it is tried again.
    Rejected,
    /// The engine refused changed limits of the running container.
    LimitsRejected,
    /// The server's files were replaced while it ran; it still has the former ones.
    FilesReplaced,
    /// Another container of the server runs on the same files; it is removed.
    DuplicateContainer,
    /// The path of a mount does not respond; the server starts when it does.
    MountUnresponsive,
    /// The container engine does not respond; also of `Deleting`.
    RuntimeUnreachable,

    // `BackedUp`; the results are also events
    /// A backup is being made.
    BackingUp,
    /// A backup is complete.
    BackupCompleted,
    /// A backup could not be made.
    BackupFailed,
    /// The archive of a backup is damaged or missing.
    BackupDamaged,
    /// The archive of a backup was read, and is the one that was made.
    BackupVerified,
    /// A console command around a backup could not be sent, or its answer did not come in time.
    BackupHookFailed,
    /// The server's own list of files that backups leave out cannot be used.
    IgnoreListInvalid,
    /// A backup was removed.
    BackupRemoved,
    /// The panel no longer waits for the result of a backup or restore.
    OperationReportRejected,

    // `Transferred`; also of `Running`, and events
    /// The server is being transferred to or from another node, or waits there for its deletion here.
    Transferring,
    /// The server was transferred.
    TransferCompleted,
    /// The transfer has failed.
    TransferFailed,

    // `Restored`; also of `Running`, and events
    /// A backup is being restored; the server does not start before its end.
    Restoring,
    /// The server's files are those of a backup.
    RestoreCompleted,
    /// A backup could not be restored.
    RestoreFailed,
    /// The files from before a restore are back.
    RestoreUndone,

    // `UpToDate`
    /// The running container was created from the current manifest.
    Current,
    /// Fields of the manifest that need another container have changed: a restart applies them.
    RestartRequired,

    // `LimitsEnforced`
    /// The kernel of this host cannot enforce a limit.
    NotSupported,

    // `Running`
    /// A person has paused the container.
    Paused,
    /// The container runs and its start-up has not finished, or it is being made and started.
    Starting,
    /// The server runs; of `Installed`: the install script runs.
    Running,
    /// An installation is pending, or an installer still runs.
    Installing,
    /// The server is offline as requested.
    Stopped,
    /// The latest installation has failed: a server without a panel does not start before another one.
    InstallFailed,
    /// A request to stop is being carried out.
    StopRequested,
    /// The server is stopped because a start follows.
    RestartRequested,
    /// The server is suspended.
    Suspended,
    /// The server's files exceed its disk limit: it is stopped, or does not start.
    DiskLimitExceeded,
    /// The result of the installation is reported to the panel before the server starts.
    Reporting,
    /// The panel is asked for the newest configuration before the start.
    Syncing,
    /// The start after a boot of the host or a restart of the engine waits for one of the node's slots.
    StartQueued,
    /// The server's files are counted before the start.
    CheckingDisk,
    /// The egg's values are written into the server's configuration files before the start.
    WritingConfigFiles,
    /// The server's files are given to their user before the start.
    FixingPermissions,
    /// The server's files could not be given to their user; it is tried again.
    PermissionsFailed,
    /// The server's folders cannot be made; also of `Installed`.
    FoldersInTheWay,
    /// The engine refused the container: the start is tried again, or the installation has failed.
    ContainerRejected,
    /// The panel refused to give the configuration or the script; also of `Installed`.
    PanelRejected,
    /// The server ended by itself with exit code 0, which the node does not count as a crash.
    Exited,
    /// The server crashed and is started again.
    Crashed,
    /// The server crashed again within the crash timeout and stays offline, or waits for the delay of its restart policy.
    CrashLoop,
    /// The server crashed and stays offline, since its restart policy is `Never`.
    NotRestarted,
    /// The server crashed and stays offline, since crash detection is off.
    CrashDetectionDisabled,
    /// Wings ran the node since: what it left running is taken over, and what was stopped there is no longer asked to run.
    TakenOver,
    /// A power request expired before it could begin.
    Expired,
    /// The server was never requested to run; of `Installed`: no installation was ever requested.
    NotWanted,
    /// A pass failed by a bug of the daemon; it is tried again.
    InternalError,

    // `DiskWithinLimit`
    /// The server's files fit into its disk limit.
    Within,
    /// The server's files exceed its disk limit.
    Exceeded,
    /// The server's files could not be counted.
    CannotCount,

    // `DiskLimitEnforced`
    /// A project quota of the file system enforces it.
    ProjectQuota,
    /// alula counts the files: its own writes at once, what the server writes in measurements.
    Counted,
    /// alula counts its own writes only.
    NotCounted,
    /// The server's files are being put under a project quota; of `Running` and `Installed`: the server waits for that.
    Assigning,
    /// The server's files cannot be put under a project quota; it is tried again, and alula counts the files.
    QuotaFailed,
    /// The node is to use project quotas, and the file system has none; alula counts the files.
    QuotaUnavailable,

    // `PanelReachable`, `PanelNotified`
    /// The panel did not answer before a start; the configuration on disk is used.
    SpecStale,
    /// The panel does not answer; it is tried again. Of `PanelReachable`, `PanelNotified` and `Installed`.
    PanelAway,
    /// The panel has acknowledged every report.
    Reported,

    // `Deleting`
    /// The deletion is being carried out.
    Requested,
    /// The server's files could not be removed; it is tried again.
    FilesInTheWay,

    // Events
    /// The server's state changed.
    StateChanged,
    /// A step failed for the first time.
    StepFailed,
    /// A changed spec was accepted.
    SpecAccepted,
    /// A sync with the panel replaced a hand edit in `config.yml`.
    HandEditUndone,
    /// A part of the spec is left out of the container.
    LeftOut,
    /// A configuration file, or a part of it, was not updated before a start.
    ConfigFileSkipped,
    /// The limits of the running container were changed.
    LimitsUpdated,
    /// An install script was started.
    InstallStarted,
    /// An install script was ended by the engine or the host; it runs again, or has failed where that happened too often.
    InstallInterrupted,
    /// The panel refused the result of an installation.
    InstallReportRejected,
    /// An installation has ended: [`Reason::Completed`].
    InstallCompleted,
    /// An installation has ended: [`Reason::Skipped`].
    InstallSkipped,
    /// An installation has ended: [`Reason::Aborted`].
    InstallAborted,
    /// An installation has ended: [`Reason::TimedOut`].
    InstallTimedOut,
    /// An installation has ended: [`Reason::ScriptFailed`].
    InstallScriptFailed,
    /// An installation has ended: [`Reason::ImagePullFailed`].
    InstallImagePullFailed,
    /// An installation has ended: [`Reason::ContainerRejected`].
    InstallContainerRejected,
    /// An installation has ended: [`Reason::PanelRejected`].
    InstallPanelRejected,

    /// Read from a file or an answer of another release, which has a reason that this one does not know.
    #[serde(other)]
    Unrecognized,
}

impl Reason {
    /// The reason as text.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether this reason of `Running` needs the attention of a person: users read it on the server's console.
    pub fn is_for_users(self) -> bool {
        matches!(
            self,
            Reason::Suspended
                | Reason::InstallFailed
                | Reason::DiskLimitExceeded
                | Reason::PanelRejected
                | Reason::PermissionsFailed
                | Reason::FoldersInTheWay
                | Reason::ImagePullBackOff
                | Reason::InvalidImage
                | Reason::MountUnresponsive
                | Reason::ContainerRejected
                | Reason::RuntimeUnreachable
                | Reason::Expired
                | Reason::InternalError
        )
    }

    /// The reason of the event for an installation with this result.
    pub fn of_install_event(self) -> Self {
        format!("Install{self}").parse().unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;
    use crate::model::Record;

    #[test]
    fn every_reason_is_read_back_from_its_text() {
        for reason in Reason::VARIANTS {
            let text = reason.as_str();
            assert_eq!(serde_json::to_value(reason).unwrap(), text, "files and people see the same text");
            assert_eq!(reason.to_string(), text);
            assert_eq!(serde_json::from_value::<Reason>(text.into()).unwrap(), *reason);
            assert_eq!(crate::yaml::parse::<Reason>(&crate::yaml::to_string(reason).unwrap()).unwrap(), *reason);
            assert!(text.starts_with(|first: char| first.is_ascii_uppercase()) && !text.contains('_'), "{text}");
        }
    }

    #[test]
    fn a_reason_of_another_release_does_not_make_a_file_unreadable() {
        let record = r#"{"generation": 7, "power": {"handled":
            {"sequence": 1, "id": "a", "verb": "stop", "reason": "MoonInTheWrongPhase", "message": "wait", "at": "2026-01-01T00:00:00Z"}}}"#;
        let record: Record = serde_json::from_str(record).unwrap();
        let handled = record.power.handled.unwrap();
        assert_eq!((record.generation, handled.reason, handled.message.as_str()), (7, Reason::Unrecognized, "wait"));
    }

    #[test]
    fn events_of_installations_name_the_result() {
        let renamed = |reason: &&Reason| reason.of_install_event() != **reason;
        let results: Vec<&Reason> = Reason::VARIANTS.iter().filter(renamed).collect();
        assert_eq!(results.len(), 9, "{results:?}");
        for result in results {
            assert_eq!(result.of_install_event().as_str(), format!("Install{result}"));
        }
    }
}
