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
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::config::TlsFiles;
use crate::store::Blocking;
use crate::store::fingerprint::FileFingerprint;

/// Certificate and key of the API.
pub struct Certificates {
    files: TlsFiles,
    /// Minimum interval between two checks of the files.
    interval: Duration,
    /// `None` until the files can be read.
    current: Mutex<Option<Arc<ServerConfig>>>,
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
    pub fn load(files: &TlsFiles, interval: Duration) -> Arc<Self> {
        // Before the files are read, so that the next check finds a change in between.
        let mut check = Check::of(files);
        let config = read(files).inspect_err(|error| {
            tracing::error!(
                error = format!("{error:#}"),
                "certificate cannot be used; the panel cannot connect until it can, and servers are not affected"
            );
            check.fingerprints = None;
            check.rejected = Some(format!("{error:#}"));
        });
        Arc::new(Self {
            files: files.clone(),
            interval,
            current: Mutex::new(config.ok().map(Arc::new)),
            last_check: Arc::new(tokio::sync::Mutex::new(check)),
        })
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
        let config = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let config = config.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no certificate"))?;
        TlsAcceptor::from(config).accept(stream).await
    }

    async fn check(self: &Arc<Self>) {
        let Ok(mut last) = self.last_check.clone().try_lock_owned() else { return };
        if last.at.elapsed() < self.interval {
            return;
        }
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
    ) -> Option<anyhow::Result<()>> {
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
                last.rejected = Some(format!("{error:#}"));
                (last.rejected != before.rejected).then_some(Err(error))
            }
        }
    }

    fn report(&self, renewed: anyhow::Result<()>) {
        let cert = self.files.cert.display();
        match renewed {
            Ok(()) => tracing::info!(%cert, "certificate reloaded"),
            Err(error) => tracing::warn!(
                %cert,
                error = format!("{error:#}"),
                "changed certificate rejected; the previous one stays in effect"
            ),
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
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .with_context(|| format!("{} and {} do not belong together", files.cert.display(), files.key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests;
