//! The certificate that a TLS client gets while the files change.

use std::fs;
use std::net::SocketAddr;

use axum::Router;
use rcgen::CertifiedKey;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{ServerName, pem};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::super::accept::{Acceptor, Listener};
use super::super::limits::Limits;
use super::*;
use crate::clock::Clock;
use crate::model::ConditionStatus;
use crate::tasks::Tasks;

/// A folder with a pair, and a listener that uses it.
struct Node {
    folder: TempDir,
    certificates: Arc<Certificates>,
    listener: TcpListener,
}

fn pair() -> CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

fn files(folder: &Path) -> TlsFiles {
    TlsFiles { cert: folder.join("cert.pem"), key: folder.join("key.pem") }
}

/// Writes a pair as certbot does: new files, and links that are swapped.
fn install(folder: &Path, pair: &CertifiedKey<rcgen::KeyPair>, name: &str) {
    let files = files(folder);
    for (link, text) in [(files.cert, pair.cert.pem()), (files.key, pair.signing_key.serialize_pem())] {
        let (target, new) = (link.with_extension(name), link.with_extension("link"));
        fs::write(&target, text).unwrap();
        std::os::unix::fs::symlink(&target, &new).unwrap();
        fs::rename(&new, &link).unwrap();
    }
}

/// A client that accepts only this certificate.
async fn connect(
    address: SocketAddr,
    pair: &CertifiedKey<rcgen::KeyPair>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

impl Node {
    async fn new(pair: &CertifiedKey<rcgen::KeyPair>, interval: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        install(folder.path(), pair, "first");
        let certificates = Certificates::load(&files(folder.path()), interval, NodeConditions::new(Clock::System));
        Self { folder, certificates, listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// Whether a new client gets this certificate and accepts it.
    async fn presents(&self, pair: &CertifiedKey<rcgen::KeyPair>) -> bool {
        let client = connect(self.listener.local_addr().unwrap(), pair);
        let server = async {
            let (stream, _) = self.listener.accept().await.unwrap();
            self.certificates.handshake(stream).await
        };
        let (client, _server) = tokio::join!(client, server);
        client.is_ok()
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_presented_without_a_restart() {
    let (old, new) = (pair(), pair());
    let node = Node::new(&old, Duration::ZERO).await;
    assert!(node.presents(&old).await && !node.presents(&new).await);
    install(node.folder.path(), &new, "second");
    assert!(node.presents(&new).await && !node.presents(&old).await);
}

#[tokio::test]
async fn a_certificate_that_is_missing_at_the_start_is_presented_once_it_is_there() {
    let pair = pair();
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::load(&files(folder.path()), Duration::ZERO, NodeConditions::new(Clock::System));
    let node = Node { folder, certificates, listener: TcpListener::bind("127.0.0.1:0").await.unwrap() };
    assert!(!node.presents(&pair).await);
    let condition = |node: &Node| node.certificates.conditions.list().remove(0);
    assert_eq!(condition(&node).status, ConditionStatus::False);
    assert!(condition(&node).message.contains("cert.pem"), "{:?}", condition(&node));
    fs::write(files(node.folder.path()).cert, "half a certificate").unwrap();
    assert!(!node.presents(&pair).await);
    assert!(condition(&node).message.contains("the panel cannot connect"), "{:?}", condition(&node));
    fs::remove_file(files(node.folder.path()).cert).unwrap();
    install(node.folder.path(), &pair, "first");
    assert!(node.presents(&pair).await);
    assert_eq!(condition(&node).status, ConditionStatus::True);
    // The previous pair is presented, and the condition says that it is not the newest.
    fs::write(files(node.folder.path()).cert, "half a certificate").unwrap();
    assert!(node.presents(&pair).await);
    assert!(condition(&node).message.contains("the previous one stays in effect"), "{:?}", condition(&node));
}

#[tokio::test]
async fn a_certificate_is_found_without_any_client() {
    let pair = pair();
    let folder = tempfile::tempdir().unwrap();
    let interval = Duration::from_millis(10);
    let certificates = Certificates::load(&files(folder.path()), interval, NodeConditions::new(Clock::System));
    let waiting = tokio::spawn(certificates.clone().await_first());
    tokio::time::sleep(interval * 3).await;
    assert!(!waiting.is_finished());
    install(folder.path(), &pair, "first");
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    assert_eq!(certificates.conditions.list()[0].status, ConditionStatus::True);
}

#[tokio::test]
async fn unusable_files_leave_the_previous_pair_in_effect() {
    let (old, new) = (pair(), pair());
    let node = Node::new(&old, Duration::ZERO).await;
    let TlsFiles { cert, key } = files(node.folder.path());
    for broken in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &new.cert.pem()] {
        fs::remove_file(&cert).unwrap();
        assert!(node.presents(&old).await, "no file");
        fs::write(&cert, broken).unwrap();
        assert!(node.presents(&old).await, "{broken:?}");
    }
    // The other half of the pair comes later.
    fs::remove_file(&key).unwrap();
    fs::write(&key, new.signing_key.serialize_pem()).unwrap();
    assert!(node.presents(&new).await);
}

#[tokio::test]
async fn unusable_files_are_reported_once() {
    let pair = pair();
    let node = Node::new(&pair, Duration::ZERO).await;
    let mut last = node.certificates.last_check.clone().try_lock_owned().unwrap();
    assert!(node.certificates.renew(&mut last, read).is_none(), "nothing has changed");
    let cert = files(node.folder.path()).cert;
    fs::write(&cert, "half a certificate").unwrap();
    let error = node.certificates.renew(&mut last, read).unwrap().unwrap_err();
    assert!(error.matches(cert.to_str().unwrap()).count() == 1, "{error}");
    assert!(node.certificates.renew(&mut last, read).is_none());
    fs::remove_file(&cert).unwrap();
    assert!(node.certificates.renew(&mut last, read).unwrap().is_err());
    assert!(node.certificates.renew(&mut last, read).is_none());
    install(node.folder.path(), &pair, "third");
    assert!(node.certificates.renew(&mut last, read).unwrap().is_ok());
}

#[tokio::test]
async fn files_that_could_not_be_read_are_read_again_and_reported_once() {
    let (old, new) = (pair(), pair());
    let node = Node::new(&old, Duration::ZERO).await;
    install(node.folder.path(), &new, "second");
    {
        let mut last = node.certificates.last_check.clone().try_lock_owned().unwrap();
        let mut fails = |error: rustix::io::Errno| {
            let failing = |_: &TlsFiles| Err(pem::Error::Io(error.into())).context("cannot read");
            node.certificates.renew(&mut last, failing).map(|renewed| renewed.unwrap_err())
        };
        assert!(fails(rustix::io::Errno::MFILE).is_some());
        assert!(fails(rustix::io::Errno::MFILE).is_none(), "reported twice");
        assert!(fails(rustix::io::Errno::IO).is_some(), "another error");
    }
    assert!(node.presents(&new).await && !node.presents(&old).await);
}

#[tokio::test]
async fn the_files_are_checked_once_per_interval() {
    let (old, new) = (pair(), pair());
    let node = Node::new(&old, Duration::from_secs(3600)).await;
    install(node.folder.path(), &new, "second");
    assert!(node.presents(&old).await);
    node.certificates.last_check.lock().await.at -= Duration::from_secs(3600);
    assert!(node.presents(&new).await);
}

#[tokio::test]
async fn a_check_that_hangs_does_not_hold_up_other_handshakes() {
    let pair = pair();
    let node = Node::new(&pair, Duration::ZERO).await;
    let _hangs = node.certificates.last_check.lock().await;
    assert!(node.presents(&pair).await);
}

#[tokio::test]
async fn a_client_without_a_handshake_blocks_no_other_and_loses_its_connection() {
    let pair = pair();
    for (handshake, others) in [(Duration::from_secs(3600), true), (Duration::from_millis(50), false)] {
        let node = Node::new(&pair, Duration::ZERO).await;
        let (address, tasks) = (node.listener.local_addr().unwrap(), Tasks::new());
        let listener = Listener::Tcp(node.listener, Some(node.certificates));
        let limits = Limits { handshake, ..Limits::API };
        let acceptor = Acceptor::new(listener, Router::new(), limits, tasks.clone());
        tasks.spawn_graceful("api", |end| acceptor.run(end));
        let mut idle = TcpStream::connect(address).await.unwrap();
        if others {
            connect(address, &pair).await.unwrap();
        } else {
            assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
        }
    }
}
