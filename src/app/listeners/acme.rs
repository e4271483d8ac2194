//! `--auto-tls`: the API's certificate from an ACME authority, such as Let's Encrypt.
//!
//! The start waits for nothing: the listener serves the certificate of the last run, or a self-signed one, until there is another.
//! One file has the key and the chain, in the format and at the place of Wings (`{root}/.tls-cache/{name}`), so that each of the two
//! uses what the other has. The certificate is renewed when a third of its time is left. The authority checks the name with a request
//! to port 80, which is open during an order only.

mod challenges;
mod order;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::certificates::Certificates;
use crate::atomic;
use crate::cli::{RunOptions, chain};
use crate::clock::Clock;
use crate::model::{NodeConditionType, Timestamp};
use crate::reconcile::node_conditions::NodeConditions;
use crate::retry::{self, Jitter};
use crate::store::Blocking;
use crate::tasks::Tasks;

/// The folder of Wings' certificates, in the state folder.
const FOLDER: &str = ".tls-cache";
/// Mode of files with keys.
const MODE: u32 = 0o600;
/// The longest time between two checks of the remaining time: the system's clock may be set.
const CHECK: Duration = Duration::from_secs(12 * 3600);

/// How the certificate is got.
#[derive(Debug, Clone)]
pub struct AutomaticTls {
    /// The host's name.
    hostname: String,
    /// The URL of the authority's directory.
    directory: String,
    /// The root certificate of the authority's server, if the host does not trust it.
    root: Option<PathBuf>,
    /// The port that answers the authority.
    port: u16,
}

impl AutomaticTls {
    /// What the command line says.
    pub fn of(options: &RunOptions) -> Option<Self> {
        let hostname = options.tls_hostname.as_ref().filter(|_| options.auto_tls)?;
        let directory = options.acme_directory.clone();
        Some(Self {
            hostname: hostname.trim().to_ascii_lowercase(),
            directory: directory.unwrap_or_else(|| instant_acme::LetsEncrypt::Production.url().to_owned()),
            root: options.acme_root.clone(),
            port: options.acme_port.unwrap_or(80),
        })
    }
}

/// Keeps the certificate of one name valid.
pub struct Acme {
    options: AutomaticTls,
    folder: PathBuf,
    certificates: Arc<Certificates>,
    conditions: NodeConditions,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Validity {
    from: Timestamp,
    until: Timestamp,
}

impl Validity {
    /// That of the first certificate in a PEM text.
    fn of(pem: &[u8]) -> Option<Self> {
        let certificate = CertificateDer::from_pem_slice(pem).ok()?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).ok()?;
        let at = |time: x509_parser::time::ASN1Time| Timestamp::from_millis(time.timestamp().saturating_mul(1000));
        Some(Self { from: at(parsed.validity().not_before), until: at(parsed.validity().not_after) })
    }

    /// When the next one is due: when a third of the time is left.
    fn renewal(&self) -> Timestamp {
        self.until - self.until.since(self.from) / 3
    }
}

impl Acme {
    /// Reads the certificate of the last run.
    pub fn new(options: AutomaticTls, root: &Path, conditions: NodeConditions) -> Self {
        let folder = root.join(FOLDER);
        let file = folder.join(file_name(&options.hostname));
        let certificates = Certificates::automatic(&file, &options.hostname, conditions.clone());
        Self { options, folder, certificates, conditions }
    }

    /// The certificate, for the listener.
    pub fn certificates(&self) -> Arc<Certificates> {
        self.certificates.clone()
    }

    /// Orders a certificate whenever one is due.
    pub async fn keep(self, tasks: Tasks) {
        let (jitter, mut failures) = (Jitter::random(), 0);
        let mut validity = self.current().await;
        self.note(validity, None);
        loop {
            let now = Clock::System.now();
            if let Some(validity) = validity.filter(|validity| now < validity.renewal()) {
                tokio::time::sleep(validity.renewal().since(now).min(CHECK)).await;
                continue;
            }
            match self.renew(&tasks).await {
                Ok(()) => {
                    failures = 0;
                    validity = self.current().await;
                    self.note(validity, None);
                    if validity.is_some_and(|validity| Clock::System.now() < validity.renewal()) {
                        continue;
                    }
                    // An authority whose certificates are of no use is not asked without a pause.
                }
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(name = self.options.hostname, error, "cannot get a certificate; it is tried again");
                    self.note(validity, Some(&error));
                }
            }
            failures += 1;
            tokio::time::sleep(retry::delay(retry::ACME, failures, &jitter)).await;
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.join(file_name(&self.options.hostname))
    }

    /// The validity of the certificate on disk.
    async fn current(&self) -> Option<Validity> {
        let file = self.file();
        let read = Blocking::Pool.run(move || std::fs::read(file)).await;
        read.ok().and_then(|pem| Validity::of(&pem))
    }

    async fn renew(&self, tasks: &Tasks) -> anyhow::Result<()> {
        let pem = order::order(&self.options, &self.folder, tasks).await?;
        let file = self.file();
        Blocking::Pool.run(move || atomic::write_file(&file, pem.as_bytes(), MODE)).await?;
        self.certificates.reload().await;
        Ok(())
    }

    /// Sets the condition: `error` is that of the last order.
    fn note(&self, validity: Option<Validity>, error: Option<&str>) {
        let name = &self.options.hostname;
        let valid = validity.filter(|validity| Clock::System.now() < validity.until);
        let meanwhile = match valid {
            Some(validity) => format!("the current one is valid until {}", validity.until),
            None => "a self-signed one is served meanwhile".to_owned(),
        };
        let message = match (error, valid) {
            (None, Some(_)) => return self.conditions.met(NodeConditionType::CertificateReady),
            (None, None) => format!("a certificate for {name} is being ordered; {meanwhile}"),
            (Some(error), _) => format!(
                "cannot get a certificate for {name}: {error}; requests to port 80 of {name} must reach this host; it is \
                 tried again, and {meanwhile}"
            ),
        };
        self.conditions.unmet(NodeConditionType::CertificateReady, message);
    }
}

/// A file for this name, which comes from the command line.
fn file_name(hostname: &str) -> String {
    hostname.replace(['/', '\0'], "_")
}

#[cfg(test)]
mod tests;
