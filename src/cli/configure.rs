//! `alula configure`: writes the node's file as the panel has it. The panel prints this command for Wings, with the same options.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use url::Url;

use super::arguments::{Configure, NodeArguments};
use super::error::CliError;
use super::output::print;
use super::requests::is_yes;
use crate::config::{self, DEFAULT_PATH, HostEnvironment, Secret};
use crate::panel::client::application::node_configuration;
use crate::store::CONFIG_FILE;

/// Fetches the node's configuration from the panel and writes it.
///
/// # Errors
/// A value is missing or invalid, a file is in the way, the panel gives no configuration, or the file cannot be written.
pub async fn run(node: &NodeArguments, wanted: &Configure) -> Result<(), CliError> {
    let path = path(node, wanted)?;
    if path.exists() && !wanted.r#override {
        confirm(&path)?;
    }
    let panel = given(wanted.panel_url.as_deref(), "--panel-url", "Address of the panel", panel_url)?;
    let key = given(wanted.token.as_deref(), "--token", "API key of an administrator", api_key)?;
    let number = given(wanted.node.as_deref(), "--node", "Number of the node in the panel", node_number)?;
    let document = node_configuration(&panel, &key, number, wanted.allow_insecure).await;
    let document = document.map_err(|error| CliError::Failed(error.to_string()))?;
    config::write_configuration(&path, &document, &panel, HostEnvironment::of_this_process())
        .map_err(|error| CliError::Failed(format!("the configuration was not written: {error}")))?;
    let file = match path == Path::new(DEFAULT_PATH) {
        true => String::new(),
        false => format!(" --config {}", path.display()),
    };
    print(&format!(
        "Wrote {}: this host is node {number} of {panel}.\n\n\
         Check it:          alula validate {}\n\
         Start the daemon:  systemctl enable --now alula, or: alula run{file}\n\
         A daemon that runs already takes over new tokens at once, and other keys after a restart.\n",
        path.display(),
        path.display(),
    ))
}

fn path(node: &NodeArguments, wanted: &Configure) -> Result<PathBuf, CliError> {
    match (&wanted.config_path, &node.config, &node.root, &node.socket) {
        (Some(path), ..) | (None, Some(path), ..) => Ok(path.clone()),
        (None, None, Some(root), _) => Ok(root.join(CONFIG_FILE)),
        (None, None, None, Some(_)) => {
            Err(CliError::Usage("--socket names a running daemon; name the file to write with --config".into()))
        }
        (None, None, None, None) => Ok(DEFAULT_PATH.into()),
    }
}

fn confirm(path: &Path) -> Result<(), CliError> {
    let exists = format!("{} is there already", path.display());
    if !io::stdin().is_terminal() {
        return Err(CliError::Failed(format!("{exists}: use --override to change it; its other keys stay")));
    }
    match is_yes(&ask(&format!("{exists}. Change it? Its other keys stay. [y/N]"))?) {
        true => Ok(()),
        false => Err(CliError::Failed(format!("{exists}, and nothing was changed"))),
    }
}

/// The value of an option, or what a person answers.
fn given<T>(
    value: Option<&str>,
    option: &str,
    question: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, CliError> {
    let usage = |message: String| CliError::Usage(format!("{option}: {message}"));
    if let Some(value) = value {
        return read(value.trim()).map_err(usage);
    }
    if !io::stdin().is_terminal() {
        return Err(usage("is missing, and there is no terminal to ask at".into()));
    }
    loop {
        match read(ask(&format!("{question}:"))?.trim()) {
            Ok(value) => return Ok(value),
            Err(message) => super::output::notify(&message),
        }
    }
}

fn ask(question: &str) -> Result<String, CliError> {
    let mut answer = String::new();
    let read = write!(io::stderr(), "{question} ")
        .and_then(|()| io::stderr().flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer));
    match read {
        Ok(0) => Err(CliError::Failed("the input has ended, and nothing was changed".into())),
        Ok(_) => Ok(answer),
        Err(error) => Err(CliError::Failed(format!("cannot ask, and nothing was changed: {error}"))),
    }
}

/// The panel's address: its origin, without a slash at the end.
fn panel_url(text: &str) -> Result<String, String> {
    let expected =
        || format!("{text:?}: expected the panel's address without a path, such as https://panel.example.com");
    let url = Url::parse(text).map_err(|_| expected())?;
    let is_web = matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty());
    let is_plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if is_web && is_plain { Ok(url.as_str().trim_end_matches('/').to_owned()) } else { Err(expected()) }
}

/// A key for the panel's API of administrators: of Pelican, or of Pterodactyl.
fn api_key(text: &str) -> Result<Secret, String> {
    let rest = ["papp_", "peli_", "ptla_"].iter().find_map(|prefix| text.strip_prefix(prefix));
    let is_word = |rest: &str| rest.len() == 43 && rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match rest.is_some_and(is_word) {
        true => Ok(Secret::new(text)),
        false => Err("expected an API key of an administrator, which begins with papp_ and has 48 characters".into()),
    }
}

fn node_number(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let expected = || format!("{text:?}: expected the number in the address of the node's page, such as 3");
    text.parse().ok().filter(|_| digits).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_as_wings_does() {
        for (text, expected) in [
            ("https://panel.example.com", Some("https://panel.example.com")),
            ("http://127.0.0.1:8000/", Some("http://127.0.0.1:8000")),
            ("https://panel.example.com/admin", None),
            ("https://panel.example.com/?a=b", None),
            ("https://me:secret@panel.example.com", None),
            ("panel.example.com", None),
            ("ftp://panel.example.com", None),
            ("", None),
        ] {
            assert_eq!(panel_url(text).ok().as_deref(), expected, "{text}");
        }
        let key = "a".repeat(43);
        for (text, good) in [
            (format!("papp_{key}"), true),
            (format!("peli_{key}"), true),
            (format!("ptla_{key}"), true),
            (format!("papp_{key}a"), false),
            (format!("papp_{}-", "a".repeat(42)), false),
            (key, false),
            (String::new(), false),
        ] {
            assert_eq!(api_key(&text).is_ok(), good, "{text}");
        }
        assert_eq!(node_number("3"), Ok(3));
        for text in ["", "x", "-1", "+3", "3.5", "99999999999999999999999"] {
            assert!(node_number(text).is_err(), "{text}");
        }
    }
}
