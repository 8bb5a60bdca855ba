//! Redis as Argo CD is configured for it.

use std::fs;

use e2e::client::{Request, send};
use e2e::program::Program;
use e2e::redis::{PASSWORD, Redis};
use e2e::stage::{Stage, ready};
use e2e::tls::Authority;
use e2e::token::TokenSpec;
use e2e::wait;

/// Whether a token that is revoked now is refused.
async fn follows(stage: &Stage, redis: &Redis, program: &Program, id: &str) {
    let token = TokenSpec::local().claim("jti", id).mint(&stage.world.provider).unwrap();
    let status =
        || async { Ok(send(program.address, Request::signed_in("/extensions/httpbin/x", &token)).await?.status) };
    assert_eq!(status().await.unwrap_or_else(|error: anyhow::Error| panic!("{error}")), 200);
    redis.revoke(id).await.unwrap();
    let refused = || async { Ok(status().await? == 401) };
    wait::until("the token is refused", refused).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_and_the_password_are_found_where_argo_cd_keeps_them() {
    let stage = Stage::start().await.unwrap();
    let kubeconfig = stage.api.kubeconfig().display().to_string();
    let address = stage.redis.address;
    let parameters = format!(r#"{{"data":{{"redis.server":"{address}"}}}}"#);
    stage
        .api
        .kubectl(&["-n", "argocd", "patch", "configmap", "argocd-cmd-params-cm", "--type=merge", "-p", &parameters])
        .unwrap();
    let program = stage.launch_with(&[], &[("KUBECONFIG", &kubeconfig)]).unwrap();
    program.wait_for_log("the password was refused: see the key auth of the Secret argocd-redis").await.unwrap();
    let secret = format!("--from-literal=auth={PASSWORD}");
    stage.api.kubectl(&["-n", "argocd", "create", "secret", "generic", "argocd-redis", &secret]).unwrap();
    ready(&program).await.unwrap();
    follows(&stage, &stage.redis, &program, "from-the-cluster").await;

    // As files, as Argo CD mounts them, with an account of its own.
    stage.redis.command(&["ACL", "SETUSER", "proxy", "on", ">its-password", "~*", "&*", "+@all"]).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("auth"), "its-password\n").unwrap();
    fs::write(folder.path().join("auth_username"), "proxy\n").unwrap();
    let environment = [("KUBECONFIG", kubeconfig.as_str()), ("REDIS_CREDS_DIR_PATH", folder.path().to_str().unwrap())];
    let program = stage.launch_with(&[], &environment).unwrap();
    ready(&program).await.unwrap();
    follows(&stage, &stage.redis, &program, "with-an-account").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_reached_over_tls_and_through_sentinels() {
    let stage = Stage::start().await.unwrap();
    let kubeconfig = stage.api.kubeconfig().display().to_string();
    let authority = Authority::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (certificate, key) = authority.pair().unwrap();
    let (certificate, key) = (file("tls.crt", &certificate), file("tls.key", &key));
    let ca = file("ca.crt", &authority.pem());
    let port = e2e::process::free_port().unwrap();
    let options = [
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
    ];
    let redis = Redis::start_with(&options).await.unwrap();
    let server = format!("localhost:{port}");
    let environment = [
        ("KUBECONFIG", kubeconfig.as_str()),
        ("REDIS_SERVER", &server),
        ("REDIS_PASSWORD", PASSWORD),
        ("REDIS_USE_TLS", "true"),
        ("REDIS_CA_CERTIFICATE", &ca),
        ("REDIS_CLIENT_CERTIFICATE", &certificate),
        ("REDIS_CLIENT_KEY", &key),
    ];
    let program = stage.launch_with(&[], &environment).unwrap();
    ready(&program).await.unwrap();
    follows(&stage, &redis, &program, "over-tls").await;
    // Without its authority it is not trusted.
    let program = stage.launch_with(&[], &environment[..4]).unwrap();
    program.wait_for_log("revoked tokens cannot be read from Redis").await.unwrap();
    assert_eq!(send(program.admin, Request::get("/readyz")).await.unwrap().status, 503);

    let sentinel = Redis::sentinel(&stage.redis).await.unwrap();
    let address = sentinel.address.to_string();
    let environment =
        [("KUBECONFIG", kubeconfig.as_str()), ("REDIS_PASSWORD", PASSWORD), ("REDIS_SENTINEL_PASSWORD", PASSWORD)];
    let program = stage.launch_with(&["--sentinel", &address, "--sentinelmaster", "master"], &environment).unwrap();
    ready(&program).await.unwrap();
    follows(&stage, &stage.redis, &program, "through-a-sentinel").await;
}
