//! Background jobs: their kinds, and what a job is for.

#![allow(missing_docs)]

use serde::{Serialize, Serializer};
use strum::Display;
use uuid::Uuid;

use crate::model::Role;

/// What can run in the background, and its text for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Display)]
#[serde(rename_all = "camelCase")]
pub enum JobKind {
    /// Fetch the server's configuration from the panel.
    #[strum(to_string = "ask the panel for the newest configuration")]
    Sync,
    /// Fetch the install script from the panel.
    #[strum(to_string = "ask the panel for the install script")]
    Script,
    /// Make an image available; several may run at once.
    #[strum(to_string = "make the image available (pull it where the policy says so)")]
    Image,
    /// Count the bytes of the server's files.
    #[strum(to_string = "count the bytes of the server's files")]
    Usage,
    /// Put the server's files under a project quota.
    #[strum(to_string = "put the server's files under the project quota of its disk limit")]
    Quota,
    /// Write the egg's values into the server's configuration files.
    #[strum(to_string = "write the egg's values into the server's configuration files")]
    ConfigFiles,
    /// Set the owner of the server's files.
    #[strum(to_string = "set the owner of the server's files")]
    Permissions,
    /// Write the installer's output into its log.
    #[strum(to_string = "follow the installer's output into the install log")]
    InstallLog,
    /// Report to the panel what it does not know.
    #[strum(to_string = "report to the panel what it does not know yet")]
    Report,
    /// Remove the server's files.
    #[strum(to_string = "remove the server's files")]
    Removal,
    /// Make a backup.
    #[strum(to_string = "make a backup")]
    Backup,
    /// Send the commands that follow a backup.
    #[strum(to_string = "send the console commands that follow a backup")]
    BackupRelease,
    /// Remove the archive of a backup.
    #[strum(to_string = "remove the archive of a backup")]
    BackupRemoval,
    /// Read the archive of a backup and compare it with the record.
    #[strum(to_string = "read the archive of a backup and compare it with the record")]
    BackupVerification,
    /// Replace the server's files by those of a backup.
    #[strum(to_string = "restore a backup")]
    Restore,
    /// Remove the files that a restore has replaced.
    #[strum(to_string = "remove the files that a restore has replaced")]
    FormerFiles,
    /// Send the server to another node, or end what was received of one.
    #[strum(to_string = "transfer the server")]
    Transfer,
    /// Report the end of a backup, restore or transfer to the panel.
    #[strum(to_string = "report the end of an operation to the panel")]
    OperationReport,
}

impl JobKind {
    /// Whether what such a job brings is for one start and is brought again for the next one.
    pub fn belongs_to_start(self) -> bool {
        matches!(self, JobKind::Sync | JobKind::ConfigFiles | JobKind::Image | JobKind::Permissions)
    }

    /// Whether such a job asks the panel.
    pub fn asks_panel(self) -> bool {
        matches!(self, JobKind::Sync | JobKind::Script | JobKind::Report | JobKind::OperationReport)
    }

    /// Whether what such a job has done is in the record: once it has ended, nothing of it counts.
    pub fn is_recorded(self) -> bool {
        matches!(
            self,
            JobKind::Report
                | JobKind::Backup
                | JobKind::BackupRelease
                | JobKind::BackupRemoval
                | JobKind::BackupVerification
                | JobKind::Restore
                | JobKind::FormerFiles
                | JobKind::Transfer
                | JobKind::OperationReport
        )
    }
}

/// What a job is for. Its result counts for nothing else. The texts are those in plans and in `syncedFor` of the record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Display)]
#[strum(serialize_all = "lowercase")]
pub enum Subject {
    /// One attempt to start: a power request, after its latest crash.
    #[strum(to_string = "{0}")]
    Start(String),
    /// An installation, by its token.
    #[strum(to_string = "{0}")]
    Install(String),
    /// The image of a container for a start or an installation, which needs two: another image is another job.
    #[strum(to_string = "{of} {role} {image}")]
    Image { of: Box<Subject>, role: Role, image: String },
    /// A container, by the runtime's id.
    #[strum(to_string = "{0}")]
    Container(String),
    /// The disk limit, whatever a start waits for.
    #[strum(to_string = "watch")]
    DiskLimit,
    /// The result of an installation, by its token.
    #[strum(to_string = "install:{0}")]
    InstallResult(String),
    /// A transfer, by its token.
    #[strum(to_string = "transfer:{0}")]
    Transfer(Uuid),
    /// A backup.
    #[strum(to_string = "backup:{0}")]
    Backup(Uuid),
    /// A restore, by its token.
    #[strum(to_string = "restore:{0}")]
    Restore(Uuid),
    /// The state of the server.
    State,
    /// The deletion of the server.
    Deletion,
}

impl Subject {
    /// An image that this needs.
    pub fn image(&self, role: Role, image: &str) -> Self {
        Subject::Image { of: Box::new(self.clone()), role, image: image.to_owned() }
    }

    /// Whether this is the server's image, for a start.
    pub fn is_image_of_start(&self) -> bool {
        matches!(self, Subject::Image { of, role: Role::Server, .. } if matches!(**of, Subject::Start(_)))
    }

    /// Whether a job for this one ends a job of the same kind for `other`.
    pub fn replaces(&self, other: &Subject) -> bool {
        match (self, other) {
            (Subject::Image { of, role, .. }, Subject::Image { of: other_of, role: other_role, .. }) => {
                of != other_of || role == other_role
            }
            // Several may run, and several results may wait for the panel.
            (Subject::Backup(_) | Subject::Restore(_) | Subject::Transfer(_), other) => self == other,
            _ => true,
        }
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
