//! What Argo CD's server is told by flags and environment variables rather than by `argocd-cmd-params-cm`.

use std::collections::BTreeMap;

use clap::Args;

#[derive(Debug, Args)]
pub(super) struct ArgocdOptions {
    /// Namespaces besides Argo CD's own whose applications count, comma-separated; globs and /regular expressions/
    /// [default: application.namespaces of argocd-cmd-params-cm]
    #[arg(long, value_name = "PATTERNS", env = "ARGOCD_APPLICATION_NAMESPACES")]
    application_namespaces: Option<String>,
    /// Path below which Argo CD answers [default: server.rootpath of argocd-cmd-params-cm]
    #[arg(long, value_name = "PATH", env = "ARGOCD_SERVER_ROOTPATH")]
    rootpath: Option<String>,
    /// Address of Argo CD's Dex [default: server.dex.server of argocd-cmd-params-cm]
    #[arg(long, value_name = "ADDRESS", env = "ARGOCD_SERVER_DEX_SERVER")]
    dex_server: Option<String>,
}

impl ArgocdOptions {
    pub(super) fn overrides(&self) -> BTreeMap<&'static str, String> {
        [
            ("application.namespaces", &self.application_namespaces),
            ("server.rootpath", &self.rootpath),
            ("server.dex.server", &self.dex_server),
        ]
        .into_iter()
        .filter_map(|(key, value)| value.clone().map(|value| (key, value)))
        .collect()
    }
}
