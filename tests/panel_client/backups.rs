//! Backups, restores and transfers.

use alula::config::{PanelConfig, Secret};
use alula::panel::client::HttpPanel;
use alula::panel::{BackupReport, Delivery, Panel, PanelError, Part, UploadLinks};
use serde_json::{Value, json};
use uuid::Uuid;

use super::panel_sim::{Fault, PanelSim, SimBackup};
use super::{add, options, panel};

const BACKUP: Uuid = Uuid::from_u128(0x37cf_6260_906a_4996_819d_a8c0_862a_6359);

fn sim_with(links: Value) -> (PanelSim, HttpPanel) {
    let sim = PanelSim::start();
    sim.with(|call_log| call_log.backups.push(SimBackup::new(&BACKUP.to_string(), links)));
    let panel = panel(&sim);
    (sim, panel)
}

fn links() -> Value {
    json!({"parts": ["https://s3.example/1?partNumber=1", "https://s3.example/1?partNumber=2"], "part_size": 100})
}

#[tokio::test]
async fn requests_are_like_those_of_wings() {
    let (sim, panel) = sim_with(links());
    let server = add(&sim, 1)[0];
    panel.backup_upload(BACKUP, 150).await.unwrap();
    panel.report_backup(BACKUP, &BackupReport::failure()).await.unwrap();
    let parts = vec![Part { etag: "\"9b2c\"".into(), part_number: 1 }];
    panel.report_backup(BACKUP, &BackupReport::success("b617", 150, Some(parts))).await.unwrap();
    panel.report_restore(BACKUP, true).await.unwrap();
    panel.report_restore(BACKUP, false).await.unwrap();
    panel.report_transfer(server, true).await.unwrap();
    panel.report_transfer(server, false).await.unwrap();
    let seen: Vec<_> = sim.with(|call_log| {
        let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
        let requests = call_log.requests.iter();
        requests.map(|request| (format!("{} {}", request.method, request.path), text(&request.body))).collect()
    });
    let backup = format!("/backups/{BACKUP}");
    let expected = [
        (format!("GET {backup}"), ""),
        (format!("POST {backup}"), r#"{"checksum":"","checksum_type":"","size":0,"successful":false,"parts":null}"#),
        (
            format!("POST {backup}"),
            r#"{"checksum":"b617","checksum_type":"sha1","size":150,"successful":true,"parts":[{"etag":"\"9b2c\"","part_number":1}]}"#,
        ),
        (format!("POST {backup}/restore"), r#"{"successful":true}"#),
        (format!("POST {backup}/restore"), r#"{"successful":false}"#),
        (format!("POST /servers/{server}/transfer/success"), "null"),
        (format!("POST /servers/{server}/transfer/failure"), "null"),
    ];
    assert_eq!(seen, expected.map(|(call, body)| (call, body.to_owned())));
    assert_eq!(sim.with(|call_log| call_log.requests[0].query["size"].clone()), "150");
}

#[tokio::test]
async fn links_are_read() {
    let (sim, panel) = sim_with(links());
    let expected = UploadLinks {
        parts: vec!["https://s3.example/1?partNumber=1".into(), "https://s3.example/1?partNumber=2".into()],
        part_size: 100,
        max_concurrent: None,
    };
    // More links than needed are allowed.
    for size in [1, 100, 101, 200] {
        assert_eq!(panel.backup_upload(BACKUP, size).await.unwrap(), expected);
    }
    for (concurrent, read) in [
        (json!(10), Some(10)),
        (json!(0), None),
        (json!(-1), None),
        (json!("10"), None),
        (Value::Null, None),
        (json!(1u64 << 40), Some(u32::MAX)),
    ] {
        sim.with(|call_log| call_log.backups[0].links["max_concurrent_uploads"] = concurrent.clone());
        assert_eq!(panel.backup_upload(BACKUP, 200).await.unwrap().max_concurrent, read, "{concurrent}");
    }
    // They would not hold the archive.
    let error = panel.backup_upload(BACKUP, 201).await.unwrap_err();
    assert!(matches!(error, PanelError::InvalidResponse { .. }), "{error}");
    assert!(error.to_string().contains("parts: expected 3 links for 201 bytes"), "{error}");
    for (key, value) in [
        ("part_size", json!(0)),
        ("part_size", Value::Null),
        ("part_size", json!(-5)),
        ("parts", json!([])),
        ("parts", json!([5, 6])),
        ("parts", json!(vec!["http://x"; 10_001])),
    ] {
        sim.with(|call_log| call_log.backups[0].links = links());
        sim.with(|call_log| call_log.backups[0].links[key] = value.clone());
        let error = panel.backup_upload(BACKUP, 150).await.unwrap_err();
        assert!(matches!(error, PanelError::InvalidResponse { .. }), "{key} {value}: {error}");
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[tokio::test]
async fn a_completed_backup_is_a_delivered_report_and_has_no_links() {
    let (sim, panel) = sim_with(links());
    let report = BackupReport::success("b617", 262, None);
    assert_eq!(panel.report_backup(BACKUP, &BackupReport::failure()).await, Ok(Delivery::Accepted));
    assert_eq!(panel.report_backup(BACKUP, &report).await, Ok(Delivery::Accepted), "a later success is accepted");
    assert_eq!(panel.report_backup(BACKUP, &report).await, Ok(Delivery::AlreadyCompleted));
    let error = panel.backup_upload(BACKUP, 150).await.unwrap_err();
    assert!(error.is_conflict() && error.is_final(), "{error}");
    assert_eq!(sim.with(|call_log| call_log.backups[0].reports.len()), 2);
    // Another reason for a 400 is no delivery.
    let body = json!({"errors": [{"code": "BadRequestHttpException", "status": "400",
        "detail": "The Authorization header provided was not in a valid format."}]});
    let _fault = sim.fault(Fault::on("backups").status(400).body(body.to_string()));
    let error = panel.report_backup(BACKUP, &report).await.unwrap_err();
    assert!(matches!(error, PanelError::Rejected { status: 400, .. }), "{error}");
}

#[tokio::test]
async fn an_unknown_backup_is_one_that_the_panel_itself_does_not_have() {
    let (sim, panel) = sim_with(links());
    let report = BackupReport::success("b617", 262, None);
    let other = Uuid::from_u128(5);
    let errors = async |panel: &HttpPanel, backup| {
        [
            panel.backup_upload(backup, 150).await.map(drop),
            panel.report_backup(backup, &report).await.map(drop),
            panel.report_restore(backup, true).await,
        ]
        .map(Result::unwrap_err)
    };
    for error in errors(&panel, other).await {
        assert!(error.is_unknown(), "{error}");
        assert!(error.to_string().contains(&other.to_string()), "{error}");
    }
    // A node that the panel does not know gets the same answer, whatever it asks for.
    for (token_id, token) in [("OtherTokenId1234", sim.token()), (sim.token_id(), "another")] {
        let config = PanelConfig { token_id: token_id.into(), token: Secret::new(token), ..options(&sim) };
        let other_node = HttpPanel::new(&config, false).unwrap();
        for backup in [other, BACKUP] {
            for error in errors(&other_node, backup).await {
                assert!(matches!(error, PanelError::Failed { .. }), "a result is not dropped because of it: {error}");
            }
        }
    }
    // The page of a proxy is not the panel's answer.
    let _fault = sim.fault(Fault::on("backups").status(404).body("<html>404 Not Found</html>"));
    for error in errors(&panel, BACKUP).await {
        assert!(matches!(error, PanelError::Failed { status: 404, .. }) && !error.is_unknown(), "{error}");
    }
}
