//! Images that are there, and pulls.

use std::sync::Mutex;

use crate::bench::{Bench, IMAGE};

pub async fn an_image_is_there_under_its_reference(bench: &dyn Bench) {
    assert!(bench.runtime().image(IMAGE).await.unwrap().is_some());
    assert!(bench.runtime().image("alula-contract/missing:1").await.unwrap().is_none());
    assert!(bench.runtime().image("alula-contract/box:another").await.unwrap().is_none());
}

pub async fn pulling_an_unknown_image_fails(bench: &dyn Bench) {
    // A registry that answers nobody, and a reference that is none: no network is needed to say no.
    for reference in ["127.0.0.1:9/alula-contract/missing:1", "Not A Reference"] {
        let lines = Mutex::new(Vec::new());
        let progress = |line: String| lines.lock().unwrap().push(line);
        let failed = bench.runtime().pull(reference, None, &progress).await.unwrap_err();
        assert!(failed.to_string().contains(reference), "{failed}");
        assert!(!failed.is_outage(), "the engine itself is there: {failed:?}");
    }
}
