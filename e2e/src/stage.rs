//! The conformance world in a real API server and a real Redis, and the program on them.

use std::time::Duration;

use anyhow::Result;

use crate::apiserver::ApiServer;
use crate::client::{Request, send};
use crate::program::Program;
use crate::redis::{PASSWORD, Redis};
use crate::wait;
use crate::world::World;

/// Its parts end when it is dropped.
pub struct Stage {
    pub world: World,
    pub api: ApiServer,
    pub redis: Redis,
}

impl Stage {
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// With more options of `kube-apiserver`.
    pub async fn start_with(options: &[&str]) -> Result<Self> {
        let (world, api, redis) = tokio::try_join!(World::start(), ApiServer::start_with(options), Redis::start())?;
        redis.command(&["SET", "revoked-token|revoked-1", "x"]).await?;
        api.apply(world.folder())?;
        Ok(Self { world, api, redis })
    }

    /// Starts the program as the cluster's administrator and waits until it serves.
    pub async fn serve(&self, more: &[&str]) -> Result<Program> {
        let kubeconfig = self.api.kubeconfig().display().to_string();
        self.serve_as(&kubeconfig, more).await
    }

    pub async fn serve_as(&self, kubeconfig: &str, more: &[&str]) -> Result<Program> {
        let program = self.launch(kubeconfig, more)?;
        ready(&program).await?;
        Ok(program)
    }

    /// The same without waiting.
    pub fn launch(&self, kubeconfig: &str, more: &[&str]) -> Result<Program> {
        let redis = self.redis.address.to_string();
        let environment = [("KUBECONFIG", kubeconfig), ("REDIS_SERVER", &redis), ("REDIS_PASSWORD", PASSWORD)];
        self.launch_with(more, &environment)
    }

    /// The same with an environment that says where everything is.
    pub fn launch_with(&self, more: &[&str], environment: &[(&str, &str)]) -> Result<Program> {
        let mut arguments = vec!["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        arguments.extend(more);
        Program::start_with(&arguments, environment)
    }
}

/// Waits until the program says that it is ready.
pub async fn ready(program: &Program) -> Result<Duration> {
    ready_within(wait::PATIENCE, program).await
}

/// The same with another patience.
pub async fn ready_within(patience: Duration, program: &Program) -> Result<Duration> {
    let ready = || async { Ok(send(program.admin, Request::get("/readyz")).await?.status == 200) };
    wait::within(patience, "the program is ready", ready).await.map_err(|error| error.context(program.log()))
}
