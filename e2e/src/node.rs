//! A real single-node cluster: kubelet, containerd, runc, CNI and kube-proxy beside the API server. To be started inside
//! [`crate::namespaces`] only: it takes fixed names, and ends with the namespaces.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::apiserver::ApiServer;
use crate::image;
use crate::process::Process;
use crate::redis::{PASSWORD, Redis};
use crate::world::{World, texts};
use crate::{tools, wait};

/// The node's own address, on the pods' bridge.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 244, 7, 1);
const PATIENCE: Duration = Duration::from_secs(90);

/// A cluster in which the conformance world stands.
pub struct Node {
    pub world: World,
    pub api: ApiServer,
    pub redis: Redis,
    folder: TempDir,
    processes: Vec<Process>,
}

/// Builds what a node is made of, while there is a network to download it from.
pub fn prepare() -> Result<()> {
    tools::kubernetes()?;
    tools::node_kubernetes()?;
    tools::node().map(drop)
}

impl Node {
    pub async fn start() -> Result<Self> {
        network()?;
        let ip = IpAddr::from(ADDRESS);
        let advertise = format!("--advertise-address={ADDRESS}");
        let options = [
            "--bind-address=0.0.0.0",
            &advertise,
            "--allow-privileged=true",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=lease",
            "--kubelet-preferred-address-types=InternalIP",
        ];
        let (world, redis) = tokio::try_join!(World::start_at(ip), Redis::start_at(ip, &[]))?;
        let api = ApiServer::start_bare(&options).await?;
        let mut node = Self { world, api, redis, folder: TempDir::new()?, processes: Vec::new() };
        node.controllers()?;
        node.containerd().await?;
        node.kubelet()?;
        let ready = || async {
            let ready = "-o=jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
            Ok(node.api.kubectl(&["get", "nodes", ready]).is_ok_and(|status| status == "True"))
        };
        let outcome = wait::within(PATIENCE, "the node is ready", ready).await;
        outcome.with_context(|| node.logs())?;
        node.apply_world().await?;
        Ok(node)
    }

    fn run(&mut self, name: &str, folder: &Path, arguments: &[String]) -> Result<()> {
        let mut command = Command::new(folder.join(name));
        let path = format!("{}:{}", tools::node()?.display(), std::env::var("PATH").unwrap_or_default());
        command.args(arguments).env("PATH", path);
        self.processes.push(Process::start(&mut command, &self.file(&format!("{name}.log")))?);
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        self.processes.iter().map(|process| format!("{}\n\n", process.log())).collect()
    }

    fn controllers(&mut self) -> Result<()> {
        let kubernetes = tools::node_kubernetes()?;
        let kubeconfig = format!("--kubeconfig={}", self.api.kubeconfig().display());
        let key = format!("--service-account-private-key-file={}", self.api.signing_key().display());
        let root = format!("--root-ca-file={}", self.api.certificate().display());
        let certificates = format!("--cert-dir={}", self.path("certificates"));
        let manager = [kubeconfig.clone(), key, root, "--leader-elect=false".into(), certificates.clone()];
        self.run("kube-controller-manager", kubernetes, &manager)?;
        let scheduler = [kubeconfig.clone(), "--leader-elect=false".into(), certificates];
        self.run("kube-scheduler", kubernetes, &scheduler)?;
        let proxy = [
            kubeconfig,
            "--proxy-mode=nftables".into(),
            "--hostname-override=node".into(),
            "--conntrack-max-per-core=0".into(),
            "--conntrack-min=0".into(),
            "--conntrack-tcp-timeout-established=0".into(),
            "--conntrack-tcp-timeout-close-wait=0".into(),
            "--conntrack-udp-timeout=0".into(),
            "--conntrack-udp-timeout-stream=0".into(),
        ];
        self.run("kube-proxy", kubernetes, &proxy)
    }

    async fn containerd(&mut self) -> Result<()> {
        let programs = tools::node()?;
        let cni = self.file("cni");
        fs::create_dir_all(&cni)?;
        let network = json!({
            "cniVersion": "1.0.0", "name": "pods", "plugins": [{
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "dataDir": self.path("addresses"),
                    "ranges": [[{"subnet": "10.244.7.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}],
                },
            }],
        });
        fs::write(cni.join("10-pods.conflist"), network.to_string())?;
        let configuration = format!(
            r#"version = 3
root = "{root}"
state = "{state}"
[grpc]
address = "{socket}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{runc}"
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{programs}"]
conf_dir = "{cni}"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "localhost/pause:1"
"#,
            root = self.path("images"),
            state = self.path("state"),
            socket = self.path("c.sock"),
            runc = programs.join("runc").display(),
            programs = programs.display(),
            cni = cni.display(),
        );
        fs::write(self.file("containerd.toml"), configuration)?;
        self.run("containerd", programs, &["--config".into(), self.path("containerd.toml")])?;
        let listens = || async { Ok(self.ctr(&["version"]).is_ok()) };
        wait::within(PATIENCE, "containerd answers", listens).await.with_context(|| self.logs())?;
        let archive = self.file("pause.tar");
        image::archive(&programs.join("pause"), "localhost/pause:1", &archive)?;
        self.import(&archive)
    }

    fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(tools::node()?.join("ctr"))
            .args(["--address", &self.path("c.sock"), "--namespace", "k8s.io"])
            .args(arguments)
            .output()?;
        ensure!(output.status.success(), "ctr {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Makes the images of an OCI archive known to the node.
    pub fn import(&self, archive: &Path) -> Result<()> {
        self.ctr(&["images", "import", archive.to_str().context("a path")?]).map(drop)
    }

    fn kubelet(&mut self) -> Result<()> {
        let configuration = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs", "cgroupsPerQOS": false, "enforceNodeAllocatable": [],
            "containerRuntimeEndpoint": format!("unix://{}", self.path("c.sock")),
            "evictionHard": {"memory.available": "10Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "failCgroupV1": false, "failSwapOn": false,
            "podLogsDir": self.path("pod-logs"), "volumePluginDir": self.path("volume-plugins"),
        });
        fs::write(self.file("kubelet.yaml"), configuration.to_string())?;
        let arguments = [
            format!("--config={}", self.path("kubelet.yaml")),
            format!("--kubeconfig={}", self.api.kubeconfig().display()),
            format!("--root-dir={}", self.path("kubelet")),
            format!("--cert-dir={}", self.path("kubelet-certificates")),
            format!("--node-ip={ADDRESS}"),
            "--hostname-override=node".into(),
        ];
        self.run("kubelet", tools::node_kubernetes()?, &arguments)
    }

    /// The conformance world, and where its Redis is.
    async fn apply_world(&self) -> Result<()> {
        self.redis.command(&["SET", "revoked-token|revoked-1", "x"]).await?;
        self.api.apply(self.world.folder())?;
        let server = format!(r#"{{"data": {{"redis.server": "{}"}}}}"#, self.redis.address);
        self.api.kubectl(&[
            "-n",
            "argocd",
            "patch",
            "configmap",
            "argocd-cmd-params-cm",
            "--type=merge",
            "-p",
            &server,
        ])?;
        let password = texts("Secret", "argocd", "argocd-redis", "", &[("auth", PASSWORD)]);
        self.api.kubectl_with_input(&["apply", "-f", "-"], &password).map(drop)
    }

    /// Where a Service is reached from the node.
    pub fn service(&self, namespace: &str, name: &str) -> Result<SocketAddr> {
        let address = "-o=jsonpath={.spec.clusterIP}:{.spec.ports[0].port}";
        Ok(self.api.kubectl(&["-n", namespace, "get", "service", name, address])?.parse()?)
    }
}

/// A loopback, and the pods' bridge.
fn network() -> Result<()> {
    for command in [
        "link set lo up".to_owned(),
        "link add cni0 type bridge".into(),
        format!("addr add {ADDRESS}/24 dev cni0"),
        "link set cni0 up".into(),
        format!("route add default via {ADDRESS} dev cni0"),
    ] {
        let output =
            Command::new("ip").args(command.split(' ')).output().context("ip is missing: apt-get install iproute2")?;
        ensure!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    tools::system_program("nft", "nftables")?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("forwarding")
}
