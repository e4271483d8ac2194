//! Orders from an authority in this process, and what clients get meanwhile.

mod authority;

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::*;
use crate::model::{ConditionStatus, NodeCondition};
use authority::Authority;

const NAME: &str = "node.example.com";

/// A node that gets its certificate by itself.
struct Node {
    root: tempfile::TempDir,
    conditions: NodeConditions,
    certificates: Arc<Certificates>,
    tasks: Tasks,
}

impl Node {
    /// Starts on an empty state folder.
    fn start(authority: &Authority, port: u16) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), authority, port)
    }

    fn start_in(root: tempfile::TempDir, authority: &Authority, port: u16) -> Self {
        let options = AutomaticTls {
            hostname: NAME.into(),
            directory: authority.directory.clone(),
            root: Some(authority.root.clone()),
            port,
        };
        let (conditions, tasks) = (NodeConditions::new(Clock::System), Tasks::new());
        let acme = Acme::new(options, root.path(), conditions.clone());
        let certificates = acme.certificates();
        tasks.spawn("certificate", acme.keep(tasks.clone()));
        Self { root, conditions, certificates, tasks }
    }

    /// Ends the process; its state folder stays.
    fn end(self) -> tempfile::TempDir {
        self.tasks.abort_all();
        self.root
    }

    fn file(&self) -> PathBuf {
        self.root.path().join(FOLDER).join(NAME)
    }

    /// Whether a client that trusts this certificate alone gets a connection.
    async fn is_trusted_by(&self, root: &CertificateDer<'static>) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let client = async {
            let stream = TcpStream::connect(address).await.unwrap();
            TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME).unwrap(), stream).await
        };
        let server = async { self.certificates.handshake(listener.accept().await.unwrap().0).await };
        let (client, _) = tokio::join!(client, server);
        client.is_ok()
    }

    fn condition(&self) -> NodeCondition {
        self.conditions.list().pop().unwrap()
    }

    /// Waits until the condition has this status and a message with this part.
    async fn becomes(&self, status: ConditionStatus, part: &str) {
        for _ in 0..600 {
            let conditions = self.conditions.list();
            if conditions.iter().any(|found| found.status == status && found.message.contains(part)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("not {status:?} {part:?}: {:?}", self.condition());
    }
}

/// A port that nothing listens on.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_certificate_is_ordered_and_used_without_a_restart() {
    let port = free_port();
    let authority = Authority::start(port).await;
    let node = Node::start(&authority, port);
    assert!(!node.is_trusted_by(&authority.ca).await, "a self-signed one is served meanwhile");
    node.becomes(ConditionStatus::False, "a self-signed one is served meanwhile").await;
    node.becomes(ConditionStatus::True, "").await;
    assert!(node.is_trusted_by(&authority.ca).await);
    let folder = node.root.path().join(FOLDER);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&node.file())), (0o700, 0o600));
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "the port is open during an order only");

    // The next run uses it, and orders none.
    let node = Node::start_in(node.end(), &authority, port);
    assert!(node.is_trusted_by(&authority.ca).await);
    node.becomes(ConditionStatus::True, "").await;
    assert_eq!(authority.state.orders.load(Ordering::SeqCst), 1);

    // One that is due is replaced, while it is served. The account is the same.
    let due = rcgen_pem(2000, 2001);
    let root = node.end();
    std::fs::write(root.path().join(FOLDER).join(NAME), due).unwrap();
    let node = Node::start_in(root, &authority, port);
    node.becomes(ConditionStatus::True, "").await;
    assert!(node.is_trusted_by(&authority.ca).await);
    assert_eq!(authority.state.orders.load(Ordering::SeqCst), 2);
    assert_eq!(authority.state.accounts.load(Ordering::SeqCst), 1);
}

/// A pair in one file, as Wings keeps it.
fn rcgen_pem(from: i32, until: i32) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new([NAME.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(until, 1, 1));
    format!("{}{}", key.serialize_pem(), params.self_signed(&key).unwrap().pem())
}

#[tokio::test]
async fn a_certificate_of_wings_is_used() {
    let authority = Authority::start(1).await;
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join(FOLDER)).unwrap();
    let pem = rcgen_pem(2020, 4000);
    std::fs::write(root.path().join(FOLDER).join(NAME), &pem).unwrap();
    let node = Node::start_in(root, &authority, 1);
    node.becomes(ConditionStatus::True, "").await;
    assert!(node.is_trusted_by(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).await);
    assert_eq!(authority.state.orders.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_order_that_fails_is_explained() {
    // The authority's requests to port 80 do not reach the node.
    let authority = Authority::start(free_port()).await;
    let node = Node::start(&authority, free_port());
    node.becomes(ConditionStatus::False, "fetching the answer: Connection refused").await;
    let message = node.condition().message;
    assert!(message.contains("requests to port 80 of node.example.com must reach this host"), "{message}");

    // The port is in use.
    let taken = std::net::TcpListener::bind("[::]:0").unwrap();
    let node = Node::start(&authority, taken.local_addr().unwrap().port());
    node.becomes(ConditionStatus::False, "stop the program that does").await;

    // The authority is away; a certificate that is due is served all the same.
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join(FOLDER)).unwrap();
    let pem = rcgen_pem(1990, 2030);
    std::fs::write(root.path().join(FOLDER).join(NAME), &pem).unwrap();
    authority.end();
    let node = Node::start_in(root, &authority, free_port());
    node.becomes(ConditionStatus::False, "the current one is valid until 2030-01-01").await;
    assert!(node.is_trusted_by(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).await);
}

#[test]
fn a_certificate_is_due_when_a_third_of_its_time_is_left() {
    let day = Duration::from_secs(24 * 3600);
    let from = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
    for (days, expected) in [(90, 60), (6, 4), (0, 0)] {
        let validity = Validity { from, until: from + day * days };
        assert_eq!(validity.renewal(), from + day * expected, "{days}");
    }
    let validity = Validity::of(rcgen_pem(2020, 2030).as_bytes()).unwrap();
    assert_eq!(
        (validity.from.to_string(), validity.until.to_string()),
        ("2020-01-01T00:00:00.000Z".into(), "2030-01-01T00:00:00.000Z".into())
    );
    for damaged in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert_eq!(Validity::of(damaged.as_bytes()), None);
    }
}

#[test]
fn a_name_cannot_lead_out_of_the_folder() {
    assert_eq!(file_name("../../etc/passwd"), ".._.._etc_passwd");
    assert_eq!(file_name(NAME), NAME);
}
