//! What the kernel does about a server's disk limit.

/// The project quota of a server's files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Quota {
    /// The node does not use them.
    #[default]
    Off,
    /// The node wants them, and the file system of the server's files does not have them: why.
    Unavailable(String),
    /// Not all of the server's files belong to its project yet.
    Unassigned,
    /// All of the server's files belong to its project.
    Assigned {
        /// The project's id.
        project: u32,
        /// Its hard limit in bytes.
        limit: Option<u64>,
    },
}

impl Quota {
    /// Whether the kernel counts the server's files.
    pub fn is_assigned(&self) -> bool {
        matches!(self, Quota::Assigned { .. })
    }
}
