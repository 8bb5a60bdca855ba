//! The conformance world on ports of its own: manifests in a folder, three backends, an identity provider.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::backend::Backend;
use crate::program::Program;
use crate::provider::Provider;
use crate::recordings;
use crate::token::TokenSpec;

/// Removed and ended when dropped.
pub struct World {
    pub a: Backend,
    pub b: Backend,
    pub c: Backend,
    pub provider: Provider,
    folder: TempDir,
    /// Holds a port on which nothing listens.
    _down: Socket,
    /// Addresses in the recordings and what they are here.
    addresses: Vec<(&'static str, String)>,
}

impl World {
    pub async fn start() -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into()).await
    }

    /// With its peers on another address than the usual one.
    pub async fn start_at(ip: IpAddr) -> Result<Self> {
        let listen = || TcpListener::bind((ip, 0));
        let a = Backend::start_on(listen().await?, "a", None)?;
        let b = Backend::start_on(listen().await?, "b", None)?;
        let c = Backend::start_on(listen().await?, "c", None)?;
        let provider = Provider::start_on(listen().await?, None)?;
        let down = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        down.bind(&SocketAddr::from((ip, 0)).into())?;
        let down_address = down.local_addr()?.as_socket().context("no address")?;
        let addresses = vec![
            ("127.0.0.1:18081", a.address.to_string()),
            ("127.0.0.1:18082", b.address.to_string()),
            ("127.0.0.1:18083", c.address.to_string()),
            ("127.0.0.1:18089", down_address.to_string()),
            ("127.0.0.1:18090", provider.address.to_string()),
            // Where callers come from.
            ("\"127.0.0.1\"", format!("\"{ip}\"")),
        ];
        let world = Self { a, b, c, provider, folder: TempDir::new()?, _down: down, addresses };
        for entry in fs::read_dir(recordings::directory().join("world")).context("the recordings have no world/")? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).context("a file without a name")?;
            world.write(name, &fs::read_to_string(&path)?)?;
        }
        Ok(world)
    }

    /// The text with this world's addresses in the place of the recorded ones.
    pub fn translate(&self, text: &str) -> String {
        self.addresses.iter().fold(text.to_owned(), |text, (recorded, here)| text.replace(recorded, here))
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a manifest, recorded addresses translated, in one step as editors do.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        write_at_once(&self.folder().join(name), &self.translate(text))
    }

    /// Rewrites a manifest.
    pub fn edit(&self, name: &str, edit: impl FnOnce(String) -> String) -> Result<()> {
        let text = fs::read_to_string(self.folder().join(name))?;
        let edited = edit(text.clone());
        anyhow::ensure!(edited != text, "the edit of {name} changes nothing");
        self.write(name, &edited)
    }

    /// From now on alice may not call this extension.
    pub fn forbid_alice(&self, extension: &str) -> Result<()> {
        let last = "invoke, secretive, deny\n";
        let denial = format!("{last}    p, alice, extensions, invoke, {extension}, deny\n");
        self.edit("10-config.yaml", |text| text.replace(last, &denial))
    }

    pub fn remove(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.folder().join(name))?)
    }

    /// A ProxyExtension whose only service is `url`, with more lines of its backend.
    pub fn write_extension(&self, name: &str, url: &str, backend: &str) -> Result<()> {
        let text = format!(
            "apiVersion: extensions.argoproj.io/v1alpha1\nkind: ProxyExtension\nmetadata: {{name: {name}, namespace: argocd}}\n\
             spec:\n  backend:\n    services:\n    - url: {url}\n{backend}"
        );
        self.write(&format!("extension-{name}.yaml"), &text)
    }

    /// A ProxyExtension in Argo CD's namespace; `spec` in YAML.
    pub fn write_spec(&self, name: &str, spec: &str) -> Result<()> {
        self.write(&format!("extension-{name}.yaml"), &proxy_extension("argocd", name, spec))
    }

    /// alice's token.
    pub fn token(&self) -> Result<String> {
        TokenSpec::local().mint(&self.provider)
    }

    /// Starts the program on this world's folder.
    pub fn serve(&self, more: &[&str]) -> Result<Program> {
        serve_folder(self.folder(), more, &[])
    }

    /// The same with environment variables.
    pub fn serve_with(&self, environment: &[(&str, &str)]) -> Result<Program> {
        serve_folder(self.folder(), &[], environment)
    }
}

/// A ProxyExtension's manifest; `spec` in YAML.
pub fn proxy_extension(namespace: &str, name: &str, spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: extensions.argoproj.io/v1alpha1\nkind: ProxyExtension\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n{spec}"
    )
}

/// A manifest of a ConfigMap or a Secret with texts in its data.
pub fn texts(kind: &str, namespace: &str, name: &str, labels: &str, data: &[(&str, &str)]) -> String {
    let field = if kind == "Secret" { "stringData" } else { "data" };
    let data: String = data
        .iter()
        .map(|(key, text)| {
            let text: String = text.lines().map(|line| format!("    {line}\n")).collect();
            format!("  {key}: |\n{text}")
        })
        .collect();
    format!(
        "apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\n{field}:\n{data}"
    )
}

/// The label of Secrets that ProxyExtensions may refer to.
pub const PART_OF_ARGOCD: &str = "app.kubernetes.io/part-of: argocd";

/// Starts the program on a folder, on free ports.
pub fn serve_folder(folder: &Path, more: &[&str], environment: &[(&str, &str)]) -> Result<Program> {
    let mut arguments = vec!["run", "--from-dir", folder.to_str().context("a folder's name")?];
    arguments.extend(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    arguments.extend(more);
    Program::start_with(&arguments, environment)
}

pub fn write_at_once(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("a file in no folder")?;
    let mut file = tempfile::Builder::new().prefix(".").tempfile_in(folder)?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}
