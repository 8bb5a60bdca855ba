//! Commands that serve nothing.

use std::time::Duration;

use std::fs::File;
use std::process::Command;

use e2e::backend::Backend;
use e2e::client::{Request, send};
use e2e::program::{self, Program};
use e2e::token::TokenSpec;
use e2e::wait;
use e2e::world::World;
use serde_json::Value;

fn run(arguments: &[&str]) -> (bool, String, String) {
    let (status, output, log) = Program::run(arguments).unwrap();
    (status.success(), output, log)
}

#[test]
fn the_version_names_the_commit_and_shells_complete() {
    let (good, said, _) = run(&["--version"]);
    assert!(good && said.starts_with("argocd-extension-proxy 0.1.0"), "{said}");
    for shell in ["bash", "zsh", "fish"] {
        let (good, script, _) = run(&["completions", shell]);
        assert!(good && script.contains("validate"), "{shell}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_names_every_check_and_what_decided_it() {
    let world = World::start().await.unwrap();
    let folder = world.folder().to_str().unwrap().to_owned();
    let tokens = tempfile::tempdir().unwrap();
    let file = tokens.path().join("token");
    let explain = |extension: &str, who: &[&str], application: &[&str]| {
        run(&[&["explain", extension, "--from-dir", &folder], who, application].concat())
    };
    let guestbook = ["--application", "argocd:guestbook", "--project", "default"];
    let (good, said, _) = explain("decorated", &["--user", "alice"], &guestbook);
    assert!(good, "{said}");
    for line in [
        "\u{2713} token                    alice, no groups",
        "\u{2713} RBAC applications        applications, get, default/guestbook: policy.csv line 2 (asked for \"alice\")",
        "\u{2713} destination              cluster in-cluster (https://kubernetes.default.svc)",
        "\u{2713} RBAC extensions          extensions, invoke, decorated: policy.csv line 7 (asked for \"alice\")",
        &format!("\u{2713} service                  {}", world.b.url()),
        "argocd-username: alice",
        "authorization: (configured; not shown)",
    ] {
        assert!(said.contains(line), "{line} is missing:\n{said}");
    }
    assert!(!said.contains("from-config"), "{said}");

    let (good, said, _) = explain("secretive", &["--user", "alice"], &guestbook);
    assert!(!good && said.contains("\u{2717} RBAC extensions          RBAC refuses `extensions, invoke, secretive`, denied by policy.csv line 8"), "{said}");
    let (_, said, _) = explain("httpbin", &["--user", "nobody", "--groups", "platform-team"], &guestbook);
    assert!(said.contains("(asked for \"platform-team\")"), "{said}");
    let (good, said, _) =
        explain("multi", &["--user", "alice"], &["--application", "argocd:missing", "--project", "ghost"]);
    assert!(!good, "{said}");
    for refused in ["unknown_application", "unknown_project"] {
        assert!(said.contains(refused), "{refused}:\n{said}");
    }

    // With tokens: of an account, of the identity provider, and one that counts no more.
    for (token, expected, told) in [
        (world.token().unwrap(), true, "alice, no groups"),
        (
            TokenSpec::oidc().mint(&world.provider).unwrap(),
            true,
            "oidc-subject (pat@example.com), groups platform-team",
        ),
        (TokenSpec::local().claim("exp", "-60").mint(&world.provider).unwrap(), false, "it has expired"),
    ] {
        std::fs::write(&file, format!("argocd.token={token}\n")).unwrap();
        let (good, said, log) = explain("httpbin", &["--token-file", file.to_str().unwrap()], &guestbook);
        assert_eq!(good, expected, "{said}");
        assert!(said.contains(told), "{told} is missing:\n{said}");
        assert!(!said.contains(&token) && !log.contains(&token));
    }
    // Without an application only where none is needed.
    world
        .write_spec("everywhere", &format!("scope: Global\nbackend: {{services: [{{url: '{}'}}]}}", world.a.url()))
        .unwrap();
    assert!(explain("everywhere", &["--user", "alice"], &[]).0);
    assert!(!explain("httpbin", &["--user", "alice"], &[]).0);
    let (good, _, log) = run(&["explain", "httpbin", "--from-dir", &folder]);
    assert!(!good && log.contains("--user"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_finds_what_is_wrong_with_its_line() {
    let world = World::start().await.unwrap();
    let folder = world.folder().to_str().unwrap();
    let (good, said, _) = run(&["validate", folder]);
    assert!(good && said.contains("9 extensions would be served; 0 errors, 3 warnings"), "{said}");
    assert!(said.contains("is reserved for the caller's identity"), "{said}");

    world
        .edit("10-config.yaml", |text| {
            text.replace(
                "        connectionTimeout: 1s\n        keepAlive",
                "        connectionTimeout: soon\n        keepAlive",
            )
        })
        .unwrap();
    world.write_spec("bad", "backend:\n  services:\n  - url: http://a\n    tls: {serverName: b}").unwrap();
    let config = format!("{folder}/10-config.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    let line = text.lines().position(|line| line.contains("connectionTimeout: soon")).unwrap() + 1;
    let (good, said, _) = run(&["validate", folder]);
    assert!(!good, "{said}");
    let expected = format!(
        "{config}:{line}: error: ConfigMap argocd/argocd-cm extension.config[1] backend.connectionTimeout: \"soon\" is not a duration"
    );
    assert!(said.contains(&expected), "{expected}\n{said}");
    assert!(said.contains("extension-bad.yaml:8: error: ProxyExtension argocd/bad backend.services[0].tls: has no effect without https"), "{said}");

    let (_, json, _) = run(&["validate", folder, "--output", "json"]);
    let findings: Vec<Value> = serde_json::from_str(&json).unwrap();
    let found = findings.iter().find(|finding| finding["severity"] == "error" && finding["line"] == line).unwrap();
    assert_eq!(
        (found["object"].as_str(), found["entry"].as_str()),
        (Some("ConfigMap argocd/argocd-cm"), Some("extension.config[1]"))
    );
    let (_, github, _) = run(&["validate", &config, "--output", "github"]);
    assert!(github.contains(&format!("::error file={config},line={line},title=ConfigMap argocd/argocd-cm extension.config[1]::backend.connectionTimeout")), "{github}");

    // What is referred to is seldom among the files.
    let alone = tempfile::tempdir().unwrap();
    let file = alone.path().join("extension.yaml");
    let spec =
        "backend: {services: [{url: 'http://a', headers: [{name: X, valueFrom: {secretKeyRef: {name: s, key: k}}}]}]}";
    std::fs::write(&file, e2e::world::proxy_extension("argocd", "x", spec)).unwrap();
    let file = file.to_str().unwrap();
    let (good, said, _) = run(&["validate", file]);
    assert!(
        good && said.contains("warning: ProxyExtension argocd/x") && said.contains("--strict makes this an error"),
        "{said}"
    );
    assert!(!run(&["validate", file, "--strict"]).0);
    let piped = Command::new(program::binary().unwrap())
        .args(["validate", "-"])
        .stdin(File::open(world.folder().join("extension-bad.yaml")).unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&piped.stdout);
    assert!(!piped.status.success() && said.starts_with("<stdin>:8: error: ProxyExtension argocd/bad"), "{said}");
    std::fs::write(alone.path().join("broken.yaml"), "a: [").unwrap();
    let (good, said, _) = run(&["validate", alone.path().to_str().unwrap()]);
    assert!(!good && said.contains("broken.yaml:2: error:"), "{said}");
    let (good, _, log) = run(&["validate", "/no/such/file"]);
    assert!(!good && log.contains("/no/such/file"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_of_ones_own_is_served_and_watched() {
    let backend = Backend::start("mine").await.unwrap();
    let mut program = Program::start(&[
        "demo",
        "--backend",
        &backend.url(),
        "--watch",
        "--extension",
        "mine",
        "--user",
        "dev",
        "--groups",
        "one,two",
        "--application",
        "team:shop",
        "--project",
        "web",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ])
    .unwrap();
    let printed = || async { Ok(program.output().contains("Ctrl-C ends it")) };
    wait::until("it says what to try", printed).await.unwrap();
    let output = program.output();
    let token = output.split("argocd.token=").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
    let call = Request::get("/extensions/mine/api")
        .header("Cookie", &format!("argocd.token={token}"))
        .header("Argocd-Application-Name", "team:shop")
        .header("Argocd-Project-Name", "web");
    let seen = send(program.address, call).await.unwrap().seen().unwrap();
    assert_eq!(seen["backend"], "mine");
    let headers = seen["headers"].to_string().to_ascii_lowercase();
    assert!(
        headers.contains("[\"argocd-user-groups\",\"one,two\"]") && headers.contains("[\"argocd-username\",\"dev\"]"),
        "{headers}"
    );
    send(program.address, Request::get("/extensions/mine/api")).await.unwrap();
    let watched = || async { Ok(program.output().contains("[no_cookie]")) };
    wait::until("both are told", watched).await.unwrap();
    let output = program.output();
    for line in [
        "GET /extensions/mine/api  200",
        "\u{2713} token                    dev, groups one, two",
        "\u{2713} RBAC extensions          extensions, invoke, mine",
    ] {
        assert!(output.contains(line), "{line} is missing:\n{output}");
    }
    // A demo that is killed leaves its folder behind.
    program.terminate().unwrap();
    assert!(program.ended(Duration::from_secs(5)).await.unwrap().success());
}
