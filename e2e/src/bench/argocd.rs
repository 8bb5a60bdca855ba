//! argocd-server itself, where somebody has built one.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::client::{Request, send};
use crate::process::{Process, free_port};
use crate::redis::PASSWORD;
use crate::stage::Stage;
use crate::usage::Usage;
use crate::wait;

use super::peers::{Candidate, EXTENSION};

const PATIENCE: Duration = Duration::from_secs(60);
/// A kind that it watches and the tests have no other use for.
const APPLICATION_SETS: &str = r#"{
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "applicationsets.argoproj.io"},
    "spec": {
        "group": "argoproj.io", "scope": "Namespaced",
        "names": {"kind": "ApplicationSet", "plural": "applicationsets", "singular": "applicationset"},
        "versions": [{
            "name": "v1alpha1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}
        }]
    }
}"#;

/// Ended when dropped.
pub struct ArgoCdServer {
    pub candidate: Candidate,
    process: Process,
    _folder: TempDir,
}

impl ArgoCdServer {
    /// On a cluster that holds its objects.
    pub async fn start(program: &Path, stage: &Stage) -> Result<Self> {
        stage.api.kubectl_with_input(&["apply", "-f", "-"], APPLICATION_SETS)?;
        stage.api.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"])?;
        let folder = TempDir::new()?;
        let (port, metrics) = (free_port()?, free_port()?);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut command = Command::new(program);
        command
            .args(["--insecure", "--enable-proxy-extension", "--loglevel", "error", "--namespace", "argocd"])
            .args(["--address", "127.0.0.1", "--metrics-address", "127.0.0.1", "--application-namespaces", "team-apps"])
            .arg(format!("--port={port}"))
            .arg(format!("--metrics-port={metrics}"))
            .arg(format!("--redis={}", stage.redis.address))
            .arg("--kubeconfig")
            .arg(stage.api.kubeconfig())
            .env("REDIS_PASSWORD", PASSWORD)
            .env("HOME", folder.path());
        let mut process = Process::start(&mut command, &folder.path().join("output"))?;
        process.listening(address, PATIENCE).await.context("starting argocd-server")?;
        let usage = Usage::of(process.id());
        let candidate = Candidate { name: "argocd-server", address, sockets: address, usage };
        let this = Self { candidate, process, _folder: folder };
        let request = Request::signed_in(&format!("/extensions/{EXTENSION}/x"), &stage.world.token()?);
        let answers = || async { Ok(send(address, request.clone()).await.is_ok_and(|answer| answer.status == 200)) };
        if let Err(error) = wait::within(PATIENCE, "argocd-server serves", answers).await {
            let answer = send(address, request.clone()).await?;
            bail!("{error}; it says {}: {}\n{}", answer.status, answer.text(), this.log());
        }
        Ok(this)
    }

    pub fn log(&self) -> String {
        self.process.log()
    }
}
