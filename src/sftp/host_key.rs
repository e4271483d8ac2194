//! The host key: one ed25519 key in a file, which clients remember. A file of Wings is used as it is.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{Algorithm, PrivateKey, decode_secret_key};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::atomic;

/// Modes of the file and its folder, as Wings has them.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o755;
/// What precedes the 32 bytes of an ed25519 key in PKCS#8, version 1.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Why there is no host key.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// The file cannot be read or written.
    #[error("the SFTP host key {} cannot be {action}: {source}", path.display())]
    Disk { action: &'static str, path: PathBuf, source: io::Error },
    /// Another file is never made in its place: clients would refuse to connect.
    #[error("{} is no host key of SFTP ({cause}): restore it, or remove it to get a new one", path.display())]
    Invalid { path: PathBuf, cause: String },
}

/// Reads the host key. A missing one is created.
///
/// # Errors
/// The file cannot be read or created, or it has no key.
pub fn load_or_create(path: &Path) -> Result<PrivateKey, HostKeyError> {
    let disk = |action| move |source| HostKeyError::Disk { action, path: path.to_owned(), source };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let text = new_key().map_err(disk("created"))?;
            write(path, &text).map_err(disk("created"))?;
            text
        }
        Err(error) => return Err(disk("read")(error)),
    };
    let invalid = |cause: String| HostKeyError::Invalid { path: path.to_owned(), cause };
    let key = decode_secret_key(&text, None).map_err(|error| invalid(error.to_string()))?;
    match key.algorithm() {
        Algorithm::Ed25519 => Ok(key),
        other => Err(invalid(format!("its type is {other}, and not ssh-ed25519"))),
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        folder.parent().map_or(Ok(()), fs::create_dir_all)?;
        match atomic::create_dir(folder, FOLDER_MODE) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
    }
    Ok(atomic::write_file(path, text.as_bytes(), FILE_MODE)?)
}

/// A random key as the text of its file.
fn new_key() -> io::Result<String> {
    let mut seed = [0; Ed25519Keypair::BYTE_SIZE / 2];
    random(&mut seed)?;
    let encoded = STANDARD.encode([&PKCS8_PREFIX[..], &seed].concat());
    Ok(format!("-----BEGIN PRIVATE KEY-----\n{encoded}\n-----END PRIVATE KEY-----\n"))
}

/// Fills a buffer with random bytes of the kernel.
///
/// # Errors
/// The kernel has none.
pub fn random(to: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < to.len() {
        filled += getrandom(&mut to[filled..], GetRandomFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_missing_key_is_created_once_in_the_format_of_wings() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volumes/.sftp/id_ed25519");
        let key = load_or_create(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.len(), 119);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, FILE_MODE);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, FOLDER_MODE);
        assert_eq!(load_or_create(&path).unwrap().public_key(), key.public_key());
        assert_ne!(load_or_create(&folder.path().join("other/.sftp/key")).unwrap().public_key(), key.public_key());
    }

    #[test]
    fn a_key_of_wings_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id_ed25519");
        // The first test vector of RFC 8032.
        let text = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
                    -----END PRIVATE KEY-----\n";
        fs::write(&path, text).unwrap();
        let public = load_or_create(&path).unwrap().public_key().key_data().ed25519().unwrap().0;
        assert_eq!(public[..4], [0xd7, 0x5a, 0x98, 0x01]);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_file_that_is_no_key_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id_ed25519");
        for text in ["", "nothing", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            fs::write(&path, text).unwrap();
            let error = load_or_create(&path).unwrap_err().to_string();
            assert!(error.contains("remove it to get a new one"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
