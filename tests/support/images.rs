//! The image of the tests and benchmarks with a real daemon: a static busybox with a small game, imported without a registry.
//!
//! Its name has the address of a registry without a listener, so that a pull fails at once and the daemon falls
//! back to the local image. The tag is a hash of the content: a changed image has another name, and runs share one.

#![allow(dead_code, reason = "each binary uses a part of it")]

#[path = "busybox.rs"]
mod busybox;

use std::process::Command;

use bollard::Docker;
use bollard::query_parameters::CreateImageOptions;
use busybox::busybox;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};

const REPOSITORY: &str = "127.0.0.1:1/alula-test/game";
const CHANGES: [&str; 3] = ["WORKDIR /home/container", "ENV HOME=/home/container", "CMD [\"/bin/sh\", \"/bin/game\"]"];

/// The programs that the game and install scripts use.
const PROGRAMS: [&str; 11] = ["sh", "cat", "echo", "sleep", "touch", "rm", "id", "mkdir", "head", "ls", "true"];

/// A game: records each start and stop in a file, is ready at once, and has a few commands.
const GAME: &str = r#"trap 'echo signal >> stops.txt; exit 0' TERM
echo start >> starts.txt
echo "booting"
echo "ready"
while true; do
    if ! IFS= read -r line; then
        sleep 1
        continue
    fi
    case "$line" in
        stop) echo command >> stops.txt; exit 0 ;;
        crash) exit 7 ;;
        say*) echo "<<${line#say }>>" ;;
        flood*) n=${line#flood }; while [ "$n" -gt 0 ]; do echo "line $n of a flood, which is as long as a line of a game's log is"; n=$((n - 1)); done ;;
    esac
done
"#;

/// Imports the image into an engine if it is missing, and returns its name.
pub async fn game_image(docker: &Docker) -> String {
    let archive = archive();
    let mut hash = Sha256::new();
    hash.update(&archive);
    CHANGES.iter().for_each(|change| hash.update(change));
    let tag: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("{REPOSITORY}:{tag}");
    if docker.inspect_image(&name).await.is_ok() {
        return name;
    }
    let options = CreateImageOptions {
        from_src: Some("-".into()),
        repo: Some(REPOSITORY.into()),
        tag: Some(tag),
        changes: CHANGES.iter().map(|change| (*change).to_owned()).collect(),
        ..CreateImageOptions::default()
    };
    let body = bollard::body_full(archive.into());
    let mut import = std::pin::pin!(docker.create_image(Some(options), Some(body), None));
    while let Some(step) = import.next().await {
        step.expect("the image can be imported");
    }
    name
}

/// A root file system around busybox; the same input gives the same bytes.
fn archive() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    for name in ["bin", "etc", "tmp", "dev", "proc", "sys", "mnt", "home/container"] {
        std::fs::create_dir_all(root.join(name)).expect("a folder");
    }
    std::fs::copy(busybox(), root.join("bin/busybox")).expect("busybox");
    for name in PROGRAMS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("a link");
    }
    std::fs::write(root.join("bin/game"), GAME).expect("the game");
    std::fs::write(root.join("etc/machine-id"), "").expect("a file");
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").expect("a file");
    std::fs::write(root.join("etc/group"), "root:x:0:\n").expect("a file");
    let tar = Command::new("tar")
        .arg("-C")
        .arg(root)
        .args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-c", "."])
        .output()
        .expect("tar runs");
    assert!(tar.status.success(), "tar: {}", String::from_utf8_lossy(&tar.stderr));
    tar.stdout
}
