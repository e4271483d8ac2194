//! What a user may do with a server's files. Source: SFTP, "Operations".

/// A permission of the panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Permission {
    /// List directories, see attributes.
    Read = 1,
    /// Read files.
    ReadContent = 2,
    /// Make files, directories and links.
    Create = 4,
    /// Write and rename existing files, change attributes.
    Update = 8,
    /// Remove files and directories.
    Delete = 16,
}

/// A set of permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Permissions(u8);

impl Permissions {
    /// The permissions with these names; others are not about files.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(bits).fold(0, |all, bits| all | bits))
    }

    /// Whether the set has a permission.
    pub fn allow(self, permission: Permission) -> bool {
        self.0 & permission as u8 != 0
    }
}

fn bits(name: &str) -> u8 {
    match name {
        "*" => u8::MAX,
        "file.read" => Permission::Read as u8,
        "file.read-content" => Permission::ReadContent as u8,
        "file.create" => Permission::Create as u8,
        "file.update" => Permission::Update as u8,
        "file.delete" => Permission::Delete as u8,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_read_by_name() {
        use Permission::{Create, Delete, Read, ReadContent, Update};
        let all = [Read, ReadContent, Create, Update, Delete];
        let allowed = |names: &[&str]| {
            let permissions = Permissions::named(names.iter().copied());
            all.map(|permission| permissions.allow(permission))
        };
        assert_eq!(allowed(&[]), [false; 5]);
        assert_eq!(allowed(&["*"]), [true; 5]);
        assert_eq!(allowed(&["file.read", "file.sftp", "control.start"]), [true, false, false, false, false]);
        assert_eq!(allowed(&["file.read-content", "file.delete"]), [false, true, false, false, true]);
        assert_eq!(allowed(&["file.create", "file.update"]), [false, false, true, true, false]);
        assert_eq!(allowed(&["file.*", "FILE.READ", "file"]), [false; 5]);
    }
}
