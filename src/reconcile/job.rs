//! Background jobs: their kinds, and what a job is for.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::model::Role;

/// What can run in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum JobKind {
    /// Fetch the server's configuration from the panel.
    Sync,
    /// Fetch the install script from the panel.
    Script,
    /// Make an image available; several may run at once.
    Image,
    /// Count the bytes of the server's files.
    Usage,
    /// Set the owner of the server's files.
    Permissions,
    /// Write the installer's output into its log.
    InstallLog,
    /// Report to the panel what it does not know.
    Report,
    /// Remove the server's files.
    Removal,
}

impl JobKind {
    /// Whether what such a job brings is for one start and is brought again for the next one.
    pub fn belongs_to_start(self) -> bool {
        matches!(self, JobKind::Sync | JobKind::Image | JobKind::Permissions)
    }

    /// Whether such a job asks the panel.
    pub fn asks_panel(self) -> bool {
        matches!(self, JobKind::Sync | JobKind::Script | JobKind::Report)
    }
}

/// For people.
impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JobKind::Sync => "ask the panel for the newest configuration",
            JobKind::Script => "ask the panel for the install script",
            JobKind::Image => "make the image available (pull it where the policy says so)",
            JobKind::Usage => "count the bytes of the server's files",
            JobKind::Permissions => "set the owner of the server's files",
            JobKind::InstallLog => "follow the installer's output into the install log",
            JobKind::Report => "report to the panel what it does not know yet",
            JobKind::Removal => "remove the server's files",
        })
    }
}

/// What a job is for. Its result counts for nothing else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// One attempt to start: a power request, after its latest crash.
    Start(String),
    /// An installation, by its token.
    Install(String),
    /// An image for a start or an installation: another image is another job.
    Image {
        /// The start or the installation.
        of: Box<Subject>,
        /// Whose image it is: an installation needs two.
        role: Role,
        /// The reference.
        image: String,
    },
    /// A container, by the runtime's id.
    Container(String),
    /// The disk limit of a running server; no start waits for this.
    DiskLimit,
    /// The result of an installation, by its token.
    InstallResult(String),
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

    /// Whether a job for this one ends a job of the same kind for `other`.
    pub fn replaces(&self, other: &Subject) -> bool {
        match (self, other) {
            (Subject::Image { of, role, .. }, Subject::Image { of: other_of, role: other_role, .. }) => {
                of != other_of || role == other_role
            }
            _ => true,
        }
    }
}

/// As in plans and in `syncedFor` of the record.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Start(id) | Subject::Install(id) | Subject::Container(id) => f.write_str(id),
            Subject::Image { of, role, image } => write!(f, "{of} {} {image}", role.as_str()),
            Subject::DiskLimit => f.write_str("watch"),
            Subject::InstallResult(token) => write!(f, "install:{token}"),
            Subject::State => f.write_str("state"),
            Subject::Deletion => f.write_str("deletion"),
        }
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
