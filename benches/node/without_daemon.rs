//! The minimal sequence: the calls to the engine that an installation and a start cannot do without, one after the other and
//! without other work.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, CreateImageOptions, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt;

use crate::daemon_process::{Node, until};

/// Containers like those that a daemon makes, and where to make them.
pub struct Baseline {
    docker: Docker,
    image: String,
    data: PathBuf,
    server: ContainerCreateBody,
    installer: ContainerCreateBody,
}

impl Baseline {
    /// Has the daemon make a server, and copies what the engine says about its containers.
    pub async fn like_those_of(node: &mut Node) -> Self {
        let id = node.define("while [ ! -e /mnt/server/end ]; do sleep 0.05; done");
        node.create(&id, true).await;
        let installer = format!("{id}_installer");
        until("the installer", async || node.container(&installer).await?.1.then_some(())).await;
        let installer = node.docker.inspect_container(&installer, None).await.expect("a container");
        node.touch(&id, "end");
        node.wait_state(&id, "running").await;
        let server = node.docker.inspect_container(&id, None).await.expect("a container");
        let bare = Self {
            docker: node.docker.clone(),
            image: node.image.clone(),
            data: node.data(&id),
            server: template(server),
            installer: template(installer),
        };
        // The installer's script lies in a folder that goes with it.
        let script = bare.script_folder();
        std::fs::create_dir_all(&script).expect("a folder");
        std::fs::write(script.join("install.sh"), "true\n").expect("a script");
        bare
    }

    fn script_folder(&self) -> PathBuf {
        let mounts = self.installer.host_config.as_ref().and_then(|host| host.mounts.as_ref()).expect("mounts");
        let script = mounts.iter().find(|mount| mount.target.as_deref() == Some("/mnt/install")).expect("a script");
        PathBuf::from(script.source.as_deref().expect("a bind mount"))
    }

    /// Goes through the sequence so many times at once; the time until the last one's server is ready.
    pub async fn run(&self, count: usize) -> Duration {
        let names: Vec<String> = (0..count).map(|_| format!("alula-bare-{}", uuid::Uuid::new_v4().simple())).collect();
        // All servers work in the template's directory, and it has to be the game that says so.
        let _ = std::fs::remove_file(self.data.join("starts.txt"));
        let begun = Instant::now();
        let runs = names.iter().map(|name| self.one(name));
        futures_util::future::join_all(runs).await;
        let took = begun.elapsed();
        for name in &names {
            let force = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            self.docker.remove_container(name, Some(force)).await.expect("a container");
        }
        took
    }

    async fn one(&self, name: &str) {
        let installer_name = format!("{name}_installer");
        self.pull().await;
        let server = self.make(name, &self.server).await;
        let installer = self.make(&installer_name, &self.installer).await;
        self.docker.start_container(&installer, None::<StartContainerOptions>).await.expect("a start");
        let mut wait = std::pin::pin!(self.docker.wait_container(&installer, None::<WaitContainerOptions>));
        wait.next().await;
        let all = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let mut log = std::pin::pin!(self.docker.logs(&installer, Some(all)));
        while log.next().await.is_some() {}
        let options = RemoveContainerOptionsBuilder::new().v(true).force(true).build();
        self.docker.remove_container(&installer, Some(options)).await.expect("a removal");
        self.pull().await;
        let options = AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).stderr(true).build();
        let mut attached = self.docker.attach_container(&server, Some(options)).await.expect("a terminal");
        self.docker.start_container(&server, None::<StartContainerOptions>).await.expect("a start");
        let mut seen = Vec::new();
        while let Some(Ok(LogOutput::Console { message } | LogOutput::StdOut { message })) =
            attached.output.next().await
        {
            seen.extend_from_slice(&message);
            if seen.windows(5).any(|bytes| bytes == b"ready") {
                return;
            }
        }
        panic!("{name} ended, and was never ready: {}", String::from_utf8_lossy(&seen));
    }

    /// Asks the registry, which refuses, and then for the local image.
    async fn pull(&self) {
        let options = CreateImageOptions { from_image: Some(self.image.clone()), ..CreateImageOptions::default() };
        let mut pull = std::pin::pin!(self.docker.create_image(Some(options), None, None));
        while pull.next().await.is_some_and(|step| step.is_ok()) {}
        self.docker.inspect_image(&self.image).await.expect("a local image");
    }

    async fn make(&self, name: &str, template: &ContainerCreateBody) -> String {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        self.docker.create_container(Some(options), template.clone()).await.expect("a container").id
    }
}

/// What a container was made from.
fn template(container: ContainerInspectResponse) -> ContainerCreateBody {
    let config = serde_json::to_value(container.config.expect("a configuration")).expect("JSON");
    let mut body: ContainerCreateBody = serde_json::from_value(config).expect("the same words");
    // With alula's labels the daemon would take these containers for its own.
    body.labels = Some(HashMap::from([("Service".into(), "bare".into())]));
    body.hostname = Some("bare".into());
    body.host_config = container.host_config;
    body
}
