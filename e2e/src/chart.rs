//! The chart, and the real helm on it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::apiserver::ApiServer;
use crate::tools;

pub const NAME: &str = "argocd-extension-proxy";

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts").join(NAME)
}

/// Values that turn everything on.
pub const EVERYTHING: &str = include_str!("../chart/everything.yaml");

/// What helm says.
pub fn helm(api: Option<&ApiServer>, arguments: &[&str]) -> Result<String> {
    let home = tempfile::tempdir()?;
    let mut command = Command::new(tools::helm()?);
    command.args(arguments).env("HOME", home.path());
    match api {
        Some(api) => command.env("KUBECONFIG", api.kubeconfig()),
        None => command.env("KUBECONFIG", "/nowhere"),
    };
    let output = command.output().context("starting helm")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(output.status.success(), "helm {arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    Ok(text(&output.stdout))
}

/// Removes the kinds that the chart brings itself: helm does not take over what others installed.
pub fn forget_own_kinds(api: &ApiServer) -> Result<()> {
    let kinds = ["proxyextensions.extensions.argoproj.io", "extensionregistries.extensions.argoproj.io"];
    api.kubectl(&[&["delete", "crd"], &kinds[..]].concat()).map(drop)
}

/// What everything-on values need besides: kinds of others, and namespaces.
pub fn prepare_for_everything(api: &ApiServer) -> Result<()> {
    for namespace in ["team-extensions", "monitoring"] {
        api.kubectl(&["create", "namespace", namespace])?;
    }
    api.kubectl_with_input(&["apply", "--server-side", "-f", "-"], include_str!("../chart/foreign-crds.yaml"))?;
    api.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]).map(drop)
}
