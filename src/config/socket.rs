//! Who may use the socket of the local API. Write permission on the file is enough to control every server of the node.

use super::Problem;
use super::file::AlulaFile;
use super::lenient::Lenient;

/// The longest path of a unix socket, in bytes.
pub const MAX_SOCKET_PATH: usize = 107;

/// Mode without and with a group.
const OWN: u32 = 0o600;
const OF_GROUP: u32 = 0o660;

/// Group and mode of the socket's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketAccess {
    /// The group as the file names it: its name or number. `None`: the group of the daemon.
    pub group: Option<String>,
    /// The permissions.
    pub mode: u32,
}

impl SocketAccess {
    pub(super) fn resolve(alula: &AlulaFile, lenient: &mut Lenient) -> Result<Self, Problem> {
        let group = alula.socket_group.as_deref().map(str::trim).filter(|group| !group.is_empty()).map(String::from);
        let mode = match alula.socket_mode.as_deref().map(str::trim).filter(|mode| !mode.is_empty()) {
            None if group.is_some() => OF_GROUP,
            None => OWN,
            Some(text) => octal(text).ok_or_else(|| {
                let message = format!("is {text:?}: expected an octal mode from 0600 to 0666, such as 0660");
                Problem::new("alula.socket_mode", message)
            })?,
        };
        if mode & 0o006 != 0 {
            let message = "lets every user of this host control the node; 0660 with `alula.socket_group` limits that";
            lenient.note("alula.socket_mode", message);
        }
        Ok(Self { group, mode })
    }
}

/// The owner reads and writes, and no class executes.
fn octal(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = u32::from_str_radix(digits, 8).ok().filter(|_| !digits.starts_with('+'))?;
    (mode & !0o666 == 0 && mode & OWN == OWN).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(group: Option<&str>, mode: Option<&str>) -> (Result<SocketAccess, Problem>, usize) {
        let alula = AlulaFile {
            socket_group: group.map(String::from),
            socket_mode: mode.map(String::from),
            ..AlulaFile::default()
        };
        let mut lenient = Lenient::default();
        let access = SocketAccess::resolve(&alula, &mut lenient);
        (access, lenient.0.len())
    }

    #[test]
    fn the_mode_is_octal_and_never_executable() {
        for (group, mode, expected) in [
            (None, None, Some(0o600)),
            (Some("games"), None, Some(0o660)),
            (Some(" "), Some(""), Some(0o600)),
            (Some("games"), Some("0600"), Some(0o600)),
            (None, Some("660"), Some(0o660)),
            (None, Some("0o640"), Some(0o640)),
            (None, Some("0666"), Some(0o666)),
            (None, Some("0777"), None),
            (None, Some("0060"), None),
            (None, Some("4600"), None),
            (None, Some("+660"), None),
            (None, Some("rw-rw----"), None),
        ] {
            let (access, warnings) = access(group, mode);
            assert_eq!(access.as_ref().ok().map(|access| access.mode), expected, "{group:?} {mode:?}");
            assert_eq!(warnings, usize::from(mode == Some("0666")), "{mode:?}");
            if let Err(problem) = access {
                assert_eq!(problem.key, "alula.socket_mode");
            }
        }
    }
}
