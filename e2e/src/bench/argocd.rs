//! argocd-server itself, where somebody has built one.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::process::{Process, free_port};
use crate::redis::PASSWORD;
use crate::stage::Stage;
use crate::usage::Usage;

use super::peers::Candidate;

const PATIENCE: Duration = Duration::from_secs(60);

/// Ended when dropped.
pub struct ArgoCdServer {
    pub candidate: Candidate,
    process: Process,
    _folder: TempDir,
}

impl ArgoCdServer {
    /// On a cluster that holds its objects.
    pub async fn start(program: &Path, stage: &Stage) -> Result<Self> {
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
        Ok(Self { candidate, process, _folder: folder })
    }

    pub fn log(&self) -> String {
        self.process.log()
    }
}
