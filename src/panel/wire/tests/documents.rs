//! Documents recorded from a real panel.

use serde_json::json;

use super::super::*;

#[test]
fn recorded_servers_are_read_without_loss() {
    let documents: Vec<Value> =
        serde_json::from_str(include_str!("../../../../tests/fixtures/panel/servers.json")).unwrap();
    assert!(documents.len() > 20);
    for document in documents {
        let (scenario, body) = (&document["scenario"], &document["body"]);
        let mut settings = body["settings"].clone();
        if settings["egg"]["features"] == json!([]) {
            settings["egg"]["features"] = json!({});
        }
        let id: ServerId = settings["uuid"].as_str().unwrap().parse().unwrap();
        let read = server(id, body).unwrap_or_else(|error| panic!("{scenario}: {error}"));
        assert_eq!(json!(read.suspended), settings["suspended"], "{scenario}");

        // The model may leave out parts of the document, but must not change the others.
        let again = serde_json::to_value(&read.settings).unwrap();
        for key in ["id", "meta", "invocation", "environment", "skip_egg_scripts", "egg"] {
            assert_eq!(again[key], settings[key], "{scenario}: {key}");
        }
        assert_eq!(again["container"]["image"], settings["container"]["image"], "{scenario}");
        assert_eq!(again["allocations"]["default"], settings["allocations"]["default"], "{scenario}");
        assert_eq!(again.get("mounts"), settings.get("mounts"), "{scenario}");
        for (key, limit) in settings["build"].as_object().unwrap() {
            let limit = if limit.is_null() { json!("") } else { limit.clone() };
            assert_eq!(again["build"][key], limit, "{scenario}: build.{key}");
        }
        let process = serde_json::to_value(&read.process).unwrap();
        assert_eq!(process["stop"], body["process_configuration"]["stop"], "{scenario}");
        let done = match &body["process_configuration"]["startup"]["done"] {
            Value::Null => json!([]),
            done => done.clone(),
        };
        assert_eq!(process["startup"]["done"], done, "{scenario}");
        for (file, sent) in
            read.process.configs.iter().zip(body["process_configuration"]["configs"].as_array().unwrap())
        {
            assert_eq!(file.replace.len(), sent["replace"].as_array().unwrap().len(), "{scenario}");
            assert_eq!(json!(file.replace[0].replace_with), sent["replace"][0]["replace_with"], "{scenario}");
        }
    }
}

#[test]
fn recorded_scripts_are_read() {
    let documents: Vec<Value> =
        serde_json::from_str(include_str!("../../../../tests/fixtures/panel/scripts.json")).unwrap();
    for document in &documents {
        let body = &document["body"];
        let read = script(body).unwrap();
        assert_eq!(json!(read.image), body["container_image"]);
        assert_eq!(json!(read.text), json!(body["script"].as_str().unwrap_or("")));
    }
    assert!(documents.len() >= 5);
}

#[test]
fn recorded_pages_are_read() {
    let documents: Vec<Value> =
        serde_json::from_str(include_str!("../../../../tests/fixtures/panel/pages.json")).unwrap();
    let found: Vec<_> = documents
        .iter()
        .map(|document| {
            let page = page(document["body"].to_string().as_bytes()).unwrap();
            assert!(page.servers.iter().all(|listed| listed.server.is_ok()));
            (page.last, page.total, page.entries, page.servers.len())
        })
        .collect();
    assert_eq!(found, [(1, Some(0), 0, 0), (3, Some(5), 2, 2), (3, Some(5), 1, 1), (3, Some(5), 2, 2)]);
}
