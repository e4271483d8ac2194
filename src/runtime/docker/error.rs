//! From bollard's and our own failures to [`RuntimeError`].

use bollard::errors::Error;

use super::connection::Address;
use crate::runtime::RuntimeError;

/// A message of the engine may quote a registry's page; people read the beginning.
const MAX_MESSAGE: usize = 2048;

/// What went wrong when `attempt` was made.
pub(super) fn translate(attempt: String, error: &Error, address: &Address) -> RuntimeError {
    match error {
        Error::DockerResponseServerError { status_code: 400, message } if of_another_version(message) => {
            RuntimeError::Unreachable { attempt, cause: format!("{address}: {}", brief(message)) }
        }
        Error::DockerResponseServerError { status_code, message } => match meant_status(*status_code, message) {
            404 => RuntimeError::NotFound { attempt, message: brief(message) },
            status => RuntimeError::Refused { attempt, status, message: brief(message) },
        },
        Error::DockerStreamError { error } => RuntimeError::Refused { attempt, status: 500, message: brief(error) },
        Error::HyperLegacyError { .. }
        | Error::HyperResponseError { .. }
        | Error::IOError { .. }
        | Error::RequestTimeoutError => {
            RuntimeError::Unreachable { attempt, cause: format!("{address}: {}", root_cause(error)) }
        }
        other => {
            let message = format!("the container engine's answer is not understood ({other})");
            RuntimeError::Refused { attempt, status: 500, message: brief(&message) }
        }
    }
}

/// The status as Docker has it: Podman answers 500 to much that has a status of its own.
fn meant_status(status: u16, message: &str) -> u16 {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match status {
        500 if says(&["name is already in use", "that name is already in use"]) => 409,
        500 if says(&["network not found", "no such container", "image not known"]) => 404,
        status => status,
    }
}

/// The engine was replaced under us by one that does not know the version that was negotiated with the last.
fn of_another_version(message: &str) -> bool {
    message.contains("client version") && (message.contains("too new") || message.contains("too old"))
}

/// The innermost of an error's causes, which is what people can do something about.
pub(super) fn root_cause(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = match error {
        // bollard's own wrappers do not name their source.
        Error::HyperLegacyError { err } => err,
        Error::HyperResponseError { err } => err,
        Error::IOError { err } => err,
        other => other,
    };
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The beginning of a message on one line.
fn brief(message: &str) -> String {
    let mut brief = String::new();
    for word in message.split_whitespace() {
        if brief.len() + word.len() > MAX_MESSAGE {
            brief.push('…');
            break;
        }
        if !brief.is_empty() {
            brief.push(' ');
        }
        brief.push_str(word);
    }
    brief
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(error: &Error) -> RuntimeError {
        translate("looking".into(), error, &Address::Unix("/run/x.sock".into()))
    }

    fn refused(status_code: u16, message: &str) -> RuntimeError {
        translated(&Error::DockerResponseServerError { status_code, message: message.into() })
    }

    #[test]
    fn statuses() {
        let attempt = || "looking".to_owned();
        let message = || "such is life".to_owned();
        assert_eq!(refused(404, "such  is\nlife"), RuntimeError::NotFound { attempt: attempt(), message: message() });
        for status in [400, 403, 409, 500, 503] {
            let expected = RuntimeError::Refused { attempt: attempt(), status, message: message() };
            assert_eq!(refused(status, "such is life"), expected);
        }
        assert!(!refused(500, "x").is_outage());
        assert!(refused(400, "client version 1.53 is too new. Maximum supported API version is 1.41").is_outage());
    }

    #[test]
    fn statuses_that_podman_means() {
        let status = |message| match refused(500, message) {
            RuntimeError::Refused { status, .. } => status,
            RuntimeError::NotFound { .. } => 404,
            other => panic!("{other:?}"),
        };
        let taken = "creating container storage: the container name \"x\" is already in use by 1. You have to remove \
                     that container to be able to reuse that name: that name is already in use";
        assert_eq!(status(taken), 409);
        assert_eq!(status("container create: unable to find network with name or ID x: network not found"), 404);
        assert_eq!(status("Bind for 0.0.0.0:80 failed: port is already allocated"), 500);
    }

    #[test]
    fn outages() {
        let error = Error::IOError { err: std::io::Error::other("broken pipe") };
        let text = translated(&error).to_string();
        assert_eq!(
            text,
            "looking: the container engine does not answer (unix:///run/x.sock: broken pipe); check that it runs"
        );
        assert!(translated(&error).is_outage());
    }

    #[test]
    fn nobody_reads_a_whole_page() {
        let text = refused(500, &"<html> ".repeat(10_000)).to_string();
        assert!(text.len() < MAX_MESSAGE + 100 && text.ends_with('…'));
        let text = refused(500, &"x".repeat(10_000)).to_string();
        assert!(text.len() < 100, "{text}");
    }
}
