use e2e::client::{Request, Response, send};
use e2e::program::Program;
use e2e::token::TokenSpec;
use e2e::wait;
use e2e::world::World;

fn signed_in(path: &str, token: &str, headers: &[(&str, &str)]) -> Request {
    let request = Request::get(path).header("Cookie", &format!("argocd.token={token}"));
    headers.iter().fold(request, |request, (name, value)| request.header(name, value))
}

async fn call(program: &Program, path: &str, token: &str, headers: &[(&str, &str)]) -> Response {
    send(program.address, signed_in(path, token, headers)).await.unwrap()
}

/// Names of the headers that a backend saw.
fn argocd_headers(answer: &Response) -> Vec<(String, String)> {
    let seen = answer.seen().unwrap();
    let headers: Vec<(String, String)> = serde_json::from_value(seen["headers"].clone()).unwrap();
    let mut headers: Vec<_> = headers
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| name.starts_with("argocd-"))
        .collect();
    headers.sort();
    headers
}

const APPLICATION: [(&str, &str); 2] =
    [("Argocd-Application-Name", "argocd:guestbook"), ("Argocd-Project-Name", "default")];

#[tokio::test(flavor = "multi_thread")]
async fn a_global_extension_needs_no_application_and_only_the_right_to_invoke_it() {
    let world = World::start().await.unwrap();
    world
        .write_spec("everywhere", &format!("scope: Global\nbackend: {{services: [{{url: '{}'}}]}}", world.a.url()))
        .unwrap();
    // One who may invoke it and get no application, and one who may neither.
    world
        .edit("10-config.yaml", |text| {
            text.replace(
                "    g, platform-team,",
                "    p, frank, extensions, invoke, everywhere, allow\n    g, platform-team,",
            )
        })
        .unwrap();
    let program = world.serve(&[]).unwrap();
    let frank = TokenSpec::oidc()
        .claim("email", "frank@example.com")
        .claim("sub", "frank")
        .claim("groups", serde_json::Value::Null)
        .mint(&world.provider)
        .unwrap();
    let answer = call(&program, "/extensions/everywhere/x", &frank, &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        argocd_headers(&answer),
        [
            ("argocd-namespace".to_owned(), "argocd".to_owned()),
            ("argocd-user-groups".to_owned(), "frank@example.com".to_owned()),
            ("argocd-user-id".to_owned(), "frank".to_owned()),
            ("argocd-username".to_owned(), "frank@example.com".to_owned()),
        ]
    );
    // An application that is named all the same is checked.
    let answer = call(&program, "/extensions/everywhere/x", &frank, &APPLICATION).await;
    assert_eq!(answer.status, 401);
    program.wait_for_log("application_not_allowed").await.unwrap();
    let alice = world.token().unwrap();
    let answer = call(&program, "/extensions/everywhere/x", &alice, &APPLICATION).await;
    assert!(argocd_headers(&answer).contains(&("argocd-application-name".into(), "argocd:guestbook".into())));
    assert!(argocd_headers(&answer).contains(&("argocd-project-name".into(), "default".into())));
    // A half is no application.
    let half = call(&program, "/extensions/everywhere/x", &alice, &APPLICATION[..1]).await;
    assert_eq!((half.status, half.text().contains("Argocd-Project-Name")), (400, true), "{}", half.text());
    let wrong =
        call(&program, "/extensions/everywhere/x", &alice, &[APPLICATION[0], ("Argocd-Project-Name", "team-a")]).await;
    assert_eq!(wrong.status, 401);

    // Neither without the right, nor without a token, nor for an extension that is none.
    let pat = TokenSpec::oidc().mint(&world.provider).unwrap();
    assert_eq!(call(&program, "/extensions/everywhere/x", &pat, &[]).await.status, 401);
    program.wait_for_log("extension_not_allowed").await.unwrap();
    assert_eq!(send(program.address, Request::get("/extensions/everywhere/x")).await.unwrap().status, 400);
    assert_eq!(call(&program, "/extensions/everywhere/x", "not.a.token", &[]).await.status, 401);
    assert_eq!(call(&program, "/extensions/httpbin/x", &alice, &[]).await.status, 400);
    assert_eq!(call(&program, "/extensions/unknown/x", &alice, &[]).await.status, 400);

    // Made one that needs an application, it needs one.
    world.write_spec("everywhere", &format!("backend: {{services: [{{url: '{}'}}]}}", world.a.url())).unwrap();
    let needs = || async { Ok(call(&program, "/extensions/everywhere/x", &alice, &[]).await.status == 400) };
    wait::until("an application is needed", needs).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_of_some_projects_serves_no_other() {
    let world = World::start().await.unwrap();
    world
        .write_spec(
            "teams",
            &format!("projects: ['team-*', wide]\nbackend: {{services: [{{url: '{}'}}]}}", world.a.url()),
        )
        .unwrap();
    let program = world.serve(&[]).unwrap();
    let alice = world.token().unwrap();
    let of = |application: &'static str, project: &'static str| {
        [("Argocd-Application-Name", application), ("Argocd-Project-Name", project)]
    };
    let answer = call(&program, "/extensions/teams/x", &alice, &of("argocd:a-ok", "team-a")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = call(&program, "/extensions/teams/x", &alice, &APPLICATION).await;
    assert_eq!((answer.status, answer.text().trim()), (401, "Unauthorized extension request"));
    program.wait_for_log("project_not_served").await.unwrap();
    world
        .write_spec("teams", &format!("projects: [default]\nbackend: {{services: [{{url: '{}'}}]}}", world.a.url()))
        .unwrap();
    let served = || async { Ok(call(&program, "/extensions/teams/x", &alice, &APPLICATION).await.status == 200) };
    wait::until("its projects are others", served).await.unwrap();
}
