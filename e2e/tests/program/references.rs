//! What a ProxyExtension refers to, where the manifests are in a folder.

use e2e::client::{Request, send};
use e2e::wait;
use e2e::world::{PART_OF_ARGOCD, World, proxy_extension, texts};

#[tokio::test(flavor = "multi_thread")]
async fn services_and_other_namespaces_count_in_a_folder_as_in_a_cluster() {
    let world = World::start().await.unwrap();
    let service = |port: u16| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: metrics, namespace: team-one}}\n\
             spec: {{type: ExternalName, externalName: localhost, ports: [{{name: http, port: {port}}}, {{name: other, port: 1}}]}}\n"
        )
    };
    let refers = "backend: {services: [{serviceRef: {name: metrics, namespace: team-one, port: http, path: /base}, \
                  headers: [{name: X-Key, valueFrom: {secretKeyRef: {name: keys, key: key}}}]}]}";
    world.write("service.yaml", &service(world.a.address.port())).unwrap();
    for namespace in ["team-one", "team-two"] {
        let keys = texts("Secret", namespace, "keys", PART_OF_ARGOCD, &[("key", &format!("of-{namespace}"))]);
        world.write(&format!("keys-{namespace}.yaml"), &keys).unwrap();
        world.write(&format!("{namespace}.yaml"), &proxy_extension(namespace, namespace, refers)).unwrap();
    }
    world.write("other.yaml", &proxy_extension("other", "other", refers)).unwrap();
    let program = world.serve(&["--extension-namespaces", "team-*"]).unwrap();
    let token = world.token().unwrap();
    let call =
        |extension: &str| send(program.address, Request::signed_in(&format!("/extensions/{extension}/x"), &token));
    let answer = call("team-one").await.unwrap();
    let seen = answer.seen().unwrap();
    assert_eq!((seen["backend"].as_str(), seen["target"].as_str()), (Some("a"), Some("/base/x")));
    assert!(answer.text().contains("of-team-one"));
    assert_eq!(call("team-two").await.unwrap().status, 404);
    assert_eq!(call("other").await.unwrap().status, 404);
    let report = program.output();
    assert!(
        report.contains("from outside of Argo CD's namespace only Services of the object's own may be referred to"),
        "{report}"
    );
    assert!(report.contains("in those of --extension-namespaces count"), "{report}");

    world.write("service.yaml", &service(world.b.address.port())).unwrap();
    let followed = || async { Ok(call("team-one").await?.seen()?["backend"] == "b") };
    wait::until("the Service is followed", followed).await.unwrap();
    world.write("service.yaml", &service(world.b.address.port()).replace("name: http,", "name: https,")).unwrap();
    program.wait_for_log("has no port \"http\"; it has the ports https").await.unwrap();
    assert_eq!(call("team-one").await.unwrap().status, 404);
}
