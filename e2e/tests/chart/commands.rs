//! Every fenced block of the documents: commands are run, outputs compared, policies validated.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::chart::forget_own_kinds;
use e2e::redis::PASSWORD;
use e2e::stage::Stage;
use e2e::{program, tools, wait};

/// In this order: what one installs the next one looks at.
const DOCUMENTS: [&str; 11] = [
    "README.md",
    "docs/install.md",
    "docs/rbac.md",
    "docs/operations.md",
    "docs/security.md",
    "docs/status.md",
    "docs/permissions.md",
    "docs/metrics.md",
    "docs/differences.md",
    "docs/architecture.md",
    "docs/performance.md",
];
/// What another test runs: this one itself, and the image, which `cluster` builds with the very script.
const RUN_ELSEWHERE: [&str; 3] = ["cargo test --workspace", "cargo bench ", "operator/image/build "];

struct Block {
    kind: String,
    lines: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn blocks(document: &str) -> Vec<Block> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(kind) if !is_open => blocks.push(Block { kind: kind.to_owned(), lines: Vec::new() }),
            Some(_) => {}
            None if is_open => blocks.last_mut().unwrap().lines.push(line.to_owned()),
            None => continue,
        }
        is_open ^= line.starts_with("```");
    }
    blocks
}

/// Lines that end with a backslash go on in the next one.
fn commands(block: &Block) -> Vec<String> {
    let text = block.lines.join("\n").replace("\\\n", " ");
    text.lines().map(str::to_owned).filter(|line| !line.trim().is_empty()).collect()
}

/// A folder to work in, with the programs that the documents call.
struct Desk {
    folder: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Desk {
    fn new(stage: &Stage) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("programs");
        std::fs::create_dir(&programs).unwrap();
        let binary = program::binary().unwrap().display().to_string();
        let kubectl = tools::kubernetes().unwrap().join("kubectl").display().to_string();
        let helm = tools::helm().unwrap().display().to_string();
        // What runs until it is told to end is told so when it has started.
        let cargo = format!(
            "[ \"$1 $2 $3\" = 'run --release --' ] || {{ echo \"not known: cargo $*\" >&2; exit 1; }}\nshift 3\n\
             timeout --signal=TERM 3 {binary} \"$@\"; status=$?; [ $status = 124 ] || exit $status"
        );
        for (name, script) in [
            ("kubectl", format!("exec {kubectl} \"$@\"")),
            ("helm", format!("exec {helm} \"$@\"")),
            ("argocd-extension-proxy", format!("exec {binary} \"$@\"")),
            ("cargo", cargo),
        ] {
            let path = programs.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        for name in ["charts", "operator"] {
            std::os::unix::fs::symlink(root().join(name), folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("token"), stage.world.token().unwrap()).unwrap();
        let environment = vec![
            ("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap())),
            ("HOME", folder.path().display().to_string()),
            ("KUBECONFIG", stage.api.kubeconfig().display().to_string()),
            ("REDIS_SERVER", stage.redis.address.to_string()),
            ("REDIS_PASSWORD", PASSWORD.into()),
        ];
        Self { folder, environment }
    }

    fn run(&self, command: &str) -> (bool, String) {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", command])
            .current_dir(self.folder.path())
            .envs(self.environment.iter().map(|(name, value)| (*name, value)))
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    }
}

/// Numbers differ from run to run, and what stands for anything differs altogether.
fn comparable(text: &str) -> String {
    let text = text.split('…').next().unwrap_or_default();
    text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
}

/// Ports have more or fewer digits.
fn squeezed(text: &str) -> String {
    let mut squeezed = String::new();
    for c in comparable(text).chars() {
        if c != '0' || !squeezed.ends_with('0') {
            squeezed.push(c);
        }
    }
    squeezed
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_documents_works() {
    let stage = Stage::start().await.unwrap();
    forget_own_kinds(&stage.api).unwrap();
    // In the pods' place, which there are none of here: who serves and reports.
    let _program = stage.serve(&[]).await.unwrap();
    let desk = Desk::new(&stage);
    let (mut run, mut failures) = (0, Vec::new());
    for document in DOCUMENTS {
        let mut last = String::new();
        for block in blocks(document) {
            match block.kind.as_str() {
                "sh" => {
                    last.clear();
                    for command in commands(&block) {
                        if RUN_ELSEWHERE.iter().any(|elsewhere| command.starts_with(elsewhere)) {
                            continue;
                        }
                        if command.contains("extensionregistry") || command.contains("status") {
                            registry_is_written(&stage).await;
                        }
                        let (good, said) = desk.run(&command);
                        run += 1;
                        if !good {
                            failures.push(format!("{document}: {command}\n{said}"));
                        }
                        last.push_str(&said);
                    }
                }
                "text" if !last.is_empty() => {
                    let said = squeezed(&last);
                    let lines = block.lines.iter().filter(|line| !line.trim().is_empty());
                    let missing = lines.filter(|line| !said.contains(squeezed(line).trim()));
                    failures.extend(missing.map(|line| format!("{document}: {line:?} is not said:\n{last}")));
                }
                // A drawing.
                "text" => {}
                "csv" => {
                    let policy = e2e::world::texts(
                        "ConfigMap",
                        "argocd",
                        "argocd-rbac-cm",
                        "",
                        &[("policy.csv", &block.lines.join("\n"))],
                    );
                    std::fs::write(desk.folder.path().join("policy.yaml"), policy).unwrap();
                    let (good, said) = desk.run("argocd-extension-proxy validate policy.yaml");
                    if !good || !said.contains("0 errors, 0 warnings") {
                        failures.push(format!("{document}: {said}"));
                    }
                }
                other => failures.push(format!("{document}: nothing is known of blocks of the kind {other:?}")),
            }
        }
        if document == "README.md" {
            let (good, said) = desk.run("helm uninstall argocd-extension-proxy --namespace argocd");
            assert!(good, "{said}");
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(run > 15, "{run}");
}

async fn registry_is_written(stage: &Stage) {
    let written = || async { Ok(stage.api.kubectl(&["-n", "argocd", "get", "extensionregistry", "argocd"]).is_ok()) };
    wait::within(std::time::Duration::from_secs(60), "the registry is written", written).await.unwrap();
}
