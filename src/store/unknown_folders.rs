//! Folders in `servers/` that belong to no server, which mostly are slips in their names.

use std::path::Path;

use crate::model::ServerId;

/// The most folders that are listed.
const MAX: usize = 50;

/// A message about each of them: why it is no server, and what to do. A folder that cannot be listed has none.
pub fn unknown_folders(servers: &Path) -> Vec<String> {
    let items = std::fs::read_dir(servers).into_iter().flatten().flatten();
    let names = items.map(|item| item.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> =
        names.filter(|name| !name.starts_with('.') && name.parse::<ServerId>().is_err()).collect();
    names.sort();
    names.iter().take(MAX).map(|name| message(&servers.join(name), name)).collect()
}

fn message(path: &Path, name: &str) -> String {
    let path = path.display();
    match uuid::Uuid::try_parse(name).map(ServerId::new) {
        Ok(id) => format!("{path} is no server: its UUID is not in lower case with dashes; rename it to {id}"),
        Err(_) => format!(
            "{path} is no server: its name is no UUID; rename it to the server's UUID, or move it out of servers/"
        ),
    }
}
