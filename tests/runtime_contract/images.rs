//! Images that are there, and pulls, as containers need them.

use alula::model::Role;
use alula::runtime::{BuiltSpec, ErrorKind, RuntimeError};

use crate::harness::{Harness, Subject, TestProgram};

fn subject(harness: &dyn Harness, image: &str) -> Subject {
    let mut subject = Subject::new(harness, Role::Installer, TestProgram::Answers);
    subject.spec.image = image.into();
    subject
}

async fn prepare(harness: &dyn Harness, image: &str, local: bool) -> Result<(), RuntimeError> {
    let mut subject = subject(harness, image);
    subject.spec.local_image = local;
    harness.runtime().prepare(&subject.spec).await
}

pub async fn a_local_image_is_prepared(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::Answers);
    harness.runtime().prepare(&subject.spec).await.unwrap();
    prepare(harness, &subject.spec.image, true).await.unwrap();
}

pub async fn an_image_that_must_not_be_pulled_is_missing(harness: &dyn Harness) {
    for image in ["alula-contract/missing:1", "alula-contract/box:another"] {
        let missing = prepare(harness, image, true).await.unwrap_err();
        assert_eq!(missing.kind, ErrorKind::NotFound, "{missing:?}");
        assert!(missing.to_string().contains(image), "{missing}");
    }
}

pub async fn an_image_that_is_in_no_registry_is_missing(harness: &dyn Harness) {
    // No registry listens there, so the pull fails without a network.
    let image = "127.0.0.1:9/alula-contract/missing:1";
    let failed = prepare(harness, image, false).await.unwrap_err();
    assert!(failed.to_string().contains(image), "{failed}");
    assert!(!failed.is_outage(), "the engine itself is there: {failed:?}");
    assert_ne!(failed.kind, ErrorKind::InvalidImage, "it may be there later");
}

pub async fn an_invalid_reference_is_an_error_for_a_person(harness: &dyn Harness) {
    for image in ["Not A Reference", ""] {
        let failed = prepare(harness, image, false).await.unwrap_err();
        assert_eq!(failed.kind, ErrorKind::InvalidImage, "{failed:?}");
        assert!(failed.to_string().contains(image), "{failed}");
    }
}

pub async fn a_prepared_image_is_resolved_to_its_id(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::Answers);
    let resolved = async || {
        let built = BuiltSpec { spec: subject.spec.clone(), omissions: Vec::new() };
        harness.runtime().resolve(subject.server, built).await.unwrap().spec
    };
    assert_eq!(resolved().await.hash(), subject.spec.hash(), "nothing is known of it yet");
    harness.runtime().prepare(&subject.spec).await.unwrap();
    assert!(resolved().await.image_id.is_some());
    assert_ne!(resolved().await.hash(), subject.spec.hash());
}
