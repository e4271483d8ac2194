//! `alula:`, the keys that Wings does not have. Unknown keys are errors here: nobody else writes this section.

use std::fmt;

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::ser::Serializer;

use crate::config::setting::{Setting, section};

section! {
    /// `alula`: this daemon's own keys.
    strict struct AlulaFile {
        /// Unix socket of the local API; `{root}/alula.sock` where absent.
        "socket" socket: Option<String> = None,
        /// The controller.
        "reconcile" reconcile: ReconcileFile = ReconcileFile::default(),
        /// Installations.
        "install" install: InstallFile = InstallFile::default(),
        /// Image pulls.
        "pull" pull: PullFile = PullFile::default(),
        /// Console transcripts.
        "logs" logs: LogsFile = LogsFile::default(),
    }
}

section! {
    /// `alula.reconcile`.
    strict struct ReconcileFile {
        /// Servers looked at at the same time.
        "workers" workers: i64 = 8,
        /// Installers that run at the same time.
        "concurrent_installs" concurrent_installs: i64 = 10,
    }
}

section! {
    /// `alula.install`.
    strict struct InstallFile {
        /// Seconds that an install script may take; 0 is without limit.
        "timeout_seconds" timeout_seconds: i64 = 3600,
        /// Count an install script that ends with another code than 0 as failed.
        "fail_on_nonzero_exit" fail_on_nonzero_exit: bool = false,
    }
}

section! {
    /// `alula.pull`.
    strict struct PullFile {
        /// When images are pulled.
        "policy" policy: PullPolicy = PullPolicy::Always,
    }
}

section! {
    /// `alula.logs`: the console transcript of each server.
    strict struct LogsFile {
        /// MiB after which a new file is begun.
        "max_size_mib" max_size_mib: i64 = 5,
        /// Files kept, the current one included.
        "max_files" max_files: i64 = 3,
    }
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Before each creation of a container, as Wings does; a local image is used where the registry fails.
    #[default]
    Always,
    /// Only where the host does not have it.
    IfNotPresent,
    /// Never: the image must be on the host.
    Never,
}

impl PullPolicy {
    const WORDS: [(&'static str, Self); 3] =
        [("always", Self::Always), ("if_not_present", Self::IfNotPresent), ("never", Self::Never)];
}

impl Setting for PullPolicy {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = PullPolicy;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`always`, `if_not_present` or `never`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<PullPolicy, E> {
                let found = PullPolicy::WORDS.iter().find(|(word, _)| *word == text);
                found.map(|(_, policy)| *policy).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        from.deserialize_str(Word)
    }

    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(PullPolicy::WORDS[*self as usize].0)
    }
}
