//! `system.sftp` on this host.

use super::file::SftpFile;
use super::lenient::{Lenient, within};
use super::panel::bindable;

/// The port of Wings.
const PORT: u16 = 2022;

/// The SFTP service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpConfig {
    /// Host and port to listen on, for `TcpListener::bind`.
    pub address: String,
    /// Whether changes are rejected.
    pub read_only: bool,
    /// Whether passwords are rejected.
    pub key_only: bool,
}

impl SftpConfig {
    /// An invalid address is replaced: without SFTP a node still runs its servers.
    pub(super) fn resolve(file: &SftpFile, lenient: &mut Lenient) -> Self {
        let host = bindable("system.sftp.bind_address", &file.bind_address).unwrap_or_else(|problem| {
            lenient.note(problem.key, format!("{}; 0.0.0.0 is used", problem.message));
            "0.0.0.0".to_owned()
        });
        let key = "system.sftp.bind_port";
        let port = within::<u16>(key, file.bind_port, 1..=65535, "as a port number").unwrap_or_else(|problem| {
            lenient.note(problem.key, format!("{}; {PORT} is used", problem.message));
            PORT
        });
        Self { address: format!("{host}:{port}"), read_only: file.read_only, key_only: file.key_only }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_address_is_replaced_with_a_note() {
        for (host, port, address, notes) in [
            ("0.0.0.0", 2022, "0.0.0.0:2022", 0),
            ("", 22, "0.0.0.0:22", 0),
            ("::1", 2022, "[::1]:2022", 0),
            ("ssh://x", 0, "0.0.0.0:2022", 2),
            ("10.0.0.1", 99_999, "10.0.0.1:2022", 1),
        ] {
            let mut lenient = Lenient::default();
            let file = SftpFile { bind_address: host.into(), bind_port: port, ..SftpFile::default() };
            assert_eq!(SftpConfig::resolve(&file, &mut lenient).address, address);
            assert_eq!(lenient.0.len(), notes, "{host} {port}");
        }
    }
}
