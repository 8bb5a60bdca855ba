//! `demo`: a backend, a small world, a signed-in user and the proxy, in one process and a folder that can be edited; or
//! the same around a backend of one's own, to develop an extension without a cluster and without Argo CD.

mod backend;
mod user;
mod watch;

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cli::OwnExtension;
use crate::run::{self, Proxy, Setup};
pub(crate) use watch::Watcher;

pub(crate) const NAMESPACE: &str = "argocd";
const USER: &str = "alice";

/// The manifests, with `@…@` where the demo's own values go.
const WORLD: [(&str, &str); 4] = [
    ("argocd-cm.yaml", include_str!("world/argocd-cm.yaml")),
    ("argocd-rbac-cm.yaml", include_str!("world/argocd-rbac-cm.yaml")),
    ("applications.yaml", include_str!("world/applications.yaml")),
    ("proxy-extensions.yaml", include_str!("world/proxy-extensions.yaml")),
];

/// What is served.
pub(crate) enum World {
    Small,
    /// One extension, whose backend runs already.
    Own {
        backend: String,
        own: OwnExtension,
    },
}

pub(crate) fn demo(setup: Setup, world: &World, watcher: Option<Watcher>) -> Result<()> {
    let runtime = run::runtime()?;
    let folder = tempfile::Builder::new().prefix("argocd-extension-proxy-demo-").tempdir()?;
    let signing_key = user::random_text()?;
    let token = match world {
        World::Small => {
            let backend = runtime.block_on(backend::start())?;
            write_world(folder.path(), &format!("http://{backend}"), &signing_key)?;
            user::sign_in(USER, &[], &signing_key)?
        }
        World::Own { backend, own } => {
            write_own_world(folder.path(), backend, own, &signing_key)?;
            user::sign_in(&own.user, &own.groups, &signing_key)?
        }
    };

    let (proxy, report) = Proxy::on_folder(folder.path(), setup)?;
    if let Some(watcher) = watcher {
        let groups = match world {
            World::Small => &[],
            World::Own { own, .. } => own.groups.as_slice(),
        };
        watcher.watch(proxy.snapshots(), groups);
    }
    run::print(&report.summary(&folder.path().display().to_string()));
    run::print(&proxy.addresses());
    let calls = Calls { base: proxy.base(), token };
    match world {
        World::Small => {
            run::print(&calls.text());
            let headers = calls.headers(&format!("{NAMESPACE}:guestbook"), "default");
            let answer = runtime.block_on(backend::get(proxy.address(), "/extensions/echo/hello", &headers))?;
            run::print(&format!("The first of them answers:\n\n{answer}\n\nCtrl-C ends the demo."));
        }
        World::Own { own, .. } => run::print(&calls.own_text(own)),
    }
    runtime.block_on(proxy.serve())
}

fn write_world(folder: &Path, backend: &str, signing_key: &str) -> Result<()> {
    for (name, text) in WORLD {
        let text = text.replace("@BACKEND@", backend).replace("@SIGNING_KEY@", signing_key);
        write(folder, name, &text)?;
    }
    Ok(())
}

/// A world in which the user may call the one extension for the one application. Written as JSON, which is YAML, so
/// that no value can be read as anything else.
fn write_own_world(folder: &Path, backend: &str, own: &OwnExtension, signing_key: &str) -> Result<()> {
    let (namespace, name) = own.application.split_once(':').context("--application: write <namespace>:<name>")?;
    let object = |kind: &str, name: &str, key: &str, value: serde_json::Value| {
        let (api_version, metadata) = match kind {
            "Application" => ("argoproj.io/v1alpha1", json!({"name": name, "namespace": namespace})),
            "AppProject" => ("argoproj.io/v1alpha1", json!({"name": name, "namespace": NAMESPACE})),
            "ProxyExtension" => ("extensions.argoproj.io/v1alpha1", json!({"name": name, "namespace": NAMESPACE})),
            _ => ("v1", json!({"name": name, "namespace": NAMESPACE})),
        };
        json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, key: value})
    };
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let (user, extension) = (quoted(&own.user), quoted(&own.extension));
    let policy =
        format!("p, {user}, applications, get, */*, allow\np, {user}, extensions, invoke, {extension}, allow\n");
    let account = format!("accounts.{}", own.user);
    let anywhere = json!([{"namespace": "*", "server": "*"}]);
    let destination = json!({"server": "https://kubernetes.default.svc", "namespace": name});
    for (file, object) in [
        ("argocd-cm", object("ConfigMap", "argocd-cm", "data", json!({ account: "login" }))),
        ("argocd-rbac-cm", object("ConfigMap", "argocd-rbac-cm", "data", json!({"policy.csv": policy}))),
        (
            "argocd-cmd-params-cm",
            object("ConfigMap", "argocd-cmd-params-cm", "data", json!({"application.namespaces": namespace})),
        ),
        ("argocd-secret", object("Secret", "argocd-secret", "stringData", json!({"server.secretkey": signing_key}))),
        (
            "project",
            object("AppProject", &own.project, "spec", json!({"destinations": anywhere, "sourceNamespaces": ["*"]})),
        ),
        (
            "application",
            object("Application", name, "spec", json!({"project": own.project, "destination": destination})),
        ),
    ] {
        write(folder, &format!("{file}.yaml"), crds::yaml(&object).trim_start())?;
    }
    let spec = json!({"name": own.extension, "backend": {"services": [{"url": backend}]}});
    let extension = object("ProxyExtension", "extension", "spec", spec);
    write(folder, "extension.yaml", crds::yaml(&extension).trim_start())
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    std::fs::write(folder.join(name), text).with_context(|| format!("writing {name}"))
}

/// What a user can try.
struct Calls {
    base: String,
    token: String,
}

impl Calls {
    fn headers(&self, application: &str, project: &str) -> [(&'static str, String); 3] {
        [
            ("Cookie", format!("argocd.token={}", self.token)),
            ("Argocd-Application-Name", application.to_owned()),
            ("Argocd-Project-Name", project.to_owned()),
        ]
    }

    fn curl(&self, extension: &str, application: &str, project: &str) -> String {
        let headers = self.headers(application, project);
        let headers: String = headers.iter().map(|(name, value)| format!(" -H '{name}: {value}'")).collect();
        format!("curl -i '{}/extensions/{extension}'{headers}", self.base)
    }

    fn own_text(&self, own: &OwnExtension) -> String {
        format!(
            "\nTo try, in another terminal:\n\n# {} calls the extension for the application {}\n{}\n\n\
             Edit the manifests in the folder above: a change is live at once. Ctrl-C ends it.\n",
            own.user,
            own.application,
            self.curl(&format!("{}/", own.extension), &own.application, &own.project)
        )
    }

    fn text(&self) -> String {
        let signed_in = |extension: &str| self.curl(extension, &format!("{NAMESPACE}:guestbook"), "default");
        format!(
            "\nTo try, in another terminal:\n\n\
             # {USER} calls an extension for the application guestbook: 200, and what the backend saw\n{}\n\n\
             # the backend of the application's own cluster answers, with a header out of a Secret\n{}\n\n\
             # {USER} may not call this one: 401; the log below says which check refused\n{}\n\n\
             # nobody is signed in: 400\ncurl -i {}/extensions/echo/hello\n\n\
             Edit the manifests in the folder above: a change is live at once.\n",
            signed_in("echo/hello"),
            signed_in("metrics/api/v1/query?query=up"),
            signed_in("secret-door/"),
            self.base
        )
    }
}

#[cfg(test)]
mod tests;
