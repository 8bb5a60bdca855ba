//! What is logged, and how.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

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

    /// Libraries say at most what they warn of: below that some of them write headers, and with them tokens.
    fn filter(&self) -> EnvFilter {
        let level = self.log_level.filter();
        let libraries = Directive::from(level.min(LevelFilter::WARN));
        ["operator", "dataplane", "crds"]
            .iter()
            .filter_map(|own| format!("{own}={level}").parse().ok())
            .fold(EnvFilter::new("off").add_directive(libraries), EnvFilter::add_directive)
    }
}
