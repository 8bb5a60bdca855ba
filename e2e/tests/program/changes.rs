//! What was verified and decided before counts no longer once something changed.

use e2e::client::{Request, send};
use e2e::program::Program;
use e2e::token::TokenSpec;
use e2e::wait;
use e2e::world::World;

async fn status(program: &Program, request: &Request) -> u16 {
    send(program.address, request.clone()).await.unwrap().status
}

/// The request is answered, the edit is made, and then the request is refused; undone, it is answered again.
async fn an_edit_refuses(request: impl Fn(&World) -> Request, file: &str, from: &str, to: &str) {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let request = request(&world);
    // More than once: what is remembered counts as well.
    for _ in 0..3 {
        assert_eq!(status(&program, &request).await, 200);
    }
    world.edit(file, |text| text.replace(from, to)).unwrap();
    wait::until("the request is refused", || async { Ok(status(&program, &request).await == 401) }).await.unwrap();
    world.edit(file, |text| text.replace(to, from)).unwrap();
    wait::until("the request is answered again", || async { Ok(status(&program, &request).await == 200) })
        .await
        .unwrap();
}

fn alice(world: &World) -> Request {
    Request::signed_in("/extensions/httpbin/x", &world.token().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_line() {
    an_edit_refuses(
        alice,
        "10-config.yaml",
        "p, alice, applications, get, default/*, allow",
        "p, alice, applications, get, other/*, allow",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_account() {
    an_edit_refuses(
        alice,
        "10-config.yaml",
        "accounts.alice: login, apiKey",
        "accounts.alice.enabled: 'false'\n  accounts.alice: login, apiKey",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password() {
    an_edit_refuses(
        alice,
        "10-config.yaml",
        r#"accounts.alice.passwordMtime: "2024-"#,
        r#"accounts.alice.passwordMtime: "2124-"#,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_signing_key() {
    an_edit_refuses(alice, "10-config.yaml", "server.secretkey: conformance", "server.secretkey: rotated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_moved_to_another_project() {
    an_edit_refuses(
        alice,
        "30-applications.yaml",
        "name: guestbook\n  namespace: argocd\nspec:\n  project: default",
        "name: guestbook\n  namespace: argocd\nspec:\n  project: wide",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_permits_less() {
    an_edit_refuses(
        alice,
        "20-projects.yaml",
        "destinations: [{namespace: '*', server: '*'}]\n---",
        "destinations: []\n---",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_token_of_a_project_role() {
    let robot = |world: &World| {
        let token = TokenSpec::local()
            .claim("sub", "proj:team-a:robot")
            .claim("jti", "robot-1")
            .claim("iat", 1_704_067_200)
            .mint(&world.provider)
            .unwrap();
        Request::get("/extensions/httpbin/x")
            .header("Cookie", &format!("argocd.token={token}"))
            .header("Argocd-Application-Name", "argocd:a-ok")
            .header("Argocd-Project-Name", "team-a")
    };
    an_edit_refuses(robot, "20-projects.yaml", "{iat: 1704067200, id: robot-1}", "{iat: 1704067209, id: robot-9}")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_id_of_the_provider() {
    let pat =
        |world: &World| Request::signed_in("/extensions/httpbin/x", &TokenSpec::oidc().mint(&world.provider).unwrap());
    an_edit_refuses(
        pat,
        "10-config.yaml",
        "allowedAudiences: [argo-test, second-audience]",
        "allowedAudiences: [second-audience]",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_reaches_the_backend() {
    let world = World::start().await.unwrap();
    let program = world.serve(&[]).unwrap();
    let request = Request::signed_in("/extensions/decorated/x", &world.token().unwrap());
    let sent = || async {
        let seen = send(program.address, request.clone()).await?.seen()?;
        Ok::<_, anyhow::Error>(seen["headers"].to_string())
    };
    assert!(sent().await.unwrap().contains("Bearer s3cr3t-token"));
    world.edit("10-config.yaml", |text| text.replace("Bearer s3cr3t-token", "Bearer rotated-token")).unwrap();
    wait::until("the new value is sent", || async { Ok(sent().await?.contains("Bearer rotated-token")) })
        .await
        .unwrap();

    // Without the key the entry cannot be served, and the others are.
    world.edit("10-config.yaml", |text| text.replace("backend.token: \"Bearer", "other.token: \"Bearer")).unwrap();
    wait::until("the entry is not served", || async { Ok(status(&program, &request).await == 404) }).await.unwrap();
    assert_eq!(status(&program, &Request::signed_in("/extensions/httpbin/x", &world.token().unwrap())).await, 200);
    program.wait_for_log("$backend.token").await.unwrap();
}
