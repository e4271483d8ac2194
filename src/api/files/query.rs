//! Parameters and paths of requests.

use std::ffi::OsStr;
use std::path::Path;

use crate::files::tree::TreeError;
use crate::files::user_path::UserPath;
use crate::server_files::FileError;

/// The decoded parameters of a query.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a query.
    pub fn new(query: Option<&str>) -> Self {
        Self(url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// The first value of a parameter; empty if there is none.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

/// A path from the server's directory.
pub fn path(text: &str) -> Result<UserPath, FileError> {
    Ok(UserPath::parse(OsStr::new(text)).map_err(TreeError::from)?)
}

/// A name, or a path, from a directory. `..` leads up to the server's directory and no further.
pub fn joined(root: &str, name: &str) -> Result<UserPath, FileError> {
    let joined = Path::new(root).join(name.trim_start_matches('/'));
    Ok(UserPath::clamped(joined.as_os_str()).map_err(TreeError::from)?)
}
