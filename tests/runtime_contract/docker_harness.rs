//! The suite's harness around a real engine: the one that `DOCKER_HOST` names, or the local one.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::process::Command;

use alula::config::NodeConfig;
use alula::model::{NodeIdentity, Timestamp};
use alula::runtime::Runtime;
use alula::runtime::docker::{Address, DockerRuntime};
use async_trait::async_trait;
use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    BuildImageOptionsBuilder, CreateContainerOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder,
};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::OnceCell;

use crate::busybox::busybox;
use crate::harness::{Harness, IMAGE, RUN_LABEL, TIMEOUT, host, node};

/// Leaves this half of the suite out.
const SKIP: &str = "ALULA_SKIP_DOCKER";

/// The image is there; made once for all tests of the process, and kept for the next one.
static IMAGE_MADE: OnceCell<()> = OnceCell::const_new();

struct DockerHarness {
    runtime: DockerRuntime,
    docker: Docker,
    run: String,
    is_podman: bool,
}

/// Runs a case against the engine, and removes what it made however it ends.
pub async fn run(case: impl AsyncFnOnce(&dyn Harness)) {
    if std::env::var(SKIP).is_ok_and(|value| value == "1") {
        eprintln!("skipped: {SKIP}=1, so nothing is known about Docker");
        return;
    }
    let docker = connect().await.unwrap_or_else(|error| {
        panic!("no container engine answers ({error}): start dockerd, or leave these tests out with {SKIP}=1")
    });
    IMAGE_MADE.get_or_init(|| make_image(&docker)).await;
    let runtime = runtime(node());
    let run = uuid::Uuid::new_v4().simple().to_string();
    let components = docker.version().await.ok().and_then(|version| version.components).unwrap_or_default();
    let is_podman = components.iter().any(|component| component.name == "Podman Engine");
    let harness = DockerHarness { runtime, docker, run, is_podman };
    let outcome = AssertUnwindSafe(tokio::time::timeout(TIMEOUT, case(&harness))).catch_unwind().await;
    harness.clean().await;
    match outcome {
        Ok(in_time) => in_time.expect("the case takes too long"),
        Err(panic) => resume_unwind(panic),
    }
}

async fn connect() -> Result<Docker, bollard::errors::Error> {
    Docker::connect_with_defaults()?.negotiate_version().await
}

fn runtime(node: NodeConfig) -> DockerRuntime {
    let address = Address::from_environment().expect("DOCKER_HOST is an address");
    DockerRuntime::connect(address, host(node))
}

/// Builds the image from a static busybox.
async fn make_image(docker: &Docker) {
    if docker.inspect_image(IMAGE).await.is_ok() {
        return;
    }
    let options = BuildImageOptionsBuilder::new().t(IMAGE).rm(true).build();
    let context = bollard::body_full(build_context().into());
    let mut build = docker.build_image(options, None, Some(context));
    while let Some(step) = build.next().await {
        let step = step.expect("the image can be built");
        assert!(step.error_detail.is_none(), "building {IMAGE}: {step:?}");
    }
}

/// An archive with a Dockerfile and a root file system around busybox.
fn build_context() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let programs = folder.path().join("root/bin");
    std::fs::create_dir_all(&programs).unwrap();
    std::fs::create_dir_all(folder.path().join("root/tmp")).unwrap();
    std::fs::copy(busybox(), programs.join("busybox")).unwrap();
    for name in ["sh", "sleep", "tail", "cat"] {
        std::os::unix::fs::symlink("busybox", programs.join(name)).unwrap();
    }
    std::fs::write(folder.path().join("Dockerfile"), "FROM scratch\nCOPY root /\nSTOPSIGNAL SIGQUIT\n").unwrap();
    let tar = Command::new("tar").arg("-C").arg(folder.path()).args(["-c", "."]).output().expect("tar runs");
    assert!(tar.status.success(), "tar: {}", String::from_utf8_lossy(&tar.stderr));
    tar.stdout
}

impl DockerHarness {
    async fn clean(&self) {
        let label = format!("{RUN_LABEL}={}", self.run);
        let options =
            ListContainersOptionsBuilder::new().all(true).filters(&HashMap::from([("label", vec![label])])).build();
        for container in self.docker.list_containers(Some(options)).await.unwrap_or_default() {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            let _ = self.docker.remove_container(&container.id.unwrap_or_default(), Some(options)).await;
        }
        for which in 0..8 {
            // Most cases make none.
            let _ = self.docker.remove_network(&self.network(which)).await;
        }
    }
}

#[async_trait]
impl Harness for DockerHarness {
    fn runtime(&self) -> &dyn Runtime {
        &self.runtime
    }

    fn runtime_of(&self, node: NodeConfig) -> Box<dyn Runtime> {
        Box::new(runtime(node))
    }

    fn runtime_as(&self, identity: NodeIdentity) -> Box<dyn Runtime> {
        let address = Address::from_environment().expect("DOCKER_HOST is an address");
        Box::new(DockerRuntime::connect(address, host(node()).with_identity(identity)))
    }

    fn run(&self) -> &str {
        &self.run
    }

    fn is_podman(&self) -> bool {
        self.is_podman
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
    }

    async fn create_foreign(&self, name: &str) -> String {
        let body = ContainerCreateBody {
            image: Some(IMAGE.into()),
            cmd: Some(vec!["/bin/sleep".into(), "300".into()]),
            labels: Some(HashMap::from([(RUN_LABEL.into(), self.run.clone())])),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        self.docker.create_container(Some(options), body).await.unwrap().id
    }

    async fn rename(&self, name: &str, new: &str) {
        let options = bollard::query_parameters::RenameContainerOptions { name: new.to_owned() };
        self.docker.rename_container(name, options).await.unwrap();
    }
}
