use std::time::{Duration, Instant};

use e2e::client::{Connection, Request, Response, begin, send};
use e2e::load::Load;
use e2e::program::Program;
use e2e::redis::Redis;
use e2e::stage::Stage;
use e2e::token::TokenSpec;
use e2e::wait;
use futures_util::future::{join, join_all};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::edits::api;

/// Whatever failed is asked again after at most ten seconds.
const RECOVERY: Duration = Duration::from_secs(30);
/// Callers of an extension that nothing happens to.
const CONNECTIONS: usize = 8;

async fn load(stage: &Stage, program: &Program) -> Load {
    let request = Request::signed_in("/extensions/httpbin/x", &stage.world.token().unwrap());
    Load::start(program.address, &request, CONNECTIONS).await.unwrap()
}

async fn no_failure(load: Load) {
    let (requests, failures) = load.stop().await;
    println!("{requests} requests meanwhile");
    assert!(requests > 100 && failures.is_empty(), "{} of {requests}: {:?}", failures.len(), failures.first());
}

async fn becomes(stage: &Stage, program: &Program, extension: &str, wanted: u16) {
    let request = Request::signed_in(&format!("/extensions/{extension}/x"), &stage.world.token().unwrap());
    let what = format!("{extension} answers {wanted}");
    let answers = || async { Ok(send(program.address, request.clone()).await?.status == wanted) };
    let outcome = wait::within(RECOVERY, &what, answers).await;
    assert!(outcome.is_ok(), "{what}: never\n{}", program.log());
}

fn apply(stage: &Stage) {
    stage.api.apply(stage.world.folder()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_api_server_the_last_state_serves_and_changes_are_picked_up_after() {
    let mut stage = Stage::start().await.unwrap();
    let program = stage.serve(&[]).await.unwrap();
    let load = load(&stage, &program).await;
    stage.api.kill().unwrap();
    program.wait_for_log("what it said last stays in effect").await.unwrap();
    let metrics = send(program.admin, Request::get("/metrics")).await.unwrap().text();
    assert!(metrics.contains("argocd_extension_proxy_source_failing{source=\"Application\"} 1"), "{metrics}");
    assert_eq!(send(program.admin, Request::get("/readyz")).await.unwrap().status, 200);
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.api.restart().await.unwrap();
    stage.world.write_extension("meanwhile", &stage.world.a.url(), "").unwrap();
    apply(&stage);
    becomes(&stage, &program, "meanwhile", 200).await;

    stage.api.restart_etcd().await.unwrap();
    stage.world.remove("extension-meanwhile.yaml").unwrap();
    stage.api.kubectl(&["-n", "argocd", "delete", "pext", "meanwhile"]).unwrap();
    becomes(&stage, &program, "meanwhile", 404).await;
    let works = || async {
        let metrics = send(program.admin, Request::get("/metrics")).await?.text();
        Ok(!metrics
            .lines()
            .any(|line| line.starts_with("argocd_extension_proxy_source_failing{") && line.ends_with(" 1")))
    };
    wait::until("every source works again", works).await.unwrap();
    no_failure(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_expired_starts_over() {
    let mut stage = Stage::start().await.unwrap();
    let program = stage.serve(&[]).await.unwrap();
    let load = load(&stage, &program).await;
    stage.api.kill().unwrap();
    program.wait_for_log("what it said last stays in effect").await.unwrap();
    // What the watches saw last is no longer known to anybody when the server is back.
    stage.api.compact().await.unwrap();
    stage.api.restart().await.unwrap();
    stage.world.write_extension("after", &stage.world.a.url(), "").unwrap();
    apply(&stage);
    becomes(&stage, &program, "after", 200).await;
    no_failure(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revocations_count_at_once_hold_without_redis_and_are_caught_up_on() {
    let mut stage = Stage::start().await.unwrap();
    let program = stage.serve(&[]).await.unwrap();
    let load = load(&stage, &program).await;
    let token = |id: &str| TokenSpec::local().claim("jti", id).mint(&stage.world.provider).unwrap();
    let (one, two, three) = (token("one"), token("two"), token("three"));
    let status = |token: &str| {
        let request = Request::signed_in("/extensions/httpbin/x", token);
        async { Ok::<_, anyhow::Error>(send(program.address, request).await?.status) }
    };
    assert_eq!(status(&one).await.unwrap(), 200);
    let mut live = [
        websocket(&program, &one).await,
        begin(program.address, &Request::signed_in("/extensions/httpbin/sse?n=100000&gap=0.1", &one)).await.unwrap(),
    ];
    stage.redis.revoke("one").await.unwrap();
    let revoked = Instant::now();
    wait::until("the token is refused", || async { Ok(status(&one).await? == 401) }).await.unwrap();
    // What was opened with it ends as well.
    for stream in &mut live {
        let mut rest = Vec::new();
        let left = Duration::from_secs(1).saturating_sub(revoked.elapsed());
        let ended = tokio::time::timeout(left, stream.stream().read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "a stream outlives its token");
    }

    stage.redis.kill().unwrap();
    program.wait_for_log("the known revocations hold").await.unwrap();
    assert_eq!(status(&one).await.unwrap(), 401);
    assert_eq!(status(&two).await.unwrap(), 200);
    stage.redis.restart().await.unwrap();
    // Without a message: it is found when the keys are read again.
    stage.redis.command(&["SET", "revoked-token|two", "x"]).await.unwrap();
    let caught_up = || async { Ok(status(&two).await? == 401) };
    wait::within(RECOVERY, "the token is refused", caught_up).await.unwrap();
    program.wait_for_log("are read from Redis again").await.unwrap();
    stage.redis.revoke("three").await.unwrap();
    wait::until("the token is refused", || async { Ok(status(&three).await? == 401) }).await.unwrap();
    no_failure(load).await;
}

/// A WebSocket that is open.
async fn websocket(program: &Program, token: &str) -> Connection {
    let request = Request::signed_in("/extensions/httpbin/ws", token)
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let mut connection = Connection::open(program.address).await.unwrap();
    assert_eq!(connection.send(&request).await.unwrap().status, 101);
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_served_before_everything_has_been_read() {
    let mut stage = Stage::start().await.unwrap();
    stage.redis.kill().unwrap();
    let kubeconfig = stage.api.kubeconfig().display().to_string();
    let program = stage.launch(&kubeconfig, &[]).unwrap();
    program.wait_for_log("nothing is served without it").await.unwrap();
    let request = Request::signed_in("/extensions/httpbin/x", &stage.world.token().unwrap());
    let call = || send(program.address, request.clone());
    assert_eq!(call().await.unwrap().status, 503);
    assert_eq!(send(program.admin, Request::get("/readyz")).await.unwrap().status, 503);
    assert_eq!(send(program.admin, Request::get("/healthz")).await.unwrap().status, 200);
    stage.redis.restart().await.unwrap();
    wait::until("it serves", || async { Ok(call().await?.status == 200) }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_knows_every_revoked_token() {
    const STARTS: usize = 5;
    let mut stage = Stage::start().await.unwrap();
    let kubeconfig = stage.api.kubeconfig().display().to_string();
    let token = TokenSpec::local().claim("jti", "revoked-1").mint(&stage.world.provider).unwrap();
    let request = Request::signed_in("/extensions/httpbin/x", &token);
    // Argo CD keeps much else there, so that it takes a while to read them all.
    let much = "for i = 1, 50000 do redis.call('SET', 'app|' .. i, '') end";
    stage.redis.command(&["EVAL", &format!("{much} return 1"), "0"]).await.unwrap();
    for _ in 0..STARTS {
        stage.redis.kill().unwrap();
        let program = stage.launch(&kubeconfig, &["--log-level", "warn"]).unwrap();
        program.wait_for_log("nothing is served without it").await.unwrap();
        stage.redis.restart().await.unwrap();
        // Objects and messages go on coming while the tokens are read.
        let applications = api(&stage.api.client().await.unwrap(), "argoproj.io", "Application");
        let noise = (0..4).map(|_| join(keep_changing(&applications), keep_revoking(&stage.redis)));
        let first = tokio::select! {
            first = first_answer(&program, &request) => first,
            _ = join_all(noise) => panic!("it was quiet"),
        };
        assert_eq!(first.status, 401, "{}", first.text());
    }
}

/// The answer to the first request that is not told to come back later.
async fn first_answer(program: &Program, request: &Request) -> Response {
    let mut connection = Connection::open(program.address).await.unwrap();
    let began = Instant::now();
    loop {
        let answer = connection.send(request).await.unwrap();
        if answer.status != 503 {
            return answer;
        }
        assert!(began.elapsed() < RECOVERY, "nothing is served\n{}", program.log());
    }
}

async fn keep_changing(applications: &Api<DynamicObject>) {
    for i in 0.. {
        let change = json!({"metadata": {"annotations": {"change": i.to_string()}}});
        // One that comes too close to another's may be refused.
        let _ = applications.patch("guestbook", &PatchParams::default(), &Patch::Merge(change)).await;
    }
}

async fn keep_revoking(redis: &Redis) {
    loop {
        redis.revoke("another").await.unwrap();
    }
}
