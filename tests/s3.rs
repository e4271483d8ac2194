//! Uploads to a real S3 server: `moto` from PyPI, with links that boto3 presigns as the panel does.
//!
//! A proxy between them fails, stalls, cuts and lies. Without Python's `venv` or PyPI the test is skipped with a note.

#[path = "s3/proxy.rs"]
mod proxy;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula::clock::Clock;
use alula::panel::{PanelError, Part, UploadLinks};
use alula::progress::Progress;
use alula::rate::Rate;
use alula::tasks::Blocking;
use alula::testing::{PanelCall, PanelFaults, TestPanel};
use alula::upload::{Limits, UploadError, Uploads};
use async_trait::async_trait;
use proxy::{Act, Proxy};
use serde_json::{Value, json};
use uuid::Uuid;

/// The least part of S3.
const PART: usize = 5 << 20;
const SIZE: usize = 4 * PART + 12_345;
const DEADLINE: Duration = Duration::from_secs(30);

/// The folder of Python's programs, with moto and boto3 in it.
fn python() -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("s3-venv");
    let bin = venv.join("bin");
    let done = venv.join("installed");
    if !done.exists() {
        let run = |program: &Path, arguments: &[&str]| {
            Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
        };
        let made = run(Path::new("python3"), &["-m", "venv", &venv.display().to_string()]);
        if !made
            || !run(
                &bin.join("pip"),
                &["install", "--quiet", "--retries", "1", "--timeout", "20", "moto[server,s3]", "boto3"],
            )
        {
            return None;
        }
        std::fs::write(done, "").unwrap();
    }
    Some(bin)
}

/// The S3 server, which ends with this.
struct Moto(Child);

impl Moto {
    async fn start(bin: &Path) -> (Self, SocketAddr) {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let mut server = Command::new(bin.join("moto_server"));
        server.args(["-H", "127.0.0.1", "-p", &address.port().to_string()]);
        let child = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let moto = Self(child);
        let listens = async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(DEADLINE, listens).await.expect("moto listens");
        (moto, address)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The panel's side of S3: begins and completes multipart uploads. Each request for links begins one, as the real panel does.
struct S3 {
    bin: PathBuf,
    endpoint: String,
    panel: TestPanel,
    max_concurrent: Option<u32>,
    /// Seconds that the links of each upload live; an hour where there are no more of them.
    lives: Mutex<Vec<u32>>,
    /// Ids of uploads that were begun.
    uploads: Mutex<Vec<String>>,
}

impl S3 {
    fn run(&self, arguments: &[&str], input: &Value) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/s3.py");
        let mut command = Command::new(self.bin.join("python3"));
        command.arg(script).arg(&self.endpoint).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn begin(&self, backup: Uuid, parts: usize) {
        let mut lives = self.lives.lock().unwrap();
        let life = if lives.is_empty() { 3600 } else { lives.remove(0) };
        let begun = self.run(&["begin", &backup.to_string(), &parts.to_string(), &life.to_string()], &json!({}));
        let begun: Value = serde_json::from_str(&begun).unwrap();
        let links = UploadLinks {
            parts: serde_json::from_value(begun["parts"].clone()).unwrap(),
            part_size: PART as u64,
            max_concurrent: self.max_concurrent,
        };
        self.uploads.lock().unwrap().push(begun["upload_id"].as_str().unwrap().to_owned());
        self.panel.lock().backups.entry(backup).or_default().links = Some(links);
    }

    /// The object that the store has after the panel has completed the latest upload.
    fn complete(&self, backup: Uuid, parts: &[Part], folder: &Path) -> Vec<u8> {
        let upload = self.uploads.lock().unwrap().last().unwrap().clone();
        self.run(&["complete", &backup.to_string(), &upload], &json!({"parts": parts}));
        let path = folder.join("object");
        self.run(&["get", &backup.to_string(), &path.display().to_string()], &json!({}));
        std::fs::read(path).unwrap()
    }
}

#[async_trait]
impl PanelFaults for S3 {
    async fn before(&self, call: &PanelCall) -> Result<(), PanelError> {
        if let PanelCall::BackupUpload(backup) = *call {
            tokio::task::block_in_place(|| self.begin(backup, SIZE.div_ceil(PART)));
        }
        Ok(())
    }

    async fn after(&self, _: &PanelCall) -> Result<(), PanelError> {
        Ok(())
    }
}

/// One backup on its way through the proxy.
struct Case {
    folder: tempfile::TempDir,
    s3: Arc<S3>,
    panel: TestPanel,
    proxy: Proxy,
    backup: Uuid,
    content: Vec<u8>,
}

impl Case {
    async fn new(
        bin: &Path,
        moto: SocketAddr,
        max_concurrent: Option<u32>,
        lives: &[u32],
        act: impl Fn(u32, u32) -> Act + Send + Sync + 'static,
    ) -> Self {
        let proxy = Proxy::start(moto, act).await;
        let panel = TestPanel::default();
        let backup = Uuid::new_v4();
        panel.lock().backups.entry(backup).or_default();
        let s3 = Arc::new(S3 {
            bin: bin.to_owned(),
            endpoint: proxy.url(),
            panel: panel.clone(),
            max_concurrent,
            lives: Mutex::new(lives.to_vec()),
            uploads: Mutex::default(),
        });
        let mut state = 1u64;
        let content = (0..SIZE).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        let case = Self {
            folder: tempfile::tempdir().unwrap(),
            panel: panel.connect(s3.clone()),
            s3,
            proxy,
            backup,
            content: content.collect(),
        };
        std::fs::write(case.archive(), &case.content).unwrap();
        case
    }

    fn archive(&self) -> PathBuf {
        self.folder.path().join(format!("{}.tar.gz", self.backup))
    }

    async fn upload(&self) -> Result<Vec<Part>, UploadError> {
        uploads().upload(&self.panel, self.backup, &self.archive(), &Progress::new()).await
    }

    /// Lets the store judge what it got.
    fn check(&self, parts: &[Part]) {
        let object = self.s3.complete(self.backup, parts, self.folder.path());
        assert!(object == self.content, "the object has {} other bytes", object.len());
    }

    fn rounds(&self) -> usize {
        self.s3.uploads.lock().unwrap().len()
    }
}

fn uploads() -> Uploads {
    let seconds = Duration::from_secs;
    let limits = Limits { connect: seconds(5), stall: seconds(1), answer: seconds(5) };
    Uploads::new(Clock::System, Blocking::Pool, Arc::new(Rate::new(None)), false).with_limits(limits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archives_arrive_whole_whatever_happens_to_their_parts() {
    let Some(bin) = python() else {
        eprintln!("skipped: moto cannot be installed; python3 with venv and PyPI are needed");
        return;
    };
    let (_server, moto) = Moto::start(&bin).await;
    in_order_and_at_once(&bin, moto).await;
    parts_that_fail(&bin, moto).await;
    links_that_expire(&bin, moto).await;
    a_crash_between_parts(&bin, moto).await;
    while_it_is_made(&bin, moto).await;
}

async fn in_order_and_at_once(bin: &Path, moto: SocketAddr) {
    for (max_concurrent, most) in [(None, 1), (Some(4), 4)] {
        let case = Case::new(bin, moto, max_concurrent, &[], |_, _| Act::Pass).await;
        case.check(&case.upload().await.unwrap());
        assert!(case.proxy.max_at_once() <= most);
        assert_eq!((case.rounds(), case.proxy.puts()), (1, 5));
        assert_eq!(case.s3.run(&["uploads"], &json!({})).trim(), "0");
    }
}

async fn parts_that_fail(bin: &Path, moto: SocketAddr) {
    for max_concurrent in [None, Some(3)] {
        let case = Case::new(bin, moto, max_concurrent, &[], |part, attempt| match (part, attempt) {
            (1, 1) => Act::Status(503, "SlowDown"),
            (1, 2) => Act::Status(500, "InternalError"),
            (2, 1) => Act::Cut(1 << 20),
            (2, 2) => Act::Stall(2 << 20),
            // The store has it, and its answer is lost.
            (3, 1) => Act::LoseAnswer,
            (4, 1) => Act::Early,
            _ => Act::Pass,
        })
        .await;
        case.check(&case.upload().await.unwrap());
        assert_eq!((case.rounds(), case.proxy.puts()), (1, 3 + 3 + 2 + 2 + 1));
    }
}

async fn links_that_expire(bin: &Path, moto: SocketAddr) {
    // The third part fails until the links have expired, which the proxy checks as S3 does.
    let case = Case::new(bin, moto, Some(2), &[2], |part, _| if part == 3 { Act::FailFor(2) } else { Act::Pass }).await;
    let parts = case.upload().await.unwrap();
    assert_eq!(case.rounds(), 2);
    case.check(&parts);
    assert_eq!(case.s3.run(&["uploads"], &json!({})).trim(), "1", "the first one is orphaned");
}

async fn a_crash_between_parts(bin: &Path, moto: SocketAddr) {
    let case = Case::new(bin, moto, None, &[], |part, attempt| match (part, attempt) {
        (3, 1) => Act::Stall(100_000),
        _ => Act::Pass,
    })
    .await;
    let (uploads, archive, progress) = (uploads(), case.archive(), Progress::new());
    tokio::select! {
        result = uploads.upload(&case.panel, case.backup, &archive, &progress) => panic!("{result:?}"),
        () = case.proxy.wait_for(3) => {}
    }
    let parts = case.upload().await.unwrap();
    assert_eq!((case.rounds(), case.proxy.puts()), (1, 6), "two parts were not sent again");
    case.check(&parts);
}

async fn while_it_is_made(bin: &Path, moto: SocketAddr) {
    let case = Case::new(bin, moto, Some(10), &[], |part, attempt| match (part, attempt) {
        (2, 1) => Act::Cut(1 << 20),
        _ => Act::Pass,
    })
    .await;
    let uploads = uploads();
    let streamed = uploads.streamed(&case.panel, case.backup, SIZE as u64, case.folder.path()).await;
    let (mut sink, upload) = streamed.unwrap();
    let content = case.content.clone();
    let writer = tokio::task::spawn_blocking(move || {
        content.chunks(300_000).try_for_each(|piece| sink.write_all(piece)).and_then(|()| sink.finish())
    });
    let progress = Progress::new();
    let (parts, written) = tokio::join!(upload.run(&progress), writer);
    assert_eq!(written.unwrap().unwrap(), SIZE as u64);
    case.check(&parts.unwrap());
}
