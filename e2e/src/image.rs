//! Container images: one of a single static program, and the one that the repository builds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::digest;
use serde_json::{Value, json};

use crate::tools;

/// Writes an OCI archive of an image that runs a program.
pub fn archive(program: &Path, name: &str, to: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let blobs = folder.path().join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let layer = folder.path().join("layer.tar");
    let parent = program.parent().context("a program in no folder")?;
    let file = program.file_name().context("a program without a name")?;
    tar(&["--create", "--owner=0", "--group=0", "--file"], &layer, parent, &[file.to_str().context("a name")?])?;
    let blob = |content: &[u8], kind: &str| -> Result<Value> {
        let sum = sha256(content);
        fs::write(blobs.join(&sum), content)?;
        Ok(json!({"mediaType": kind, "digest": format!("sha256:{sum}"), "size": content.len()}))
    };
    let layer_content = fs::read(&layer)?;
    fs::remove_file(&layer)?;
    let configuration = json!({
        "architecture": architecture(), "os": "linux",
        "config": {"Entrypoint": [format!("/{}", file.to_string_lossy())]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer_content))]},
    });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(configuration.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json")?,
        "layers": [blob(&layer_content, "application/vnd.oci.image.layer.v1.tar")?],
    });
    let mut entry = blob(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json")?;
    entry["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(folder.path().join("index.json"), index.to_string())?;
    fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#)?;
    tar(&["--create", "--file"], to, folder.path(), &["oci-layout", "index.json", "blobs"])
}

/// The optimised program that the image holds; `profiled` as releases have it.
pub fn program(profiled: bool) -> Result<PathBuf> {
    let output = Command::new(root()?.join("operator/image/build"))
        .args(profiled.then_some("--profiled"))
        .arg("--program")
        .env("CARGO", std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .stderr(Stdio::inherit())
        .output()
        .context("starting operator/image/build")?;
    ensure!(output.status.success(), "operator/image/build --program: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().into())
}

fn root() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?)
}

/// The image that the repository builds, as an OCI archive, and its size in bytes.
pub fn build(name: &str, to: &Path) -> Result<u64> {
    tools::system_program("buildah", "buildah")?;
    let storage = tempfile::tempdir()?;
    let status = Command::new(root()?.join("operator/image/build"))
        .arg(name)
        .arg(to)
        .env("BUILDAH_STORAGE", storage.path())
        .env("CARGO", std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .status()
        .context("starting operator/image/build")?;
    ensure!(status.success(), "operator/image/build: {status}");
    Ok(fs::metadata(to)?.len())
}

fn tar(options: &[&str], file: &Path, folder: &Path, names: &[&str]) -> Result<()> {
    let status = Command::new("tar").args(options).arg(file).arg("--directory").arg(folder).args(names).status()?;
    ensure!(status.success(), "tar: {status}");
    Ok(())
}

fn sha256(content: &[u8]) -> String {
    digest::digest(&digest::SHA256, content).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As images name it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}
