//! What is logged, and how.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use clap::{Args, ValueEnum};
use crds::Problem;
use tracing::level_filters::LevelFilter;
use tracing::warn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::inputs::{Inputs, PARAMS_CONFIG};
use crate::objects::{self, ObjectKey, ObjectKind};
use crate::verdict::{Place, Verdict};

/// In `argocd-cmd-params-cm`.
const KEY: &str = "extensionproxy.log.level";

#[derive(Debug, Args)]
pub(crate) struct LogOptions {
    /// Least severe level that is logged; extensionproxy.log.level of argocd-cmd-params-cm changes it at run time
    #[arg(long, env = "ARGOCD_EXTENSION_PROXY_LOG_LEVEL", default_value = "info", global = true)]
    log_level: Level,
    /// Format of log lines, which go to standard error
    #[arg(long, env = "ARGOCD_EXTENSION_PROXY_LOG_FORMAT", default_value = "text", global = true)]
    log_format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
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

    fn parse(text: &str) -> Option<Self> {
        Self::from_str(text.trim(), true).ok()
    }
}

/// Changes what is logged while the program runs.
#[derive(Clone)]
pub(crate) struct LogLevel {
    /// What the program was started with.
    initial: Level,
    current: Arc<Mutex<Level>>,
    filter: reload::Handle<EnvFilter, Registry>,
}

impl LogLevel {
    /// Follows `extensionproxy.log.level` of `argocd-cmd-params-cm`; without it the level is the one of the start.
    pub(crate) fn follow(&self, inputs: &Inputs, namespace: &str) -> Option<Verdict> {
        let written = inputs.parameter(namespace, KEY).filter(|text| !text.trim().is_empty());
        let Some(level) = written.map_or(Some(self.initial), Level::parse) else {
            let place =
                Place::new(objects::describe(ObjectKind::ConfigMap, &ObjectKey::new(namespace, PARAMS_CONFIG)), KEY);
            let message =
                format!("{:?} is no level; write error, warn, info, debug or trace", written.unwrap_or_default());
            return Some(Verdict::on(place, vec![Problem::warning("", message)]));
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != level && self.filter.reload(filter(level)).is_ok() {
            *current = level;
            warn!("from now on what is at least {level:?} is logged");
        }
        None
    }
}

impl LogOptions {
    pub(crate) fn start(&self) -> LogLevel {
        let (filter, handle) = reload::Layer::new(filter(self.log_level));
        let lines = fmt::layer().with_writer(std::io::stderr);
        let registry = tracing_subscriber::registry().with(filter);
        match self.log_format {
            Format::Text => registry.with(lines.with_target(false).with_ansi(std::io::stderr().is_terminal())).init(),
            Format::Json => registry.with(lines.json().flatten_event(true)).init(),
        }
        LogLevel { initial: self.log_level, current: Arc::new(Mutex::new(self.log_level)), filter: handle }
    }
}

/// Libraries say at most what they warn of, and the Kubernetes client errors only: below that some of them write
/// headers and answers, and with them tokens and secrets.
fn filter(level: Level) -> EnvFilter {
    let level = level.filter();
    let libraries = level.min(LevelFilter::WARN);
    let kubernetes = level.min(LevelFilter::ERROR);
    ["operator", "dataplane", "crds"]
        .iter()
        .map(|own| format!("{own}={level}"))
        .chain(["kube_client", "kube_runtime"].iter().map(|library| format!("{library}={kubernetes}")))
        .filter_map(|directive| directive.parse().ok())
        .fold(EnvFilter::new("off").add_directive(libraries.into()), EnvFilter::add_directive)
}
