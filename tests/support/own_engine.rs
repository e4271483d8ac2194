//! A container engine for one test, which may stop, kill and start it.

#![allow(dead_code, reason = "each binary uses a part of it")]

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Time for an engine to stop containers, and to start on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A dockerd with everything in a folder of its own.
pub struct OwnEngine {
    folder: tempfile::TempDir,
    dockerd: Option<Child>,
}

impl OwnEngine {
    /// Starts it, and waits until it answers.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("alula-engine-").tempdir().expect("a temporary folder");
        let mut engine = Self { folder, dockerd: None };
        engine.up().await;
        engine
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// Starts it again.
    pub async fn up(&mut self) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let output = File::options().append(true).create(true).open(path("output")).expect("a file");
        // In a network namespace of its own: engines that share one remove each other's bridges.
        let dockerd = Command::new("unshare")
            .args(["--net", "busybox", "sh", "-c", "busybox ip link set lo up && exec dockerd \"$@\"", "dockerd"])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
            .args(["--host", &format!("unix://{}", path("docker.sock"))])
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--shutdown-timeout=10"])
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("dockerd cannot be started ({error}): install a container engine"));
        self.dockerd = Some(dockerd);
        let begun = Instant::now();
        while crate::daemon_process::engine(Some(&self.socket())).await.is_err() {
            assert!(begun.elapsed() < TIMEOUT, "dockerd does not come up:\n{}", self.output());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Shuts it down with SIGTERM, which stops its containers.
    pub fn stop(&mut self) {
        if let Some(mut dockerd) = self.dockerd.take() {
            if let Ok(pid) = i32::try_from(dockerd.id())
                && let Some(pid) = Pid::from_raw(pid)
            {
                let _ = kill_process(pid, Signal::TERM);
            }
            let begun = Instant::now();
            while dockerd.try_wait().expect("a child").is_none() {
                if begun.elapsed() > TIMEOUT {
                    let _ = dockerd.kill();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Kills it with SIGKILL; containers keep running until the next start.
    pub fn kill(&mut self) {
        let containerd = self.containerd();
        let mut dockerd = self.dockerd.take().expect("an engine that runs");
        dockerd.kill().expect("a child");
        dockerd.wait().expect("a child");
        // It ends shortly after its parent.
        let begun = Instant::now();
        while containerd.is_some() && self.containerd() == containerd {
            assert!(begun.elapsed() < TIMEOUT, "containerd outlives dockerd");
            std::thread::sleep(Duration::from_millis(20));
        }
        // Without an init process that reaps orphans, a new dockerd would consider it alive.
        let _ = std::fs::remove_file(self.containerd_pid());
    }

    fn containerd_pid(&self) -> PathBuf {
        self.folder.path().join("exec/containerd/containerd.pid")
    }

    /// Its containerd, if that is alive.
    fn containerd(&self) -> Option<Pid> {
        let pid = std::fs::read_to_string(self.containerd_pid()).ok()?;
        let pid = Pid::from_raw(pid.trim().parse().ok()?)?;
        let command = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
        String::from_utf8_lossy(&command).contains(&*self.folder.path().to_string_lossy()).then_some(pid)
    }

    fn output(&self) -> String {
        let output = std::fs::read(self.folder.path().join("output")).unwrap_or_default();
        String::from_utf8_lossy(&output[output.len().saturating_sub(4000)..]).into_owned()
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        self.stop();
        // An engine that was killed leaves containers behind.
        let folder = self.folder.path().to_string_lossy().into_owned();
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|_| String::from_utf8_lossy(&command).contains(&folder)) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for place in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
            if place.starts_with(&folder) {
                let _ = Command::new("umount").args(["-l", place]).status();
            }
        }
    }
}
