//! The command line.

mod argocd;
mod redis;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::log::LogOptions;
use crate::run::{Listeners, SourceOptions};
use crate::sources::cluster::ClusterOptions;
use crate::{demo, run};
use argocd::ArgocdOptions;
use redis::RedisOptions;

/// Serves Argo CD's proxy extensions: every call authenticated, authorized, routed by the application's cluster.
#[derive(Debug, Parser)]
#[command(name = "argocd-extension-proxy", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: LogOptions,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the extensions that Argo CD's configuration describes
    Run(Box<RunOptions>),
    /// Serve a small world with a backend and a signed-in user, to see how it works
    Demo(DemoOptions),
    /// Print the CustomResourceDefinitions, for kubectl apply -f -
    Crds,
}

#[derive(Debug, Args)]
struct RunOptions {
    /// Folder with Argo CD's objects as YAML or JSON manifests, read again whenever it changes [default: the cluster]
    #[arg(long, value_name = "DIR", env = "ARGOCD_EXTENSION_PROXY_FROM_DIR")]
    from_dir: Option<PathBuf>,
    /// Argo CD's namespace
    #[arg(long, default_value = "argocd", env = "ARGOCD_EXTENSION_PROXY_NAMESPACE")]
    namespace: String,
    /// Address that extensions are served on
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080", env = "ARGOCD_EXTENSION_PROXY_LISTEN")]
    listen: String,
    /// Address of /healthz, /readyz, /metrics and /status
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8081", env = "ARGOCD_EXTENSION_PROXY_ADMIN_LISTEN")]
    admin_listen: String,
    #[command(flatten)]
    serving: ServingOptions,
    /// Name of this replica [default: the host's name and the process id]
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    replica_name: Option<String>,
    #[command(flatten)]
    argocd: ArgocdOptions,
    #[command(flatten)]
    redis: RedisOptions,
}

#[derive(Debug, Args)]
struct DemoOptions {
    /// Address that extensions are served on [default: 127.0.0.1:8080, or a free port where that is taken]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address of /healthz, /readyz, /metrics and /status [default: 127.0.0.1:8081, or a free port where that is taken]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    #[command(flatten)]
    serving: ServingOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ServingOptions {
    /// Threads that serve requests [default: one for each processor]
    #[arg(long, value_name = "N", env = "ARGOCD_EXTENSION_PROXY_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Seconds that open requests and streams may go on after SIGTERM or SIGINT
    #[arg(long, value_name = "SECONDS", default_value_t = 20, env = "ARGOCD_EXTENSION_PROXY_DRAIN_TIMEOUT")]
    drain_timeout: u32,
}

impl ServingOptions {
    pub(crate) fn workers(&self) -> usize {
        match self.workers {
            Some(workers) => workers.into(),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        Duration::from_secs(self.drain_timeout.into())
    }
}

pub(crate) fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    cli.log.start();
    match cli.command {
        Command::Run(options) => {
            let listeners = Listeners {
                extensions: run::bind(&options.listen, "--listen")?,
                admin: run::bind(&options.admin_listen, "--admin-listen")?,
            };
            let source = match &options.from_dir {
                Some(folder) => SourceOptions::Folder { folder, namespace: &options.namespace },
                None => SourceOptions::Cluster {
                    cluster: Box::new(ClusterOptions {
                        namespace: options.namespace.clone(),
                        overrides: options.argocd.overrides(),
                        redis: options.redis.read()?,
                    }),
                    identity: options.replica_name.clone().unwrap_or_else(default_replica_name),
                },
            };
            run::run(source, listeners, &options.serving)
        }
        Command::Demo(options) => {
            let listeners = Listeners {
                extensions: bind_demo(options.listen.as_deref(), "--listen", 8080)?,
                admin: bind_demo(options.admin_listen.as_deref(), "--admin-listen", 8081)?,
            };
            demo::demo(listeners, &options.serving)
        }
        Command::Crds => {
            run::print(crds::manifests().trim_end());
            Ok(())
        }
    }
}

fn default_replica_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "host".into());
    format!("{}-{}", host.trim().to_ascii_lowercase(), std::process::id())
}

fn bind_demo(address: Option<&str>, option: &str, port: u16) -> anyhow::Result<std::net::TcpListener> {
    match address {
        Some(address) => run::bind(address, option),
        None => run::bind(&format!("127.0.0.1:{port}"), option).or_else(|_| run::bind("127.0.0.1:0", option)),
    }
}
