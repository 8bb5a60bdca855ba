use e2e::cases;
use e2e::chart::{EVERYTHING, NAME, folder, forget_own_kinds, helm, prepare_for_everything};
use e2e::program::Program;
use e2e::stage::{Stage, ready};
use serde_json::Value;

const RELEASE: &str = "proxy";

async fn stage() -> Stage {
    let stage = Stage::start().await.unwrap();
    prepare_for_everything(&stage.api).unwrap();
    forget_own_kinds(&stage.api).unwrap();
    stage
}

fn install(stage: &Stage, command: &str, values: &[&str]) -> String {
    let folder = folder();
    let mut arguments = vec![command, RELEASE, folder.to_str().unwrap(), "--namespace", "argocd"];
    arguments.extend(values);
    helm(Some(&stage.api), &arguments).unwrap()
}

/// The program as the Deployment would start it, with its ServiceAccount's token, in this machine's place of a pod.
fn start(stage: &Stage) -> Program {
    let get = |what: &[&str]| stage.api.kubectl(&[&["-n", "argocd", "get"], what, &["-o", "json"]].concat()).unwrap();
    let deployment: Value = serde_json::from_str(&get(&["deployment", &format!("{RELEASE}-{NAME}")])).unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    let account = pod["serviceAccountName"].as_str().unwrap();
    let token = stage.api.kubectl(&["-n", "argocd", "create", "token", account]).unwrap();
    let kubeconfig = stage.api.write_kubeconfig("chart", token.trim()).unwrap().display().to_string();
    let arguments: Vec<String> = pod["containers"][0]["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|argument| argument.as_str().unwrap())
        // A test has no address of its own.
        .map(|argument| {
            argument.replace("listen=:8080", "listen=127.0.0.1:0").replace("listen=:8081", "listen=127.0.0.1:0")
        })
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let redis = stage.redis.address.to_string();
    let mut environment = vec![
        ("KUBECONFIG", kubeconfig.as_str()),
        ("REDIS_SERVER", &redis),
        ("REDIS_PASSWORD", e2e::redis::PASSWORD),
        ("POD_NAME", "the-pod"),
    ];
    let variables = pod["containers"][0]["env"].as_array().unwrap();
    environment.extend(variables.iter().filter_map(|v| Some((v["name"].as_str()?, v["value"].as_str()?))));
    Program::start_with(&arguments, &environment).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_helm_installs_serves_under_its_own_permissions() {
    let stage = stage().await;
    let notes = install(&stage, "install", &[]);
    assert!(notes.contains("kubectl -n argocd describe extensionregistry argocd"), "{notes}");
    // application.namespaces names a namespace that the chart was told nothing of, and the log says what is missing.
    let program = start(&stage);
    program.wait_for_log("the watch of Applications in team-apps fails").await.unwrap();
    drop(program);

    // Another set of values, over the release.
    install(&stage, "upgrade", &["--set", "applicationNamespaces={team-apps}"]);
    let program = start(&stage);
    ready(&program).await.unwrap();
    let cases = cases::recorded(&stage.world).unwrap();
    let failures = cases::replay(&cases, &stage.world, &program).await.unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let log = program.log();
    assert!(!log.contains("is forbidden") && !log.contains("cannot be written"), "{log}");
    drop(program);

    // What was written stays when the chart goes.
    let extension = e2e::world::proxy_extension("argocd", "mine", "backend: {services: [{url: 'http://a'}]}");
    stage.api.kubectl_with_input(&["apply", "-f", "-"], &extension).unwrap();
    helm(Some(&stage.api), &["uninstall", RELEASE, "--namespace", "argocd"]).unwrap();
    assert!(stage.api.kubectl(&["-n", "argocd", "get", "proxyextension", "mine"]).is_ok());
    assert!(stage.api.kubectl(&["-n", "argocd", "get", "deployment", &format!("{RELEASE}-{NAME}")]).is_err());
    assert!(stage.api.kubectl(&["-n", "argocd", "get", "role", &format!("{RELEASE}-{NAME}")]).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_everything_on_the_api_server_takes_every_object_and_the_program_serves() {
    let stage = stage().await;
    let values = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(values.path(), EVERYTHING).unwrap();
    let values = ["--values", values.path().to_str().unwrap()];
    install(&stage, "install", &values);
    let all = helm(Some(&stage.api), &["get", "manifest", RELEASE, "--namespace", "argocd"]).unwrap();
    let dry_run = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"];
    let taken = stage.api.kubectl_with_input(&dry_run, &all).unwrap();
    for kind in [
        "customresourcedefinition",
        "configmap",
        "deployment",
        "horizontalpodautoscaler",
        "httproute",
        "ingress",
        "networkpolicy",
        "poddisruptionbudget",
        "prometheusrule",
        "role",
        "rolebinding",
        "service",
        "serviceaccount",
        "servicemonitor",
    ] {
        assert!(
            taken.contains(&format!("{kind}.")) || taken.contains(&format!("{kind}/")),
            "{kind} is missing:\n{taken}"
        );
    }
    let program = start(&stage);
    ready(&program).await.unwrap();
    let token = stage.world.token().unwrap();
    let call = e2e::client::Request::signed_in("/extensions/httpbin/x", &token);
    assert_eq!(e2e::client::send(program.address, call).await.unwrap().status, 200);
    assert!(program.log().contains("serving   httpbin"));
}
