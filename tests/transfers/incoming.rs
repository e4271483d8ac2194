//! A server comes from a Wings, or does not.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use alula::files::replacement::Present;
use alula::model::{Incoming, Record, Timestamp, Transfer, TransferDirection};
use alula::panel::PanelError;
use alula::testing::{PanelCall, panel_server};
use http::{Method, StatusCode};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::node::{Node, add_backup, server, statuses, tree, wait};
use crate::wings::{Part, archive, form, open_form, sha256};

const BACKUP: &str = "0f0e0d0c-0b0a-4000-8000-00000000000a";

/// Sends half a form, and keeps the connection.
async fn half(node: &Node, token: &str, form: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(node.daemon.as_ref().unwrap().address).await.unwrap();
    let head = format!(
        "POST /api/transfers HTTP/1.1\r\nHost: node\r\nAuthorization: {token}\r\nContent-Length: {}\r\n\
         Content-Type: multipart/form-data; boundary=abc\r\n\r\n",
        form.len() + 1_000_000
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(form).await.unwrap();
    wait("it is being received", || node.transfer().is_some()).await;
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn the_forms_of_all_daemons_are_received() {
    let files = archive(&[("server.jar", b"jar"), ("world/region/r.0.0.mca", &[5; 100_000])]);
    let backup = vec![9; 50_000];
    let (sum, backup_sum) = (sha256(&files), sha256(&backup));
    let (name, file) = (format!("backup_{BACKUP}.tar.gz"), format!("{BACKUP}.tar.gz"));
    let (sum_name, short, short_sum) =
        (format!("checksum_backup_{BACKUP}.tar.gz"), format!("backup-{BACKUP}"), format!("backup-checksum-{BACKUP}"));
    let archived: Part<'_> = ("archive", Some("archive.tar.gz"), &files);
    let forms: [(&str, Vec<Part<'_>>, usize); 5] = [
        (
            "Pelican",
            vec![
                archived,
                ("checksum_archive", None, sum.as_bytes()),
                (&name, Some(&file), &backup),
                (&sum_name, None, backup_sum.as_bytes()),
                ("install_logs", Some("install.log"), b"the log"),
            ],
            1,
        ),
        ("Pterodactyl", vec![archived, ("checksum", None, sum.as_bytes())], 0),
        (
            "Calagopus",
            vec![
                archived,
                ("checksum", None, sum.as_bytes()),
                ("install-logs", Some("install.log"), b"the log"),
                (&short, Some(&file), &backup),
                (&short_sum, None, backup_sum.as_bytes()),
            ],
            1,
        ),
        ("another order", vec![("checksum_archive", None, sum.as_bytes()), archived], 0),
        (
            "something new",
            vec![archived, ("novelty", Some("x"), &[1; 300_000]), ("checksum_archive", None, sum.as_bytes())],
            0,
        ),
    ];
    for (daemon, parts, backups) in forms {
        let node = Node::new().await;
        let mut events = node.events();
        assert_eq!(node.receive(&node.token("one", json!({})), &form(&parts)).await, StatusCode::OK, "{daemon}");
        wait("the panel has it", || node.reported() == [true]).await;
        assert_eq!(std::fs::read(node.data().join("server.jar")).unwrap(), b"jar", "{daemon}");
        assert_eq!(std::fs::read(node.data().join("world/region/r.0.0.mca")).unwrap().len(), 100_000);
        assert_eq!(node.record().unwrap().backups.len(), backups, "{daemon}");
        wait("browsers know", || statuses(&mut events) == ["success"]).await;
        let again = node.receive(&node.token("one", json!({})), &form(&parts)).await;
        assert_eq!(again, StatusCode::FORBIDDEN, "the token was used");
        let other = node.receive(&node.token("two", json!({})), &form(&parts)).await;
        assert_eq!(other, StatusCode::CONFLICT, "the server is here");
        assert_eq!(std::fs::read(node.data().join("server.jar")).unwrap(), b"jar");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_and_broken_forms_leave_nothing() {
    let files = archive(&[("server.jar", b"jar")]);
    let outside = archive(&[("../../evil", b"evil")]);
    let cut = &files[..files.len() / 2];
    let (sum, outside_sum, cut_sum) = (sha256(&files), sha256(&outside), sha256(cut));
    let archived: Part<'_> = ("archive", Some("archive.tar.gz"), &files);
    let checked: Part<'_> = ("checksum_archive", None, sum.as_bytes());
    let backup = format!("backup_{BACKUP}.tar.gz");
    let backup_sum = format!("checksum_backup_{BACKUP}.tar.gz");
    let long = "a".repeat(10_000);
    let forms: Vec<(&str, Vec<u8>)> = vec![
        ("no form", b"hello".to_vec()),
        ("no parts", form(&[])),
        ("no archive", form(&[checked])),
        ("no checksum", form(&[archived])),
        ("another checksum", form(&[archived, ("checksum_archive", None, &[b'0'; 64])])),
        ("an empty checksum", form(&[archived, ("checksum_archive", None, b"")])),
        ("a long checksum", form(&[archived, ("checksum_archive", None, long.as_bytes())])),
        ("two archives", form(&[archived, archived, checked])),
        ("cut off", open_form(&[archived, checked])),
        ("cut off in the archive", open_form(&[archived])[..120].to_vec()),
        ("a damaged archive", form(&[("archive", Some("a"), cut), ("checksum_archive", None, cut_sum.as_bytes())])),
        (
            "no archive at all",
            form(&[("archive", Some("a"), b"text"), ("checksum_archive", None, sha256(b"text").as_bytes())]),
        ),
        (
            "an archive that leads out",
            form(&[("archive", Some("a"), &outside), ("checksum_archive", None, outside_sum.as_bytes())]),
        ),
        ("a backup that is a path", form(&[archived, checked, ("backup_../../x", Some("x"), b"x")])),
        ("a backup without an id", form(&[archived, checked, ("backup_x.tar.gz", Some("x"), b"x")])),
        ("a file name that is a path", form(&[("archive", Some("../../a"), &files), checked])),
        ("a backup without a checksum", form(&[archived, checked, (&backup, Some("x"), b"x")])),
        (
            "a backup with another checksum",
            form(&[archived, checked, (&backup, Some("x"), b"x"), (&backup_sum, None, sum.as_bytes())]),
        ),
    ];
    for (what, form) in forms {
        let node = Node::new().await;
        let mut events = node.events();
        let status = node.receive(&node.token("one", json!({})), &form).await;
        assert!(status.is_client_error(), "{what}: {status}");
        wait("the panel has it", || node.reported() == [false]).await;
        node.is_gone().await;
        assert_eq!(statuses(&mut events), ["failure"], "{what}");
        assert!(!node.root().join("evil").exists());
    }
    let node = Node::new().await;
    let status = node.receive_with(&node.token("one", json!({})), "application/json", b"{}").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    node.is_gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_over_its_limit_does_not_come() {
    let node = Node::new().await;
    let mut limited = panel_server("run");
    limited.settings.build.disk_space = 1;
    node.panel.add(server(), limited);
    let noise: Vec<u8> =
        (0..3_000_000u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let files = archive(&[("big", &noise)]);
    let sum = sha256(&files);
    let form = form(&[("archive", Some("a"), &files), ("checksum_archive", None, sum.as_bytes())]);
    let status = node.receive(&node.token("one", json!({})), &form).await;
    assert!(status.is_client_error(), "{status}");
    wait("the panel has it", || node.reported() == [false]).await;
    node.is_gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_the_right_token_learn_nothing() {
    let node = Node::new().await;
    let body = form(&[]);
    for (token, expected) in [
        ("", StatusCode::UNAUTHORIZED),
        ("Basic x", StatusCode::UNAUTHORIZED),
        ("Bearer ", StatusCode::UNAUTHORIZED),
        ("Bearer a.b.c", StatusCode::UNAUTHORIZED),
        (&*node.token("a", json!({"exp": 1})), StatusCode::UNAUTHORIZED),
        (&*node.token("b", json!({"sub": "x"})), StatusCode::UNAUTHORIZED),
        (&*node.token("c", json!({"scope": "websocket"})), StatusCode::FORBIDDEN),
    ] {
        assert_eq!(node.receive(token, &body).await, expected, "{token}");
    }
    assert!(node.record().is_none() && node.reported().is_empty());
    // The panel does not know that this node gets the server.
    let rejected = PanelError::Rejected { call: String::new(), status: 403, detail: String::new() };
    node.panel.fail(|call| matches!(call, PanelCall::Server(_)), rejected);
    assert_eq!(node.receive(&node.token("d", json!({})), &body).await, StatusCode::FORBIDDEN);
    wait("the panel has it", || node.reported() == [false]).await;
    assert!(node.record().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_form_does_not_end_the_first_one() {
    let node = Node::new().await;
    let files = archive(&[("server.jar", &[1; 500_000])]);
    let stream = half(&node, &node.token("one", json!({})), &open_form(&[("archive", Some("a"), &files)])).await;
    wait("it arrives", || node.record().is_some()).await;
    assert_eq!(node.receive(&node.token("two", json!({})), &form(&[])).await, StatusCode::CONFLICT);
    let session = json!({"server": server(), "secret": "s".repeat(32)}).to_string();
    let request = http::Request::post("/api/transfers/session").header("authorization", node.token("three", json!({})));
    assert_eq!(node.answer(request.body(session.into()).unwrap()).await, StatusCode::CONFLICT);
    assert!(node.transfer().is_some_and(|transfer| transfer.is_pending()));
    assert!(node.reported().is_empty(), "the panel has ended the transfer");
    drop(stream);
    node.is_gone().await;
    assert_eq!(node.reported(), [false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_transfer_leaves_nothing() {
    let files = archive(&[("server.jar", &[1; 500_000])]);
    for call in [0, 1] {
        let node = Node::new().await;
        let token = node.token("one", json!({}));
        let stream = half(&node, &token, &open_form(&[("archive", Some("a"), &files)])).await;
        let began = Instant::now();
        let path = format!("/api/transfers/{}", server());
        let body = json!({"json": {"server_id": server(), "server": {"uuid": server()}}}).to_string();
        let (status, _) = match call {
            0 => node.ask(Method::DELETE, &path, "").await,
            _ => node.ask(Method::DELETE, "/api/transfer", body.clone()).await,
        };
        assert_eq!(status, StatusCode::ACCEPTED);
        wait("the panel has it", || node.reported() == [false]).await;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        node.is_gone().await;
        assert_eq!(node.ask(Method::DELETE, &path, "").await.0, StatusCode::CONFLICT, "nothing is received");
        assert_eq!(node.ask(Method::DELETE, "/api/transfer", body).await.0, StatusCode::ACCEPTED);
        drop(stream);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_or_a_daemon_that_breaks_off_leaves_nothing() {
    let files = archive(&[("server.jar", &[1; 500_000])]);
    let begun =
        open_form(&[("archive", Some("a"), &files), (&format!("backup_{BACKUP}.tar.gz"), Some("b"), &[2; 9000])]);
    let node = Node::new().await;
    let stream = half(&node, &node.token("one", json!({})), &begun).await;
    drop(stream);
    wait("the panel has it", || node.reported() == [false]).await;
    node.is_gone().await;
    for cut in [10, 400, begun.len()] {
        let mut node = Node::new().await;
        node.panel_is_away();
        let stream = half(&node, &node.token("one", json!({})), &begun[..cut]).await;
        node.die();
        drop(stream);
        node.start().await;
        wait("it has failed", || node.transfer().is_some_and(|transfer| !transfer.is_pending())).await;
        assert!(node.record().unwrap().holding_transfer().is_some(), "until the panel knows it");
        node.panel.succeed();
        wait("the panel has it", || node.reported() == [false]).await;
        node.is_gone().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_is_reported_after_a_restart_and_the_panel_has_the_final_word() {
    let files = archive(&[("server.jar", b"jar")]);
    let sum = sha256(&files);
    let body = form(&[("archive", Some("a"), &files), ("checksum_archive", None, sum.as_bytes())]);
    for known in [true, false] {
        let mut node = Node::new().await;
        node.panel_is_away();
        assert_eq!(node.receive(&node.token("one", json!({})), &body).await, StatusCode::OK);
        assert!(node.record().unwrap().holding_transfer().is_some(), "until the panel knows it");
        node.die();
        let rejected = PanelError::Rejected { call: String::new(), status: 403, detail: String::new() };
        node.panel.succeed();
        let fails = move |call: &PanelCall| match call {
            PanelCall::ReportTransfer(_) => true,
            PanelCall::Server(_) => !known,
            _ => false,
        };
        node.panel.fail(fails, rejected);
        node.start().await;
        if known {
            wait("it is settled", || node.transfer().is_some_and(|transfer| transfer.reported)).await;
            assert_eq!(std::fs::read(node.data().join("server.jar")).unwrap(), b"jar");
        } else {
            node.is_gone().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_at_the_last_steps_leaves_nothing_or_what_was_there() {
    for was_here in [false, true] {
        let mut node = Node::new().await;
        let parked = was_here.then(|| node.node().context.clock.now());
        node.add_server();
        let before = tree(&node.data());
        let (token, layout) = (Uuid::from_u128(7), node.node().context.node.layout.clone());
        let backup = add_backup(&node, BACKUP, b"came along");
        // As a reception has it: no pass sweeps the folders meanwhile.
        let files = node.node().context.operations.files().exclusive(server()).await;
        let staging =
            layout.begin_replacement(server(), token, Present::Discard, None, &AtomicBool::new(false)).unwrap();
        staging.finish(&AtomicBool::new(false)).unwrap();
        // Backups have their names, the files are exchanged, and the result is not recorded.
        layout.exchange_replacement(server(), token).unwrap();
        let incoming = Incoming { backups: vec![backup], parked, ..Incoming::default() };
        let transfer = Transfer::new(token, Timestamp::from_millis(1), TransferDirection::Incoming(incoming));
        node.panel_is_away();
        let came = move |record: &mut Record| {
            record.backups.clear();
            record.transfer = Some(transfer);
        };
        node.node().context.store.commit(server(), came).unwrap();
        node.die();
        drop(files);
        node.panel.succeed();
        node.start().await;
        wait("the panel has it", || node.reported() == [false]).await;
        if was_here {
            wait("it is as it was", || node.record().is_some_and(|record| record.parked == parked)).await;
            assert_eq!(tree(&node.data()), before);
            assert!(!layout.backup_archive(server(), backup).exists());
        } else {
            node.is_gone().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_at_which_a_server_comes_is_limited() {
    let node = Node::with_config(|config| config.transfer_limits.download = Some(200_000)).await;
    let noise: Vec<u8> = (0..100_000u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let files = archive(&[("big", &noise)]);
    assert!(files.len() > 250_000, "{}", files.len());
    let sum = sha256(&files);
    let form = form(&[("archive", Some("a"), &files), ("checksum_archive", None, sum.as_bytes())]);
    let began = Instant::now();
    assert_eq!(node.receive(&node.token("one", json!({})), &form).await, StatusCode::OK);
    assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
}
