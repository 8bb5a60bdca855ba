//! The programs that the tests run against: from `KUBEBUILDER_ASSETS`, or built from Go modules once.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

/// Of the Kubernetes version in `tools/go.mod`, which clients ask the server for.
const VERSION_FLAG: &str = "-X k8s.io/component-base/version.gitVersion=v1.36.3";
const PROGRAMS: [(&str, &str); 3] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
];

/// The folder with `etcd`, `kube-apiserver` and `kubectl`.
pub fn kubernetes() -> Result<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = FOLDER.get_or_init(|| match std::env::var_os("KUBEBUILDER_ASSETS") {
        Some(folder) => Ok(folder.into()),
        None => build().map_err(|error| format!("{error:#}")),
    });
    found.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn build() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = manifest.join("../target/tools");
    std::fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let lock = std::fs::File::create(folder.join(".lock"))?;
    lock.lock()?;
    let stamp = folder.join(".built-from");
    let modules = std::fs::read_to_string(manifest.join("tools/go.sum"))?;
    let is_built = PROGRAMS.iter().all(|(name, _)| folder.join(name).exists());
    if is_built && std::fs::read_to_string(&stamp).is_ok_and(|built_from| built_from == modules) {
        return Ok(folder);
    }
    for (name, package) in PROGRAMS {
        // Not by println, which the test harness keeps to itself.
        let progress = format!("building {name} from Go modules into {} (minutes, once)\n", folder.display());
        std::io::stderr().write_all(progress.as_bytes())?;
        let built = Command::new("go")
            .args(["build", "-buildvcs=false", "-ldflags", VERSION_FLAG, "-o"])
            .arg(folder.join(name))
            .arg(package)
            .current_dir(manifest.join("tools"))
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

/// A program of the system.
pub fn system(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file());
    found.with_context(|| format!("{name} is needed and missing: apt-get install {name}"))
}
