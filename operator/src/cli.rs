//! The command line.

mod argocd;
mod inspect;
mod reception;
mod redis;
#[cfg(test)]
mod reference;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use dataplane::access_log::{AccessLog, Sample};
use dataplane::namespace::NamespacePatterns;
use dataplane::request::TrustedProxies;
use dataplane::telemetry::Tracing;

use crate::demo::World;
use crate::log::{LogLevel, LogOptions};
use crate::reconcile::ReconcileOptions;
use crate::run::{Listeners, Setup, SourceOptions};
use crate::sources::cluster::ClusterOptions;
use crate::{demo, file_limit, run, telemetry};
use argocd::ArgocdOptions;
use inspect::{ExplainOptions, StatusOptions, ValidateOptions};
use reception::ReceptionOptions;
use redis::RedisOptions;

/// Serves Argo CD's proxy extensions: every call authenticated, authorized, routed by the application's cluster.
#[derive(Debug, Parser)]
#[command(name = "argocd-extension-proxy", version = env!("VERSION"))]
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
    /// Say what is wrong with manifests: every problem with its file, line, entry and field. Exits with 1 where one is an
    /// error
    Validate(ValidateOptions),
    /// Say for one request every check, and what decided it. Exits with 1 where it would be refused
    Explain(Box<ExplainOptions>),
    /// Print what became of every extension, as the ExtensionRegistry of the cluster says
    Status(StatusOptions),
    /// Print the CustomResourceDefinitions, for kubectl apply -f -
    Crds,
    /// Print a script that completes commands and options in a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
struct RunOptions {
    /// Folder with Argo CD's objects as YAML or JSON manifests, read again whenever it changes [default: the cluster]
    #[arg(long, value_name = "DIR", env = "ARGOCD_EXTENSION_PROXY_FROM_DIR")]
    from_dir: Option<PathBuf>,
    #[command(flatten)]
    r#where: WhereOptions,
    /// Address that extensions are served on
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080", env = "ARGOCD_EXTENSION_PROXY_LISTEN")]
    listen: String,
    /// Address of /healthz, /readyz, /metrics and /status
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8081", env = "ARGOCD_EXTENSION_PROXY_ADMIN_LISTEN")]
    admin_listen: String,
    #[command(flatten)]
    reception: ReceptionOptions,
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

/// Where Argo CD is, and whose extensions count.
#[derive(Debug, Args)]
struct WhereOptions {
    /// Argo CD's namespace
    #[arg(long, default_value = "argocd", env = "ARGOCD_EXTENSION_PROXY_NAMESPACE")]
    namespace: String,
    /// Namespaces besides Argo CD's own whose ProxyExtensions count, comma-separated; globs
    #[arg(long, value_name = "PATTERNS", env = "ARGOCD_EXTENSION_PROXY_EXTENSION_NAMESPACES", value_delimiter = ',')]
    extension_namespaces: Vec<String>,
}

impl WhereOptions {
    fn reconcile(&self) -> ReconcileOptions {
        ReconcileOptions {
            extension_namespaces: NamespacePatterns::globs(self.extension_namespaces.iter().map(|glob| glob.trim())),
            ..ReconcileOptions::new(&self.namespace)
        }
    }
}

/// A request takes two files, and one extension's requests may take half of all.
const FILES_OF_ALL_PER_REQUEST: usize = 4;

#[derive(Debug, Args)]
struct DemoOptions {
    /// Address that extensions are served on [default: 127.0.0.1:8080, or a free port where that is taken]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address of /healthz, /readyz, /metrics and /status [default: 127.0.0.1:8081, or a free port where that is taken]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// Serve this backend of one's own as an extension, instead of the demo's
    #[arg(long, value_name = "URL")]
    backend: Option<String>,
    #[command(flatten)]
    own: OwnExtension,
    /// Print each request with every check
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    serving: ServingOptions,
}

/// How one's own backend is called.
#[derive(Debug, Clone, Args)]
pub(crate) struct OwnExtension {
    /// Name of the extension
    #[arg(long, value_name = "NAME", default_value = "my-extension", requires = "backend")]
    pub(crate) extension: String,
    /// Who is signed in
    #[arg(long, value_name = "NAME", default_value = "alice", requires = "backend")]
    pub(crate) user: String,
    /// Groups of theirs, comma-separated
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "backend")]
    pub(crate) groups: Vec<String>,
    /// The application that the extension is called for
    #[arg(long, value_name = "NAMESPACE:NAME", default_value = "argocd:guestbook", requires = "backend")]
    pub(crate) application: String,
    /// Its project
    #[arg(long, value_name = "NAME", default_value = "default", requires = "backend")]
    pub(crate) project: String,
}

#[derive(Debug, Clone, Args)]
struct ServingOptions {
    /// Threads that serve requests [default: one for each processor]
    #[arg(long, value_name = "N", env = "ARGOCD_EXTENSION_PROXY_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Seconds after SIGTERM or SIGINT in which new requests are still served, but no connection is kept: as long as it
    /// takes until nobody is sent here any more
    #[arg(long, value_name = "SECONDS", default_value_t = 0, env = "ARGOCD_EXTENSION_PROXY_SHUTDOWN_DELAY")]
    shutdown_delay: u32,
    /// Seconds that open requests and streams may go on after that
    #[arg(long, value_name = "SECONDS", default_value_t = 20, env = "ARGOCD_EXTENSION_PROXY_DRAIN_TIMEOUT")]
    drain_timeout: u32,
    /// Share of requests, from 0 to 1, that standard output gets a line of JSON for; those that were refused or failed
    /// are always among them [default: no access log]
    #[arg(long, value_name = "SHARE", env = "ARGOCD_EXTENSION_PROXY_ACCESS_LOG", value_parser = sample)]
    access_log: Option<Sample>,
}

fn sample(text: &str) -> Result<Sample, String> {
    let share = text.parse().ok().and_then(Sample::new);
    share.ok_or_else(|| "write a number from 0 to 1, such as 1 for every request or 0.01".into())
}

impl ServingOptions {
    fn workers(&self) -> usize {
        match self.workers {
            Some(workers) => workers.into(),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// A setup that nothing else is asked of.
    fn setup(
        &self,
        listeners: Listeners,
        reconcile: ReconcileOptions,
        log_level: LogLevel,
        tracing: Option<Tracing>,
    ) -> anyhow::Result<Setup> {
        let access_log = self.access_log.map(|sample| AccessLog::start(sample, std::io::stdout())).transpose()?;
        Ok(Setup {
            listeners,
            reconcile,
            log_level,
            workers: self.workers(),
            shutdown_delay: Duration::from_secs(self.shutdown_delay.into()),
            drain_timeout: Duration::from_secs(self.drain_timeout.into()),
            tls: None,
            proxy_protocol: false,
            trusted_proxies: TrustedProxies::default(),
            most_open: file_limit::raise() / FILES_OF_ALL_PER_REQUEST,
            access_log,
            tracing,
        })
    }
}

/// What a command that ran well found: a failure where it says no.
pub(crate) fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let log_level = cli.log.start();
    let is_good = match cli.command {
        Command::Run(options) => serve(&options, log_level).map(|()| true),
        Command::Demo(options) => serve_demo(&options, log_level).map(|()| true),
        Command::Validate(options) => options.run(),
        Command::Explain(options) => options.run(log_level),
        Command::Status(options) => options.run().map(|()| true),
        Command::Crds => {
            run::print(crds::manifests().trim_end());
            Ok(true)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "argocd-extension-proxy", &mut script);
            run::print(String::from_utf8_lossy(&script).trim_end());
            Ok(true)
        }
    }?;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn serve_demo(options: &DemoOptions, log_level: LogLevel) -> anyhow::Result<()> {
    let listeners = Listeners {
        extensions: bind_demo(options.listen.as_deref(), "--listen", 8080)?,
        admin: bind_demo(options.admin_listen.as_deref(), "--admin-listen", 8081)?,
    };
    let reconcile = ReconcileOptions::new(demo::NAMESPACE);
    let mut setup = options.serving.setup(listeners, reconcile, log_level, None)?;
    let world = match &options.backend {
        Some(backend) => World::Own { backend: backend.clone(), own: options.own.clone() },
        None => World::Small,
    };
    let watcher = options.watch.then(|| demo::Watcher::start(&mut setup)).transpose()?;
    demo::demo(setup, &world, watcher)
}

fn serve(options: &RunOptions, log_level: LogLevel) -> anyhow::Result<()> {
    let (tracing, _exporter) = telemetry::start()?.unzip();
    let listeners = Listeners {
        extensions: run::bind(&options.listen, "--listen")?,
        admin: run::bind(&options.admin_listen, "--admin-listen")?,
    };
    let certificate_secret = options.reception.secret().map(str::to_owned);
    let reconcile = ReconcileOptions { certificate_secret, ..options.r#where.reconcile() };
    let mut setup = options.serving.setup(listeners, reconcile, log_level, tracing)?;
    options.reception.apply(&mut setup);
    let source = match &options.from_dir {
        Some(folder) => SourceOptions::Folder(folder),
        None => SourceOptions::Cluster {
            cluster: Box::new(ClusterOptions { overrides: options.argocd.overrides(), redis: options.redis.read()? }),
            identity: options.replica_name.clone().unwrap_or_else(default_replica_name),
        },
    };
    run::run(source, setup)
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
