//! The cost of SFTP: `cargo bench --bench sftp`. OpenSSH's `sftp` transfers a file on loopback, up and down.
//!
//! The real daemon, as released, against OpenSSH's own server, alternately and with the same cipher. It needs root, an engine, and
//! `openssh-client`, `openssh-server` and `openssh-sftp-server`.

#[path = "../tests/support/daemon_process.rs"]
mod daemon_process;
#[path = "../tests/support/images.rs"]
mod images;
#[path = "../tests/support/panel_sim.rs"]
mod panel_sim;
#[path = "node/process.rs"]
#[allow(dead_code)]
mod process;
#[path = "node/table.rs"]
#[allow(dead_code)]
mod table;
#[path = "../tests/sftp/user.rs"]
#[allow(dead_code)]
mod user;

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use daemon_process::{Node, NodeOptions, free_port, with_node};
use serde_json::json;
use user::{User, noise, run};

/// Bytes of the file.
const SIZE: usize = 1 << 30;
/// Number of transfers of each kind; each figure is their median.
const REPEATS: usize = 3;
/// CPU seconds per GB.
const UP: f64 = 2.0;
const DOWN: f64 = 1.7;
/// Memory above that of an idle daemon, MiB.
const MEMORY: f64 = 32.0;

/// OpenSSH's server, which ends when this is dropped.
struct OpenSsh {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
    files: PathBuf,
}

impl OpenSsh {
    fn start(user: &User) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at("host")));
        std::fs::create_dir_all("/run/sshd").expect("the folder of sshd");
        std::fs::create_dir(at("files")).expect("a folder");
        let port = free_port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nPidFile none\n\
             PermitRootLogin yes\nUsePAM no\nSubsystem sftp /usr/lib/openssh/sftp-server\n",
            at("host").display(),
            user.path("key.pub").display(),
        );
        std::fs::write(at("config"), config).expect("a file");
        let process = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(at("config"))
            .stderr(Stdio::null())
            .spawn()
            .expect("sshd; install openssh-server");
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, port, files: at("files"), _folder: folder }
    }

    /// CPU time of all connections that have ended.
    fn cpu(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("a process");
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = (11..15).filter_map(|field| fields.get(field)?.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for OpenSsh {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Seconds of the server's CPU and of the transfer.
#[derive(Debug, Clone, Copy)]
struct Cost {
    cpu: f64,
    wall: f64,
}

fn sftp(user: &User, port: u16, at: &str, commands: &str) {
    let mut command = Command::new("sftp");
    command.args(user.options()).args(["-c", "aes128-gcm@openssh.com", "-b", "-", "-P", &port.to_string(), at]);
    let output = user::feed(&mut command, commands);
    assert!(output.status.success(), "{}", user::text(&output));
}

/// Measures a transfer; `cpu` is the server's time so far.
async fn cost(mut transfer: impl FnMut(), cpu: impl Fn() -> Duration) -> Cost {
    let (before, begun) = (cpu(), Instant::now());
    transfer();
    let wall = begun.elapsed();
    // The end of the connection is accounted a moment later.
    tokio::time::sleep(Duration::from_millis(500)).await;
    Cost { cpu: (cpu() - before).as_secs_f64(), wall: wall.as_secs_f64() }
}

fn resident(pid: u32) -> f64 {
    process::memory(pid).anonymous as f64 / 1024.0
}

/// Costs of our server and of OpenSSH's, up and down, and the most memory above idle.
struct Figures {
    ours: [Vec<Cost>; 2],
    theirs: [Vec<Cost>; 2],
    memory: f64,
}

async fn measure(node: &mut Node, user: &User) -> Figures {
    let (source, back) = (user.file("source", &noise(SIZE)), user.path("back"));
    let openssh = OpenSsh::start(user);
    let ours_port: u16 = user.port.parse().expect("a port");
    let pid = node.pid();
    let idle = resident(pid);
    let mut figures = Figures { ours: Default::default(), theirs: Default::default(), memory: 0.0 };
    let commands = |remote: &Path| {
        [
            format!("put {} {}\n", source.display(), remote.display()),
            format!("get {} {}\n", remote.display(), back.display()),
        ]
    };
    for _ in 0..REPEATS {
        for direction in 0..2 {
            let ours = &commands(Path::new("/file"))[direction];
            let mut most = 0.0_f64;
            let at = user.at_host();
            let one = cost(|| sftp(user, ours_port, &at, ours), || process::cpu_ever(pid)).await;
            most = most.max(resident(pid));
            figures.ours[direction].push(one);
            figures.memory = figures.memory.max(most - idle);
            let theirs = &commands(&openssh.files.join("file"))[direction];
            let one = cost(|| sftp(user, openssh.port, "root@127.0.0.1", theirs), || openssh.cpu()).await;
            figures.theirs[direction].push(one);
        }
    }
    figures
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut table = table::Table::default();
    runtime.block_on(async {
        let options = NodeOptions { debug: false, ..NodeOptions::new(env!("CARGO_BIN_EXE_alula")) };
        with_node(options, async |node: &mut Node| {
            node.boot().await;
            let server = node.define("true");
            node.panel.edit(&server, |server| {
                server.settings["skip_egg_scripts"] = json!(true);
                server.settings["build"]["disk_space"] = json!(0);
            });
            let mark = node.panel.mark();
            node.create(&server, false).await;
            node.panel.wait_install(mark, &server).await;
            node.wait_state(&server, "offline").await;
            let user = User::add(node, &server, "bench", &["*"]);
            let Figures { ours, theirs, memory } = measure(node, &user).await;
            report(&mut table, &ours, &theirs, memory);
        })
        .await;
    });
    table.print();
}

fn report(table: &mut table::Table, ours: &[Vec<Cost>; 2], theirs: &[Vec<Cost>; 2], memory: f64) {
    let gigabytes = SIZE as f64 / 1e9;
    let median = |costs: &[Cost], of: fn(&Cost) -> f64| table::median(costs.iter().map(of).collect());
    for (direction, (name, target)) in [("up", UP), ("down", DOWN)].into_iter().enumerate() {
        let cpu = |costs: &[Vec<Cost>; 2]| median(&costs[direction], |cost| cost.cpu) / gigabytes;
        let rate =
            |costs: &[Vec<Cost>; 2]| SIZE as f64 / f64::from(1 << 20) / median(&costs[direction], |cost| cost.wall);
        let (our_cpu, their_cpu, our_rate, their_rate) = (cpu(ours), cpu(theirs), rate(ours), rate(theirs));
        table.row(
            &format!("{name}: CPU seconds per GB"),
            format!("{our_cpu:.2}"),
            format!("{their_cpu:.2}"),
            format!("{target}"),
            our_cpu <= target,
        );
        table.row(
            &format!("{name}: MiB per second"),
            format!("{our_rate:.0}"),
            format!("{their_rate:.0}"),
            "that of OpenSSH".into(),
            our_rate >= their_rate,
        );
    }
    table.row("memory above idle, MiB", format!("{memory:.1}"), "-".into(), format!("{MEMORY}"), memory <= MEMORY);
}
