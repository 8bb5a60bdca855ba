//! The programs that the tests run against: from `KUBEBUILDER_ASSETS`, or built from Go modules once.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

/// Of the Kubernetes version in `tools/go.mod`, which clients ask the server for.
const VERSION_FLAG: &str = "-X k8s.io/component-base/version.gitVersion=v1.36.3";

/// Programs of one Go module.
struct Set {
    /// Below `e2e/tools`.
    module: &'static str,
    flags: &'static [&'static str],
    /// Name and package of each.
    programs: &'static [(&'static str, &'static str)],
}

const KUBERNETES: Set = Set {
    module: "",
    flags: &["-ldflags", VERSION_FLAG],
    programs: &[
        ("etcd", "go.etcd.io/etcd/server/v3"),
        ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
        ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ],
};
/// What makes a machine a node; from `kubernetes` for itself, so that who has `KUBEBUILDER_ASSETS` can use it too.
const NODE_KUBERNETES: Set = Set {
    module: "",
    flags: &["-ldflags", VERSION_FLAG],
    programs: &[
        ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
        ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
        ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
        ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    ],
};
const NODE: Set = Set {
    module: "node",
    flags: &["-tags", "seccomp"],
    programs: &[
        ("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
        ("containerd-shim-runc-v2", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
        ("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
        ("runc", "github.com/opencontainers/runc"),
        ("bridge", "github.com/containernetworking/plugins/plugins/main/bridge"),
        ("host-local", "github.com/containernetworking/plugins/plugins/ipam/host-local"),
        ("loopback", "github.com/containernetworking/plugins/plugins/main/loopback"),
        ("pause", "e2e/tools/node/pause"),
    ],
};
const HELM: Set = Set { module: "helm", flags: &[], programs: &[("helm", "helm.sh/helm/v4/cmd/helm")] };

/// The folder with `etcd`, `kube-apiserver` and `kubectl`.
pub fn kubernetes() -> Result<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&FOLDER, || match std::env::var_os("KUBEBUILDER_ASSETS") {
        Some(folder) => Ok(folder.into()),
        None => build(&KUBERNETES),
    })
}

pub fn helm() -> Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&FOLDER, || build(&HELM)).map(|folder| folder.join("helm"))
}

/// The folder with `kubelet` and its like.
pub fn node_kubernetes() -> Result<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&FOLDER, || build(&NODE_KUBERNETES))
}

/// The folder with `containerd`, `runc`, the CNI plugins and `pause`.
pub fn node() -> Result<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&FOLDER, || {
        library("libseccomp")?;
        build(&NODE)
    })
}

fn once(
    folder: &'static OnceLock<Result<PathBuf, String>>,
    find: impl FnOnce() -> Result<PathBuf>,
) -> Result<&'static Path> {
    let found = folder.get_or_init(|| find().map_err(|error| format!("{error:#}")));
    found.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn build(set: &Set) -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let module = manifest.join("tools").join(set.module);
    let folder = manifest.join("../target/tools").join(set.module);
    std::fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let lock = std::fs::File::create(folder.join(".lock"))?;
    lock.lock()?;
    let stamp = folder.join(format!(".built-from-{}", set.programs[0].0));
    let modules = std::fs::read_to_string(module.join("go.sum"))?;
    let is_built = set.programs.iter().all(|(name, _)| folder.join(name).exists());
    if is_built && std::fs::read_to_string(&stamp).is_ok_and(|built_from| built_from == modules) {
        return Ok(folder);
    }
    for (name, package) in set.programs {
        // Not by println, which the test harness keeps to itself.
        let progress = format!("building {name} from Go modules into {} (minutes, once)\n", folder.display());
        std::io::stderr().write_all(progress.as_bytes())?;
        let built = Command::new("go")
            .args(["build", "-buildvcs=false"])
            .args(set.flags)
            .arg("-o")
            .arg(folder.join(name))
            .arg(package)
            .current_dir(&module)
            .status();
        match built {
            Ok(status) => ensure!(status.success(), "go could not build {name}"),
            Err(error) => bail!(
                "{name} is needed and Go is missing ({error}): install Go from https://go.dev/dl, or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kubectl"
            ),
        }
    }
    std::fs::write(stamp, modules)?;
    Ok(folder)
}

/// A library of the system, to build against.
fn library(name: &str) -> Result<()> {
    let found = Command::new(system("pkg-config")?).args(["--exists", name]).status()?;
    ensure!(found.success(), "{name} is needed and missing: apt-get install {name}-dev");
    Ok(())
}

/// A program of the system, out of the package of its name.
pub fn system(name: &str) -> Result<PathBuf> {
    system_program(name, name)
}

/// The same out of another package.
pub fn system_program(name: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    let found = folders.map(|folder| folder.join(name)).find(|program| program.is_file());
    found.with_context(|| format!("{name} is needed and missing: apt-get install {package}"))
}
