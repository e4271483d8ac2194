//! The API's certificate: read when the daemon starts, and again when its files change.
//!
//! A handshake compares the fingerprints of the files with those of the current pair, at most once per interval. A watch would
//! have to follow every link in the files' paths: certbot and Kubernetes renew certificates by swapping links. `stat` follows
//! links by itself.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedMutexGuard;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::cli::chain;
use crate::config::TlsFiles;
use crate::model::NodeConditionType;
use crate::reconcile::node_conditions::NodeConditions;
use crate::store::Blocking;
use crate::store::fingerprint::FileFingerprint;

/// Certificate and key of the API.
pub struct Certificates {
    files: TlsFiles,
    /// Minimum interval between two checks of the files.
    interval: Duration,
    /// `None` until the files can be read.
    current: Mutex<Option<Arc<ServerConfig>>>,
    /// Used until then.
    fallback: Option<Arc<ServerConfig>>,
    conditions: NodeConditions,
    /// Locked by the handshake that checks the files. Other handshakes use the current pair meanwhile.
    last_check: Arc<tokio::sync::Mutex<Check>>,
}

/// The state of the files at one check.
struct Check {
    at: Instant,
    /// Of the current certificate and key; `None` if one of them is missing.
    fingerprints: Option<[FileFingerprint; 2]>,
    /// The error of other files, which is reported once.
    rejected: Option<String>,
}

impl Check {
    fn of(files: &TlsFiles) -> Self {
        let fingerprint = |path: &Path| FileFingerprint::of(path).ok();
        let fingerprints = fingerprint(&files.cert).zip(fingerprint(&files.key)).map(<[FileFingerprint; 2]>::from);
        Self { at: Instant::now(), fingerprints, rejected: None }
    }
}

impl Certificates {
    /// Reads the pair; the files are checked again at most every `interval`. Handshakes fail until both can be read.
    pub fn load(files: &TlsFiles, interval: Duration, conditions: NodeConditions) -> Arc<Self> {
        // Before the files are read, so that the next check finds a change in between.
        let mut check = Check::of(files);
        let config = read(files).map_err(|error| chain(&error)).inspect_err(|error| {
            tracing::error!(
                error,
                "certificate cannot be used; the panel cannot connect until it can, and servers are not affected"
            );
            check.fingerprints = None;
            check.rejected = Some(error.clone());
        });
        match &config {
            Ok(_) => conditions.met(NodeConditionType::CertificateReady),
            Err(error) => conditions.unmet(
                NodeConditionType::CertificateReady,
                format!("{error}; the panel cannot connect until both files can be used, then no restart is needed"),
            ),
        }
        Arc::new(Self {
            files: files.clone(),
            interval,
            conditions,
            current: Mutex::new(config.ok().map(Arc::new)),
            fallback: None,
            last_check: Arc::new(tokio::sync::Mutex::new(check)),
        })
    }

    /// Reads certificate and key from one file, which another task writes: it calls [`reload`](Self::reload), and sets the
    /// condition meanwhile. Until it has, clients get a self-signed certificate with this name.
    pub fn automatic(file: &Path, hostname: &str, conditions: NodeConditions) -> Arc<Self> {
        let files = TlsFiles { cert: file.to_owned(), key: file.to_owned() };
        let check = Check::of(&files);
        let current = read(&files).ok().map(Arc::new);
        let fallback = self_signed(hostname).inspect_err(|error| {
            tracing::error!(error = chain(error), "cannot make a certificate; clients are refused until there is one");
        });
        Arc::new(Self {
            files,
            interval: Duration::MAX,
            conditions,
            current: Mutex::new(current),
            fallback: fallback.ok().map(Arc::new),
            last_check: Arc::new(tokio::sync::Mutex::new(check)),
        })
    }

    /// Reads the files again, if they have changed.
    pub async fn reload(self: &Arc<Self>) {
        let last = self.last_check.clone().lock_owned().await;
        self.check_now(last).await;
    }

    /// Makes the TLS handshake with the newest pair.
    ///
    /// # Errors
    /// There is no certificate. The client does not speak TLS, supports none of the versions and ciphers, or has closed the connection.
    pub async fn handshake<S>(self: &Arc<Self>, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.check().await;
        let config = self
            .current()
            .or(self.fallback.clone())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no certificate"))?;
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Checks the files until there is a certificate: none may connect meanwhile, and handshakes check it from then on.
    pub async fn await_first(self: Arc<Self>) {
        while self.current().is_none() {
            tokio::time::sleep(self.interval).await;
            self.check().await;
        }
    }

    fn current(&self) -> Option<Arc<ServerConfig>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn check(self: &Arc<Self>) {
        let Ok(last) = self.last_check.clone().try_lock_owned() else { return };
        if last.at.elapsed() >= self.interval {
            self.check_now(last).await;
        }
    }

    async fn check_now(self: &Arc<Self>, mut last: OwnedMutexGuard<Check>) {
        let this = self.clone();
        // The lock moves into the call: a file system that hangs blocks this handshake alone.
        if let Some(renewed) = Blocking::Pool.run(move || this.renew(&mut last, read)).await {
            self.report(renewed);
        }
    }

    /// `None` if there is nothing to report. Rejected files are read again at each check.
    fn renew(
        &self,
        last: &mut Check,
        read: impl FnOnce(&TlsFiles) -> anyhow::Result<ServerConfig>,
    ) -> Option<Result<(), String>> {
        let before = std::mem::replace(last, Check::of(&self.files));
        if last.fingerprints == before.fingerprints {
            return None;
        }
        match read(&self.files) {
            Ok(config) => {
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(config));
                Some(Ok(()))
            }
            Err(error) => {
                // The error may be temporary, such as too many open files: the next check reads the files again.
                last.fingerprints = before.fingerprints;
                let error = chain(&error);
                last.rejected = Some(error.clone());
                (last.rejected != before.rejected).then_some(Err(error))
            }
        }
    }

    fn report(&self, renewed: Result<(), String>) {
        let (cert, condition) = (self.files.cert.display(), NodeConditionType::CertificateReady);
        let consequence = match self.current() {
            Some(_) => "the previous one stays in effect",
            None => "the panel cannot connect until it can be used",
        };
        match renewed {
            Ok(()) => {
                tracing::info!(%cert, "certificate reloaded");
                self.conditions.met(condition);
            }
            Err(error) => {
                tracing::warn!(%cert, error, consequence, "changed certificate rejected");
                self.conditions
                    .unmet(condition, format!("the changed certificate is rejected: {error}; {consequence}"));
            }
        }
    }
}

/// A new session store comes with each pair, so no client resumes a session under the previous certificate.
fn read(files: &TlsFiles) -> anyhow::Result<ServerConfig> {
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read `api.ssl.cert` {}", files.cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("cannot read `api.ssl.key` {}", files.key.display()))?;
    server_config(certificates, key)
        .with_context(|| format!("{} and {} do not belong together", files.cert.display(), files.key.display()))
}

/// A new certificate for clients that verify none.
fn self_signed(hostname: &str) -> anyhow::Result<ServerConfig> {
    let made = rcgen::generate_simple_self_signed([hostname.to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    Ok(server_config(vec![made.cert.der().clone()], key)?)
}

fn server_config(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, tokio_rustls::rustls::Error> {
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests;
