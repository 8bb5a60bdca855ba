//! `demo`: a backend, a small world, a signed-in user and the proxy, in one process and a folder that can be edited.

mod backend;
mod user;

use std::path::Path;

use anyhow::{Context, Result};

use crate::run::{self, Proxy, Setup};

pub(crate) const NAMESPACE: &str = "argocd";
const USER: &str = "alice";

/// The manifests, with `@…@` where the demo's own values go.
const WORLD: [(&str, &str); 4] = [
    ("argocd-cm.yaml", include_str!("world/argocd-cm.yaml")),
    ("argocd-rbac-cm.yaml", include_str!("world/argocd-rbac-cm.yaml")),
    ("applications.yaml", include_str!("world/applications.yaml")),
    ("proxy-extensions.yaml", include_str!("world/proxy-extensions.yaml")),
];

pub(crate) fn demo(setup: Setup) -> Result<()> {
    let runtime = run::runtime()?;
    let backend = runtime.block_on(backend::start())?;
    let folder = tempfile::Builder::new().prefix("argocd-extension-proxy-demo-").tempdir()?;
    let signing_key = user::random_text()?;
    write_world(folder.path(), &format!("http://{backend}"), &signing_key)?;
    let token = user::sign_in(USER, &signing_key)?;

    let (proxy, report) = Proxy::on_folder(folder.path(), setup)?;
    let calls = Calls { base: proxy.base(), token };
    run::print(&report.summary(&folder.path().display().to_string()));
    run::print(&proxy.addresses());
    run::print(&calls.text());
    let answer = runtime.block_on(backend::get(proxy.address(), "/extensions/echo/hello", &calls.headers()))?;
    run::print(&format!("The first of them answers:\n\n{answer}\n\nCtrl-C ends the demo."));
    runtime.block_on(proxy.serve())
}

fn write_world(folder: &Path, backend: &str, signing_key: &str) -> Result<()> {
    for (name, text) in WORLD {
        let text = text.replace("@BACKEND@", backend).replace("@SIGNING_KEY@", signing_key);
        std::fs::write(folder.join(name), text).with_context(|| format!("writing {name}"))?;
    }
    Ok(())
}

/// What a user can try.
struct Calls {
    base: String,
    token: String,
}

impl Calls {
    fn headers(&self) -> [(&'static str, String); 3] {
        [
            ("Cookie", format!("argocd.token={}", self.token)),
            ("Argocd-Application-Name", format!("{NAMESPACE}:guestbook")),
            ("Argocd-Project-Name", "default".into()),
        ]
    }

    fn text(&self) -> String {
        let headers: String = self.headers().iter().map(|(name, value)| format!(" -H '{name}: {value}'")).collect();
        let signed_in = |extension: &str| format!("curl -i '{}/extensions/{extension}'{headers}", self.base);
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
