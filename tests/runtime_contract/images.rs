//! Images that are there, and pulls, as containers need them.

use alula::model::Role;
use alula::runtime::{BuiltSpec, ErrorKind, RuntimeError};

use crate::bench::{Bench, Routine, Subject};

fn subject(bench: &dyn Bench, image: &str) -> Subject {
    let mut subject = Subject::new(bench, Role::Installer, Routine::Answers);
    subject.spec.image = image.into();
    subject
}

async fn prepare(bench: &dyn Bench, image: &str, local: bool) -> Result<(), RuntimeError> {
    let mut subject = subject(bench, image);
    subject.spec.local_image = local;
    bench.runtime().prepare(&subject.spec).await
}

pub async fn what_is_there_is_prepared(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::Answers);
    bench.runtime().prepare(&subject.spec).await.unwrap();
    prepare(bench, &subject.spec.image, true).await.unwrap();
}

pub async fn an_image_that_is_not_to_be_pulled_is_missing(bench: &dyn Bench) {
    for image in ["alula-contract/missing:1", "alula-contract/box:another"] {
        let missing = prepare(bench, image, true).await.unwrap_err();
        assert_eq!(missing.kind, ErrorKind::NotFound, "{missing:?}");
        assert!(missing.to_string().contains(image), "{missing}");
    }
}

pub async fn an_image_that_no_registry_has_is_missing(bench: &dyn Bench) {
    // A registry that answers nobody: no network is needed to say no.
    let image = "127.0.0.1:9/alula-contract/missing:1";
    let failed = prepare(bench, image, false).await.unwrap_err();
    assert!(failed.to_string().contains(image), "{failed}");
    assert!(!failed.is_outage(), "the engine itself is there: {failed:?}");
    assert_ne!(failed.kind, ErrorKind::InvalidImage, "it may be there later");
}

pub async fn a_reference_that_is_none_is_for_a_person(bench: &dyn Bench) {
    for image in ["Not A Reference", ""] {
        let failed = prepare(bench, image, false).await.unwrap_err();
        assert_eq!(failed.kind, ErrorKind::InvalidImage, "{failed:?}");
        assert!(failed.to_string().contains(image), "{failed}");
    }
}

pub async fn what_is_prepared_is_known_by_its_id(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::Answers);
    let resolved = async || {
        let built = BuiltSpec { spec: subject.spec.clone(), omissions: Vec::new() };
        bench.runtime().resolve(subject.server, built).await.unwrap().spec
    };
    assert_eq!(resolved().await.hash(), subject.spec.hash(), "nothing is known of it yet");
    bench.runtime().prepare(&subject.spec).await.unwrap();
    assert!(resolved().await.image_id.is_some());
    assert_ne!(resolved().await.hash(), subject.spec.hash());
}
