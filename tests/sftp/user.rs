//! A user with a password and a key, and the commands of clients.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::daemon_process::Node;
use crate::panel_sim::SftpUser;

/// A user of a server.
pub struct User {
    pub uuid: String,
    pub name: String,
    pub port: String,
    pub server: String,
    /// The server's files.
    pub data: PathBuf,
    /// Files of the user: a key, and what a test puts there.
    pub folder: tempfile::TempDir,
}

/// The password of all users.
pub const PASSWORD: &str = "correct-horse";

impl User {
    /// Adds a user to the panel.
    pub fn add(node: &Node, server: &str, name: &str, permissions: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key = folder.path().join("key");
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
        let line = std::fs::read_to_string(folder.path().join("key.pub")).expect("a key");
        let key = line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let user = Self {
            uuid: uuid::Uuid::new_v4().to_string(),
            name: format!("{name}.{}", &server[..8]),
            port: node.number("/system/sftp/bind_port").to_string(),
            server: server.to_owned(),
            data: node.data(server),
            folder,
        };
        let entry = SftpUser {
            uuid: user.uuid.clone(),
            username: user.name.clone(),
            password: PASSWORD.to_owned(),
            key: Some(key),
            server: server.to_owned(),
            permissions: permissions.iter().map(ToString::to_string).collect(),
        };
        node.panel.with(|log| log.sftp_users.push(entry));
        user
    }

    /// A file of the user.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Creates a file of the user with this content.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a file");
        path
    }

    /// Options of OpenSSH's commands.
    pub fn options(&self) -> Vec<String> {
        let options = [
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "IdentitiesOnly=yes",
            "ConnectTimeout=20",
        ];
        let mut arguments: Vec<String> = options.iter().flat_map(|option| ["-o".into(), (*option).into()]).collect();
        let key = format!("IdentityFile={}", self.path("key").display());
        arguments.extend(["-F".into(), "none".into(), "-o".into(), key]);
        arguments
    }

    /// `USER@HOST`.
    pub fn at_host(&self) -> String {
        format!("{}@127.0.0.1", self.name)
    }

    /// OpenSSH's `sftp` with these commands.
    pub fn sftp(&self) -> Command {
        let mut command = Command::new("sftp");
        command.args(self.options()).args(["-b", "-", "-P", &self.port, &self.at_host()]);
        command
    }

    /// The output of OpenSSH's `sftp` for these commands, each of which must succeed.
    pub fn batch(&self, commands: &str) -> String {
        self.try_batch(commands).unwrap_or_else(|output| panic!("{commands}\n{output}"))
    }

    /// The same; the error is the output.
    pub fn try_batch(&self, commands: &str) -> Result<String, String> {
        let output = feed(&mut self.sftp(), commands);
        let text = text(&output);
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    /// The content of a file of the server.
    pub fn stored(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.data.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

/// The output of a command that gets this input.
pub fn feed(command: &mut Command, input: &str) -> Output {
    use std::io::Write as _;
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; install it (test.sh does)"));
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("a command that reads");
    child.wait_with_output().expect("a child")
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; install it (test.sh does)"));
    let text = text(&output);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

/// What a command has printed.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// Bytes that do not repeat soon.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

/// The modification time of a file, seconds since 1970.
pub fn modified(path: &Path) -> i64 {
    std::os::unix::fs::MetadataExt::mtime(&std::fs::metadata(path).expect("a file"))
}
