//! What can run in the background: kinds of jobs, and what a job is for.

use std::fmt;

use serde::{Serialize, Serializer};

/// What can run in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum JobKind {
    /// Fetch the server's configuration from the panel.
    Sync,
    /// Fetch the install script from the panel.
    Script,
    /// Have the server's image.
    ServerImage,
    /// Have the installer's image.
    InstallerImage,
    /// Count the bytes of the server's files.
    Usage,
    /// Give the server's files to their user.
    Permissions,
    /// Write the installer's output into its log.
    InstallLog,
    /// Tell the panel what it does not know.
    Report,
    /// Remove the server's files.
    Removal,
}

/// As people read it in a plan.
impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JobKind::Sync => "ask the panel for the newest configuration",
            JobKind::Script => "ask the panel for the install script",
            JobKind::ServerImage => "have the server's image (pull it where the policy says so)",
            JobKind::InstallerImage => "have the installer's image (pull it where the policy says so)",
            JobKind::Usage => "count the bytes of the server's files",
            JobKind::Permissions => "give the server's files to their user",
            JobKind::InstallLog => "follow the installer's output into the install log",
            JobKind::Report => "tell the panel what it does not know yet",
            JobKind::Removal => "remove the server's files",
        })
    }
}

/// What a job is for. Its result counts for nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// One attempt to start: a power request, after its latest crash.
    Start(String),
    /// An installation, by its token.
    Install(String),
    /// An image for a start or an installation: another image is another job.
    Image {
        /// What needs it.
        of: Box<Subject>,
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
    pub fn image(&self, image: &str) -> Self {
        Subject::Image { of: Box::new(self.clone()), image: image.to_owned() }
    }
}

/// As in plans and in `syncedFor` of the record.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Start(id) | Subject::Install(id) | Subject::Container(id) => f.write_str(id),
            Subject::Image { of, image } => write!(f, "{of} {image}"),
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
