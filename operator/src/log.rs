//! What is logged, and how.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

#[derive(Debug, Args)]
pub(crate) struct LogOptions {
    /// Least severe level that is logged
    #[arg(long, env = "ARGOCD_EXTENSION_PROXY_LOG_LEVEL", default_value = "info", global = true)]
    log_level: Level,
    /// Format of log lines, which go to standard error
    #[arg(long, env = "ARGOCD_EXTENSION_PROXY_LOG_FORMAT", default_value = "text", global = true)]
    log_format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Level {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

impl LogOptions {
    pub(crate) fn start(&self) {
        let lines = tracing_subscriber::fmt().with_env_filter(self.filter()).with_writer(std::io::stderr);
        match self.log_format {
            Format::Text => lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
            Format::Json => lines.json().flatten_event(true).init(),
        }
    }

    /// Libraries say at most what they warn of, and the Kubernetes client errors only: below that some of them write
    /// headers and answers, and with them tokens and secrets.
    fn filter(&self) -> EnvFilter {
        let level = self.log_level.filter();
        let libraries = level.min(LevelFilter::WARN);
        let kubernetes = level.min(LevelFilter::ERROR);
        ["operator", "dataplane", "crds"]
            .iter()
            .map(|own| format!("{own}={level}"))
            .chain(["kube_client", "kube_runtime"].iter().map(|library| format!("{library}={kubernetes}")))
            .filter_map(|directive| directive.parse().ok())
            .fold(EnvFilter::new("off").add_directive(libraries.into()), EnvFilter::add_directive)
    }
}
