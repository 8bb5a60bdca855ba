//! Commands that look and serve nothing.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args, ValueEnum};
use crds::ExtensionRegistry;
use dataplane::request::explain::{Call, Who};
use kube::Api;

use super::WhereOptions;
use super::argocd::ArgocdOptions;
use super::redis::RedisOptions;
use crate::log::LogLevel;
use crate::registry_table;
use crate::sources::cluster::ClusterOptions;
use crate::validate::{self, as_github, as_text};
use crate::{explain, look, run};

#[derive(Debug, Args)]
pub(super) struct ValidateOptions {
    /// Files, folders, or - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    r#where: WhereOptions,
    /// References to what is not among the files are errors
    #[arg(long)]
    strict: bool,
    /// Format of the findings
    #[arg(long, short, default_value = "text")]
    output: FindingFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FindingFormat {
    Text,
    Json,
    Github,
}

impl ValidateOptions {
    /// Whether nothing is an error.
    pub(super) fn run(&self) -> Result<bool> {
        let (findings, served) = validate::validate(&self.files, &self.r#where.reconcile(), self.strict)?;
        let errors = findings.iter().filter(|finding| finding.is_error()).count();
        match self.output {
            FindingFormat::Json => run::print(&serde_json::to_string_pretty(&findings)?),
            FindingFormat::Github => findings.iter().for_each(|finding| run::print(&as_github(finding))),
            FindingFormat::Text => {
                findings.iter().for_each(|finding| run::print(&as_text(finding)));
                let warnings = findings.len() - errors;
                run::print(&format!("{served} extensions would be served; {errors} errors, {warnings} warnings"));
            }
        }
        Ok(errors == 0)
    }
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("who").required(true))]
pub(super) struct ExplainOptions {
    /// The extension's name, as the path has it
    extension: String,
    /// The application, as the header Argocd-Application-Name has it
    #[arg(long, value_name = "NAMESPACE:NAME", requires = "project")]
    application: Option<String>,
    /// Its project, as the header Argocd-Project-Name has it
    #[arg(long, value_name = "NAME", requires = "application")]
    project: Option<String>,
    /// File with the caller's token, or - for standard input. A token is no argument: arguments are seen by everybody
    #[arg(long, value_name = "FILE", group = "who")]
    token_file: Option<PathBuf>,
    /// Somebody of this name, as RBAC names them, instead of a token
    #[arg(long, value_name = "NAME", group = "who")]
    user: Option<String>,
    /// Their groups, comma-separated
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "user")]
    groups: Vec<String>,
    /// Folder with Argo CD's objects [default: the cluster]
    #[arg(long, value_name = "DIR", env = "ARGOCD_EXTENSION_PROXY_FROM_DIR")]
    from_dir: Option<PathBuf>,
    #[command(flatten)]
    r#where: WhereOptions,
    #[command(flatten)]
    argocd: ArgocdOptions,
    #[command(flatten)]
    redis: RedisOptions,
}

impl ExplainOptions {
    /// Whether it would be served.
    pub(super) fn run(&self, log_level: LogLevel) -> Result<bool> {
        let token = self.token_file.as_ref().map(read_token).transpose()?;
        let who = match (&token, &self.user) {
            (Some(token), _) => Who::Token(token),
            (None, Some(name)) => Who::User { name, groups: &self.groups },
            (None, None) => bail!("--token-file or --user says who calls"),
        };
        let application = self.application.as_deref().zip(self.project.as_deref());
        let call = Call { extension: &self.extension, application };
        let (text, is_served) = run::runtime()?.block_on(async {
            let sight = match &self.from_dir {
                Some(folder) => look::folder(folder, &self.r#where.reconcile())?,
                None => {
                    let options = ClusterOptions { overrides: self.argocd.overrides(), redis: self.redis.read()? };
                    look::cluster(options, self.r#where.reconcile(), log_level).await?
                }
            };
            anyhow::Ok(explain::report(&sight, who, call).await)
        })?;
        run::print(text.trim_end());
        Ok(is_served)
    }
}

fn read_token(path: &PathBuf) -> Result<String> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).context("reading the token from standard input")?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    }
    let text = text.trim();
    Ok(text.strip_prefix("argocd.token=").unwrap_or(text).to_owned())
}

#[derive(Debug, Args)]
pub(super) struct StatusOptions {
    /// Argo CD's namespace
    #[arg(long, default_value = "argocd", env = "ARGOCD_EXTENSION_PROXY_NAMESPACE")]
    namespace: String,
    /// Format
    #[arg(long, short, default_value = "table")]
    output: StatusFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StatusFormat {
    Table,
    Wide,
    Json,
    Yaml,
}

impl StatusOptions {
    pub(super) fn run(&self) -> Result<()> {
        let registry = run::runtime()?.block_on(async {
            let registries: Api<ExtensionRegistry> = Api::namespaced(look::client().await?, &self.namespace);
            let found = registries.get_opt("argocd").await.context("reading the ExtensionRegistry")?;
            let hint = || {
                format!(
                    "there is no ExtensionRegistry argocd in the namespace {}: does the proxy run there?",
                    self.namespace
                )
            };
            found.with_context(hint)
        })?;
        let text = match self.output {
            StatusFormat::Table => registry_table::table(&registry, false),
            StatusFormat::Wide => registry_table::table(&registry, true),
            StatusFormat::Json => serde_json::to_string_pretty(&registry)?,
            StatusFormat::Yaml => crds::yaml(&serde_json::to_value(&registry)?),
        };
        run::print(text.trim());
        Ok(())
    }
}
