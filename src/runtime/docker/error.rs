//! Failed requests, and what they mean to callers.

use bollard::errors::Error;

use super::connection::Address;
use crate::runtime::{ErrorKind, RuntimeError};

/// The longest message of an engine that is passed on, in bytes. It may quote a page of a registry.
const MAX_MESSAGE: usize = 2048;

/// The error of `attempt`, for callers.
pub(super) fn translate(attempt: String, error: &Error, address: &Address) -> RuntimeError {
    let unavailable =
        |cause: String| RuntimeError::new(ErrorKind::Unavailable, &attempt, format_args!("{address}: {cause}"));
    match error {
        Error::DockerResponseServerError { status_code: 400, message } if is_version_mismatch(message) => {
            unavailable(brief(message))
        }
        Error::DockerResponseServerError { status_code, message } => {
            let message = match remedy(message) {
                Some(remedy) => format!("{}; {remedy}", brief(message)),
                None => brief(message),
            };
            RuntimeError::new(kind(*status_code, &message), &attempt, message)
        }
        Error::DockerStreamError { error } => RuntimeError::new(kind(500, error), &attempt, brief(error)),
        Error::HyperLegacyError { .. }
        | Error::HyperResponseError { .. }
        | Error::IOError { .. }
        | Error::RequestTimeoutError => unavailable(root_cause(error)),
        other => {
            let message = format!("invalid response from the container engine: {other}");
            RuntimeError::new(ErrorKind::Failed, &attempt, brief(&message))
        }
    }
}

/// The kind of a rejected request. Podman answers 500 in many cases that have a status of their own, and an error within a
/// stream has no status, so the message decides as well.
fn kind(status: u16, message: &str) -> ErrorKind {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match status {
        404 => ErrorKind::NotFound,
        500 if says(&["network not found", "no such container", "image not known"]) => ErrorKind::NotFound,
        409 | 500 if says(&["name is already in use", "is already in use by container"]) => ErrorKind::NameTaken,
        409 => ErrorKind::Conflict,
        _ if says(&["invalid reference format"]) => ErrorKind::InvalidImage,
        400 => ErrorKind::Invalid,
        500 if says(&["OCI runtime attempted to invoke a command that was not found", "OCI permission denied"]) => {
            ErrorKind::Invalid
        }
        _ if says(&["no space left on device"]) => ErrorKind::NoSpace,
        401 | 403 => ErrorKind::Denied,
        500 if says(&["access denied", "unauthorized", "authentication required"]) => ErrorKind::Denied,
        501 => ErrorKind::Unsupported,
        _ => ErrorKind::Failed,
    }
}

/// What to do about a rejection whose text does not say it.
fn remedy(message: &str) -> Option<&'static str> {
    let lower = message.to_lowercase();
    ["no command specified", "no command or entrypoint"].iter().any(|text| lower.contains(text)).then_some(
        "the image has neither an entrypoint nor a command: use one that is made for servers, whose entrypoint runs the variable STARTUP",
    )
}

/// Whether the engine was replaced by one that does not support the negotiated version.
fn is_version_mismatch(message: &str) -> bool {
    message.contains("client version") && (message.contains("too new") || message.contains("too old"))
}

/// The innermost cause of an error.
pub(super) fn root_cause(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = match error {
        // These variants of bollard's error do not return their source.
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

/// The beginning of a message, on one line.
fn brief(message: &str) -> String {
    let mut line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > MAX_MESSAGE {
        line.truncate(line.floor_char_boundary(MAX_MESSAGE));
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(error: &Error) -> RuntimeError {
        translate("looking".into(), error, &Address::Unix("/run/x.sock".into()))
    }

    fn rejected(status_code: u16, message: &str) -> RuntimeError {
        translated(&Error::DockerResponseServerError { status_code, message: message.into() })
    }

    #[test]
    fn statuses() {
        let of = |status| rejected(status, "such  is\nlife");
        assert_eq!(of(404), RuntimeError::new(ErrorKind::NotFound, "looking", "such is life"));
        for (status, kind) in [
            (400, ErrorKind::Invalid),
            (403, ErrorKind::Denied),
            (409, ErrorKind::Conflict),
            (500, ErrorKind::Failed),
            (501, ErrorKind::Unsupported),
            (503, ErrorKind::Failed),
        ] {
            assert_eq!(of(status), RuntimeError::new(kind, "looking", "such is life"), "{status}");
        }
        assert!(!rejected(500, "x").is_outage());
        assert!(rejected(400, "client version 1.53 is too new. Maximum supported API version is 1.41").is_outage());
    }

    #[test]
    fn kinds_by_message() {
        let kind = |status, message| rejected(status, message).kind;
        let taken = "creating container storage: the container name \"x\" is already in use by 1. You have to remove \
                     that container to be able to reuse that name: that name is already in use";
        assert_eq!(kind(500, taken), ErrorKind::NameTaken, "Podman");
        let taken = "Conflict. The container name \"/x\" is already in use by container \"1\".";
        assert_eq!(kind(409, taken), ErrorKind::NameTaken);
        let missing = "container create: unable to find network with name or ID x: network not found";
        assert_eq!(kind(500, missing), ErrorKind::NotFound, "Podman");
        let program = "runc: exec: \"/x\": stat /x: no such file or directory: OCI runtime attempted to invoke a command that was not found";
        assert_eq!(kind(500, program), ErrorKind::Invalid, "Podman");
        assert_eq!(kind(500, "Bind for 0.0.0.0:80 failed: port is already allocated"), ErrorKind::Failed);
        for status in [400, 500] {
            assert_eq!(kind(status, "invalid reference format"), ErrorKind::InvalidImage);
        }
        let stream = |error: &str| translated(&Error::DockerStreamError { error: error.into() }).kind;
        assert_eq!(stream("write /var/lib/docker/tmp/1: no space left on device"), ErrorKind::NoSpace);
        assert_eq!(stream("unauthorized: authentication required"), ErrorKind::Denied);
        assert_eq!(stream("pull access denied for a/b"), ErrorKind::Denied);
        assert_eq!(stream("manifest unknown"), ErrorKind::Failed);
    }

    #[test]
    fn an_image_without_a_command_is_explained() {
        for message in
            ["No command specified", "no command or entrypoint provided, and no CMD or ENTRYPOINT from image"]
        {
            let text = rejected(400, message).to_string();
            assert!(text.contains("STARTUP"), "{text}");
        }
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
    fn a_long_message_is_cut() {
        let text = rejected(500, &"<html> ".repeat(10_000)).to_string();
        assert!(text.len() < MAX_MESSAGE + 100 && text.ends_with('…'));
        let text = rejected(500, &"ü".repeat(10_000)).to_string();
        assert!(text.len() < MAX_MESSAGE + 100 && text.ends_with('…'));
    }
}
