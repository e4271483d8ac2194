//! Pulls from a registry.

use std::sync::Mutex;

use alula::config::{RegistryFile, Secret};
use alula::runtime::host::Engine;
use bollard::Docker;
use bollard::query_parameters::RemoveImageOptions;

use crate::registry::{Layer, Registry};

/// Encoded in base64 this has both characters in which its alphabets differ.
const PASSWORD: &str = "~~>>??ü~~>>??";

fn auth(password: &str) -> Option<RegistryFile> {
    Some(RegistryFile { username: "alula".into(), password: Secret::new(password) })
}

async fn forget(docker: &Docker, reference: &str) {
    let removed = docker.remove_image(reference, None::<RemoveImageOptions>, None).await;
    removed.expect("the image was pulled");
}

#[tokio::test]
async fn an_image_is_pulled() {
    let Some((runtime, docker)) = crate::engine().await else { return };
    let registry = Registry::start(None, Layer::Complete).await;
    let reference = registry.reference("good");
    assert!(runtime.image(&reference).await.unwrap().is_none());
    let lines = Mutex::new(Vec::new());
    runtime.pull(&reference, None, &|line| lines.lock().unwrap().push(line)).await.unwrap();
    assert!(runtime.image(&reference).await.unwrap().is_some());
    assert!(runtime.image(&registry.reference("other")).await.unwrap().is_none());
    forget(&docker, &reference).await;
    let lines = lines.into_inner().unwrap();
    assert!(lines.iter().any(|line| line.contains("Digest: sha256:")), "{lines:?}");
}

#[tokio::test]
async fn a_missing_tag_is_an_error() {
    let Some((runtime, _)) = crate::engine().await else { return };
    let registry = Registry::start(None, Layer::Complete).await;
    let reference = registry.reference("missing");
    let error = runtime.pull(&reference, None, &|_| ()).await.unwrap_err();
    assert!(!error.is_outage(), "{error:?}");
    let text = error.to_string();
    // The second is containerd's message, which pulls since Docker 29.
    assert!(text.contains("manifest unknown") || text.contains("not found"), "{text}");
    assert!(text.contains(&reference), "{text}");
    assert!(runtime.image(&reference).await.unwrap().is_none());
}

#[tokio::test]
async fn a_private_registry_requires_the_password() {
    let Some((runtime, docker)) = crate::engine().await else { return };
    let registry = Registry::start(Some(("alula", PASSWORD)), Layer::Complete).await;
    let reference = registry.reference("good");
    for wrong in [None, auth("wrong")] {
        let error = runtime.pull(&reference, wrong.as_ref(), &|_| ()).await.unwrap_err();
        assert!(!error.is_outage(), "{error:?}");
    }
    runtime.pull(&reference, auth(PASSWORD).as_ref(), &|_| ()).await.unwrap();
    forget(&docker, &reference).await;
}

#[tokio::test]
async fn an_error_late_in_the_stream_is_an_error() {
    let Some((runtime, _)) = crate::engine().await else { return };
    let registry = Registry::start(None, Layer::Wrong).await;
    let reference = registry.reference("good");
    let lines = Mutex::new(Vec::new());
    let error = runtime.pull(&reference, None, &|line| lines.lock().unwrap().push(line)).await.unwrap_err();
    assert!(!error.is_outage(), "{error:?}");
    assert!(!lines.into_inner().unwrap().is_empty(), "the error came after the answer had begun");
    assert!(runtime.image(&reference).await.unwrap().is_none());
}

#[tokio::test]
async fn a_dropped_pull_is_cancelled() {
    let Some((runtime, _)) = crate::engine().await else { return };
    let mut registry = Registry::start(None, Layer::Dripping).await;
    let reference = registry.reference("good");
    tokio::select! {
        done = runtime.pull(&reference, None, &|_| ()) => panic!("{done:?}"),
        () = registry.wait_serving(true) => {}
    }
    registry.wait_serving(false).await;
}
