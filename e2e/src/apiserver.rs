//! A real kube-apiserver with its etcd, RBAC on, and a user who may do everything.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rcgen::KeyPair;
use tempfile::TempDir;

use crate::client::{Request, send};
use crate::process::{Process, free_port};
use crate::{tools, wait};

const PATIENCE: Duration = Duration::from_secs(60);
const ADMIN_TOKEN: &str = "the-tests-administrator";

/// Ended and removed when dropped.
pub struct ApiServer {
    folder: TempDir,
    etcd_port: u16,
    peer_port: u16,
    port: u16,
    options: Vec<String>,
    etcd: Process,
    server: Process,
}

impl ApiServer {
    /// Starts both and installs the kinds of Argo CD and of this project.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// With more options of `kube-apiserver`.
    pub async fn start_with(options: &[&str]) -> Result<Self> {
        // Nobody makes service accounts where there is no controller manager.
        Self::start_bare(&[&["--disable-admission-plugins=ServiceAccount"], options].concat()).await
    }

    /// With these options and no others that a cluster of its own would not have.
    pub async fn start_bare(options: &[&str]) -> Result<Self> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let folder = TempDir::new()?;
        let (etcd_port, peer_port, port) = (free_port()?, free_port()?, free_port()?);
        // The key that service accounts' tokens are signed with, private and public half in one file each.
        let key = KeyPair::generate()?;
        fs::write(folder.path().join("sa.key"), key.serialize_pem())?;
        fs::write(folder.path().join("sa.pub"), key.public_key_pem())?;
        fs::write(folder.path().join("tokens.csv"), format!("{ADMIN_TOKEN},admin,admin,system:masters\n"))?;
        let etcd = start_etcd(folder.path(), etcd_port, peer_port).await?;
        let server = start_server(folder.path(), etcd_port, port, &options).await?;
        let this = Self { folder, etcd_port, peer_port, port, options, etcd, server };
        this.write_kubeconfig("admin", ADMIN_TOKEN)?;
        this.ready().await?;
        for manifests in [include_str!("../argocd-crds.yaml"), &crds::manifests()] {
            this.kubectl_with_input(&["apply", "--server-side", "-f", "-"], manifests)?;
        }
        this.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"])?;
        Ok(this)
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Of the server's own certificate, which signs itself.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificates/apiserver.crt")
    }

    /// That service accounts' tokens are signed with.
    pub fn signing_key(&self) -> PathBuf {
        self.folder.path().join("sa.key")
    }

    /// The administrator's.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("admin.kubeconfig")
    }

    /// A kubeconfig with another token.
    pub fn write_kubeconfig(&self, name: &str, token: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(format!("{name}.kubeconfig"));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: 'https://{}', insecure-skip-tls-verify: true}}}}]\n\
             users: [{{name: test, user: {{token: '{token}'}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test, namespace: argocd}}}}]\n",
            self.address()
        );
        fs::write(&path, text)?;
        Ok(path)
    }

    pub async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        Ok(Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)?)
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with_input(arguments, "")
    }

    /// What the real kubectl says.
    pub fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let file = self.folder.path().join("input");
        fs::write(&file, input)?;
        let output = Command::new(tools::kubernetes()?.join("kubectl"))
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(arguments)
            .env("HOME", self.folder.path())
            .stdin(fs::File::open(file)?)
            .output()
            .context("starting kubectl")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(output.status.success(), "kubectl {arguments:?}: {}", text(&output.stderr));
        Ok(text(&output.stdout))
    }

    /// Applies every manifest of a folder.
    pub fn apply(&self, folder: &Path) -> Result<()> {
        let folder = folder.to_str().context("a folder's name")?;
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", folder]).map(drop)
    }

    pub fn kill(&mut self) -> Result<()> {
        self.server.kill()
    }

    pub async fn restart(&mut self) -> Result<()> {
        self.server = start_server(self.folder.path(), self.etcd_port, self.port, &self.options).await?;
        self.ready().await
    }

    pub async fn restart_etcd(&mut self) -> Result<()> {
        self.etcd.kill()?;
        self.etcd = start_etcd(self.folder.path(), self.etcd_port, self.peer_port).await?;
        self.ready().await
    }

    /// Makes etcd forget every version but the newest, as it does from time to time.
    pub async fn compact(&self) -> Result<()> {
        let post = |path: &'static str, body: String| {
            let to = SocketAddr::from(([127, 0, 0, 1], self.etcd_port));
            let mut request = Request::get(path).header("Content-Type", "application/json");
            request.method = "POST".into();
            request.body = body.into_bytes();
            async move { send(to, request).await }
        };
        // Writes of its own, so that the newest version is one that nobody has seen.
        for _ in 0..10 {
            post("/v3/kv/put", r#"{"key": "dGVzdA==", "value": "dGVzdA=="}"#.into()).await?;
        }
        let answer: serde_json::Value =
            serde_json::from_slice(&post("/v3/kv/range", r#"{"key": "dGVzdA=="}"#.into()).await?.body)?;
        let revision = answer["header"]["revision"].as_str().context("no revision")?.to_owned();
        let compacted = post("/v3/kv/compaction", format!(r#"{{"revision": "{revision}", "physical": true}}"#)).await?;
        ensure!(compacted.status == 200, "{}", compacted.text());
        Ok(())
    }

    async fn ready(&self) -> Result<()> {
        let ready = || async { Ok(self.kubectl(&["get", "--raw", "/readyz"]).is_ok_and(|text| text == "ok")) };
        wait::within(PATIENCE, "the API server is ready", ready).await.map(drop).with_context(|| self.server.log())
    }
}

async fn start_etcd(folder: &Path, port: u16, peer_port: u16) -> Result<Process> {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
    let mut command = Command::new(tools::kubernetes()?.join("etcd"));
    command
        .arg("--data-dir")
        .arg(folder.join("etcd"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync"]);
    let mut etcd = Process::start(&mut command, &folder.join("etcd.log"))?;
    etcd.listening(([127, 0, 0, 1], port).into(), PATIENCE).await?;
    Ok(etcd)
}

async fn start_server(folder: &Path, etcd_port: u16, port: u16, options: &[String]) -> Result<Process> {
    let mut command = Command::new(tools::kubernetes()?.join("kube-apiserver"));
    let file = |name: &str| folder.join(name).display().to_string();
    command
        .arg(format!("--etcd-servers=http://127.0.0.1:{etcd_port}"))
        .arg(format!("--secure-port={port}"))
        .arg(format!("--cert-dir={}", file("certificates")))
        .arg(format!("--service-account-key-file={}", file("sa.pub")))
        .arg(format!("--service-account-signing-key-file={}", file("sa.key")))
        .arg(format!("--token-auth-file={}", file("tokens.csv")))
        .args([
            "--bind-address=127.0.0.1",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=RBAC",
            "--endpoint-reconciler-type=none",
        ])
        .args(options);
    let mut server = Process::start(&mut command, &folder.join("kube-apiserver.log"))?;
    server.listening(([127, 0, 0, 1], port).into(), PATIENCE).await?;
    Ok(server)
}
