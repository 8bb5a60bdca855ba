use std::process::Command;

use e2e::program;
use e2e::redis::PASSWORD;
use e2e::stage::Stage;
use e2e::wait;
use serde_json::Value;

/// What the program says with the administrator's kubeconfig, and whether it is good.
fn run(stage: &Stage, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program::binary().unwrap())
        .args(arguments)
        .env("KUBECONFIG", stage.api.kubeconfig())
        .env("REDIS_SERVER", stage.redis.address.to_string())
        .env("REDIS_PASSWORD", PASSWORD)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_explain_read_the_cluster() {
    let stage = Stage::start().await.unwrap();
    let (good, said) = run(&stage, &["status"]);
    assert!(!good && said.contains("does the proxy run there?"), "{said}");
    let bad = e2e::world::proxy_extension(
        "argocd",
        "bad",
        "backend: {services: [{url: 'http://a', headers: [{name: 'a b', value: x}]}]}",
    );
    stage.api.kubectl_with_input(&["apply", "-f", "-"], &bad).unwrap();
    let _program = stage.serve(&[]).await.unwrap();
    let listed = || async { Ok(run(&stage, &["status"]).1.contains("httpbin")) };
    wait::until("the registry is written", listed).await.unwrap();
    let (good, table) = run(&stage, &["status"]);
    assert!(good && table.starts_with("NAME "), "{table}");
    let squeezed = table.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        squeezed.contains(&format!(
            "httpbin Accepted Accepted yes {} ConfigMap argocd/argocd-cm extension.config[0]",
            stage.world.a.url()
        )),
        "{table}"
    );
    assert!(squeezed.contains("bad Invalid Invalid - - ProxyExtension argocd/bad"), "{table}");
    assert!(table.contains("9 accepted, 1 invalid, 0 conflicted"), "{table}");
    assert!(run(&stage, &["status", "-o", "wide"]).1.contains("is no valid header name"));
    let (_, json) = run(&stage, &["status", "-o", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["status"]["accepted"], 9);
    assert!(run(&stage, &["status", "-o", "yaml"]).1.contains("accepted: 9"));

    let guestbook = ["--user", "alice", "--application", "argocd:guestbook", "--project", "default"];
    let (good, said) = run(&stage, &[&["explain", "httpbin"], &guestbook[..]].concat());
    assert!(good && said.contains("policy.csv line 7 (asked for \"alice\")"), "{said}");
    let (good, said) = run(&stage, &[&["explain", "bad"], &guestbook[..]].concat());
    assert!(!good && said.contains("INVALID   bad") && said.contains("is no valid header name"), "{said}");
}
