//! Who gets in, and when a session ends.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::daemon_process::{Node, until};
use crate::user::{PASSWORD, User, feed, noise, text};
use crate::with_user;

/// A session that is open, with its first answer read.
struct Open {
    process: std::process::Child,
}

impl Open {
    /// Opens a session and waits until it has a file open for writing.
    async fn writing(user: &User, name: &str) -> Self {
        let source = user.file("endless", &noise(8 << 20));
        let mut command = user.sftp();
        // Slow enough to be open for minutes.
        command.args(["-l", "1000"]);
        let mut arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        // The destination comes last.
        let limit = arguments.split_off(arguments.len() - 2);
        let at = arguments.len() - 1;
        arguments.splice(at..at, limit);
        let mut process = Command::new("sftp")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sftp");
        let mut input = process.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut input, format!("put {} {name}\n", source.display()).as_bytes()).expect("a pipe");
        drop(input);
        let path = user.data.join(name);
        until("the beginning of an upload", async || path.exists().then_some(())).await;
        Self { process }
    }

    async fn ends(mut self) {
        until("the end of a session", async || self.process.try_wait().expect("a child")).await;
    }

    fn is_open(&mut self) -> bool {
        self.process.try_wait().expect("a child").is_none()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_with_the_rights_of_their_user_and_with_the_availability_of_the_server() {
    with_user(json!({}), async |node: &mut Node, user: User| {
        let other = User::add(node, &user.server, "other", &["*"]);
        let (first, mut second) = (Open::writing(&user, "one").await, Open::writing(&other, "two").await);
        let body = json!({"user": user.uuid, "servers": [user.server]});
        assert_eq!(node.post("/api/deauthorize-user", body).await, 204);
        first.ends().await;
        assert!(second.is_open());
        assert_eq!(node.post("/api/deauthorize-user", json!({"user": other.uuid, "servers": []})).await, 204);
        second.ends().await;

        let open = Open::writing(&user, "three").await;
        node.panel.edit(&user.server, |server| server.settings["suspended"] = json!(true));
        assert_eq!(node.post(&format!("/api/servers/{}/sync", user.server), json!({})).await, 204);
        open.ends().await;
        let refused = user.try_batch("ls\nget missing\n").unwrap_err();
        assert!(refused.contains("Permission denied"), "{refused}");
        node.panel.edit(&user.server, |server| server.settings["suspended"] = json!(false));
        assert_eq!(node.post(&format!("/api/servers/{}/sync", user.server), json!({})).await, 204);
        user.batch("ls\n");

        let open = Open::writing(&user, "four").await;
        node.delete(&user.server).await;
        open.ends().await;
        assert!(user.try_batch("ls\n").is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_to_log_in_are_limited_and_an_outage_of_the_panel_refuses() {
    with_user(json!({}), async |node: &mut Node, user: User| {
        let user = &user;
        let with_password = &|password: &str| {
            let mut command = Command::new("sshpass");
            command.args([
                "-p",
                password,
                "sftp",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ]);
            command.args(["-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1", "-F", "none"]);
            command.args(["-P", &user.port, &user.at_host()]);
            let output = feed(&mut command, "ls\n");
            (output.status.success(), text(&output))
        };
        let (succeeded, output) = with_password(PASSWORD);
        assert!(succeeded, "{output}");
        let mark = node.panel.mark();
        let guess = &|thread: usize| {
            for number in 0..10 {
                let (succeeded, output) = with_password(&format!("wrong {thread} {number}"));
                assert!(!succeeded, "{output}");
            }
        };
        std::thread::scope(|scope| (0..8).for_each(|thread| drop(scope.spawn(move || guess(thread)))));
        let asked = node.panel.matching(mark, "POST", "/sftp/auth").len();
        assert!((10..80).contains(&asked), "the panel was asked {asked} times");

        node.panel.pause();
        let begun = std::time::Instant::now();
        assert!(user.try_batch("ls\n").is_err());
        assert!(begun.elapsed() < Duration::from_secs(40));
        node.panel.resume();
    })
    .await;
}
