//! The node's file as `alula configure` writes it: the panel's document, over the file that is there.

use std::path::Path;

use serde_json::{Map, Value};

use super::pushed::{keep_certificate, put};
use super::{ConfigError, ConfigFile, HostEnvironment, interpret, read_text};
use crate::atomic;
use crate::config::host::restrict_mode;
use crate::yaml;

/// Mode of the file.
const MODE: u32 = 0o600;

/// Why the file was not written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ConfigureError {
    /// The file that is there, or the one that would be written.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    #[error("the file that is there cannot be changed in place: {0}; move it away, and configure the node again")]
    Unchangeable(#[from] yaml::YamlError),
    #[error(transparent)]
    Disk(#[from] atomic::AtomicError),
}

/// Writes the panel's document of a node, with `remote` as its panel, to the file at `path`. Other keys of a file that is there stay,
/// with their comments. The folder is created if it is missing.
///
/// # Errors
/// See [`ConfigureError`]. Nothing is changed then.
pub fn write_configuration(
    path: &Path,
    document: &Value,
    remote: &str,
    host_environment: HostEnvironment<'_>,
) -> Result<(), ConfigureError> {
    let path = std::path::absolute(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let (text, file) = match read_text(&path) {
        Ok(text) => {
            let file = ConfigFile::parse(&path, &text)?;
            (text, file)
        }
        Err(ConfigError::Missing { .. }) => (String::new(), ConfigFile::default()),
        Err(error) => return Err(error.into()),
    };
    let mut document = document.clone();
    keep_certificate(&file, &mut document);
    document["remote"] = remote.into();
    let mut new = match yaml::parse_value(&text)? {
        Value::Null => Value::Object(Map::new()),
        value => value,
    };
    lay_over(&mut new, &document, String::new());
    let new = yaml::edit::merge(&text, &new)?;
    interpret(path.clone(), &new, host_environment)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(atomic::AtomicError::at("create the folder", folder))?;
    }
    atomic::write_through(&path, new.as_bytes(), MODE, || Ok(()))?;
    restrict_mode(&path).map_err(atomic::AtomicError::at("restrict the mode of", &path))?;
    Ok(())
}

fn lay_over(document: &mut Value, over: &Value, path: String) {
    match over {
        Value::Object(keys) if !keys.is_empty() => {
            for (key, value) in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                lay_over(document, value, path);
            }
        }
        value => put(document, &path, value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;

    fn document() -> Value {
        json!({
            "debug": false, "uuid": "u", "token_id": "id", "token": "secret",
            "api": {"host": "0.0.0.0", "port": 8080, "upload_limit": 100, "ssl": {
                "enabled": true,
                "cert": "/etc/letsencrypt/live/node/fullchain.pem", "key": "/etc/letsencrypt/live/node/privkey.pem",
            }},
            "system": {"data": "/srv/volumes", "sftp": {"bind_port": 2022}},
            "allowed_mounts": ["/mnt"], "remote": "https://other.example.com",
        })
    }

    fn write(folder: &tempfile::TempDir, document: &Value) -> Result<String, ConfigureError> {
        let path = folder.path().join("etc/node.yml");
        let host = HostEnvironment { variables: &|_| None, etc: folder.path() };
        write_configuration(&path, document, "https://panel.example.com", host)?;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        Ok(fs::read_to_string(path).unwrap())
    }

    #[test]
    fn a_new_file_has_all_of_the_panels_document() {
        let folder = tempfile::tempdir().unwrap();
        let text = write(&folder, &document()).unwrap();
        let mut expected = document();
        expected["remote"] = json!("https://panel.example.com");
        assert_eq!(yaml::parse_value(&text).unwrap(), expected);
    }

    #[test]
    fn a_file_that_is_there_keeps_its_other_keys_and_comments() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etc/node.yml");
        fs::create_dir(folder.path().join("etc")).unwrap();
        let old = "# Mine.\ntoken: old # rotated\nsystem:\n  root_directory: /srv # the disk\napi:\n  ssl: {cert: /own/c, key: /own/k}\n\
                   alula: {pull: {policy: never}}\n";
        fs::write(&path, old).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let text = write(&folder, &document()).unwrap();
        for kept in
            ["# Mine.\ntoken: secret # rotated\n", "root_directory: /srv # the disk\n", "cert: /own/c", "policy: never"]
        {
            assert!(text.contains(kept), "{kept:?} is not in\n{text}");
        }
        assert_eq!(write(&folder, &document()).unwrap(), text, "again");
    }

    #[test]
    fn what_is_no_valid_node_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(&folder, &json!({"api": {"port": 70_000}, "token": "x", "token_id": "x"})).is_err());
        assert!(write(&folder, &json!({"data": []})).is_err());
        assert!(!folder.path().join("etc").exists());
        fs::create_dir(folder.path().join("etc")).unwrap();
        fs::write(folder.path().join("etc/node.yml"), "token: [").unwrap();
        assert!(write(&folder, &document()).is_err());
        assert_eq!(fs::read_to_string(folder.path().join("etc/node.yml")).unwrap(), "token: [");
    }
}
