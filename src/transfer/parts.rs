//! The names of a form's parts. Pure.

use uuid::Uuid;

/// What a part of a form has. Several names mean the same: those of Pelican, Pterodactyl and Calagopus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartName {
    /// The archive of the server's files.
    Archive,
    /// The SHA-256 of its bytes.
    ArchiveChecksum,
    /// The archive of a backup.
    Backup(Uuid),
    /// The SHA-256 of its bytes.
    BackupChecksum(Uuid),
    /// The log of the latest installation.
    InstallLog,
    /// Something that this release does not know, which is read and dropped.
    Unknown,
}

/// A part whose name no node sends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the form has a part with the invalid name {0:?}")]
pub struct InvalidPart(String);

/// The longest part of an invalid name that is shown, in characters.
const SHOWN: usize = 100;
/// What the name of a backup's archive ends with.
const EXTENSION: &str = ".tar.gz";

impl PartName {
    /// Reads the names of a part and of its file.
    ///
    /// # Errors
    /// One of them is a path, or it names a backup by something that is no UUID.
    pub fn read(name: &str, file_name: Option<&str>) -> Result<Self, InvalidPart> {
        let invalid = |name: &str| InvalidPart(name.chars().take(SHOWN).collect());
        let is_path = |name: &&str| name.contains(['/', '\\', '\0']) || name.contains("..");
        if let Some(path) = [Some(name), file_name].into_iter().flatten().find(is_path) {
            return Err(invalid(path));
        }
        let backup = |text: &str| {
            let text = text.strip_suffix(EXTENSION).unwrap_or(text);
            let plain = Uuid::try_parse(text).ok().filter(|id| id.hyphenated().to_string().eq_ignore_ascii_case(text));
            plain.ok_or_else(|| invalid(name))
        };
        // The longer prefixes first: one is the beginning of another.
        for prefix in ["checksum_backup_", "backup-checksum-"] {
            if let Some(rest) = name.strip_prefix(prefix) {
                return backup(rest).map(Self::BackupChecksum);
            }
        }
        for prefix in ["backup_", "backup-"] {
            if let Some(rest) = name.strip_prefix(prefix) {
                return backup(rest).map(Self::Backup);
            }
        }
        Ok(match name {
            "archive" => Self::Archive,
            "checksum_archive" | "checksum" => Self::ArchiveChecksum,
            "install_logs" | "install-logs" => Self::InstallLog,
            _ => Self::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0f0e0d0c-0b0a-4000-8000-00000000000a";

    #[test]
    fn the_names_of_all_daemons_are_known() {
        let id = ID.parse().unwrap();
        for (name, expected) in [
            ("archive".to_owned(), PartName::Archive),
            ("checksum_archive".to_owned(), PartName::ArchiveChecksum),
            ("checksum".to_owned(), PartName::ArchiveChecksum),
            ("install_logs".to_owned(), PartName::InstallLog),
            ("install-logs".to_owned(), PartName::InstallLog),
            (format!("backup_{ID}.tar.gz"), PartName::Backup(id)),
            (format!("backup_{}.tar.gz", ID.to_uppercase()), PartName::Backup(id)),
            (format!("backup-{ID}"), PartName::Backup(id)),
            (format!("checksum_backup_{ID}.tar.gz"), PartName::BackupChecksum(id)),
            (format!("backup-checksum-{ID}"), PartName::BackupChecksum(id)),
            ("something".to_owned(), PartName::Unknown),
            (String::new(), PartName::Unknown),
        ] {
            assert_eq!(PartName::read(&name, None), Ok(expected), "{name}");
        }
    }

    #[test]
    fn paths_and_other_backups_are_rejected() {
        for (name, file) in [
            ("backup_", None),
            ("backup_x.tar.gz", None),
            ("backup_../../etc/passwd", None),
            ("backup_..", None),
            ("backup-checksum-..", None),
            ("checksum_backup_0f0e0d0c0b0a40008000000000000000a.tar.gz", None),
            ("backup_0f0e0d0c0b0a4000800000000000000a.tar.gz", None),
            ("../archive", None),
            ("a/b", None),
            ("a\\b", None),
            ("archive", Some("../../archive.tar.gz")),
            ("archive", Some("/etc/passwd")),
        ] {
            assert!(PartName::read(name, file).is_err(), "{name} {file:?}");
        }
        assert_eq!(PartName::read("archive", Some("archive.tar.gz")), Ok(PartName::Archive));
    }
}
