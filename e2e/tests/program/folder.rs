use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use e2e::bench::large::application;
use e2e::client::{Request, send};
use e2e::program::Program;
use e2e::wait;
use e2e::world::{World, serve_folder, write_at_once};

async fn status(program: &Program, world: &World, extension: &str) -> u16 {
    let request = Request::signed_in(&format!("/extensions/{extension}/x"), &world.token().unwrap());
    send(program.address, request).await.unwrap().status
}

async fn becomes(program: &Program, world: &World, extension: &str, wanted: u16) {
    let what = format!("{extension} answers {wanted}");
    wait::until(&what, || async { Ok(status(program, world, extension).await == wanted) }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_says_what_is_served_and_what_is_not_and_why() {
    let world = World::start().await.unwrap();
    world.write_extension("bad-timeout", &world.a.url(), "    connectionTimeout: soon\n").unwrap();
    world.write_extension("httpbin", &world.b.url(), "").unwrap();
    world.write("broken.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x\n").unwrap();
    world.write("typed.json", r#"{"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject", "metadata": {"name": "typed"}, "spec": {"roles": 5}}"#).unwrap();
    world
        .edit("10-config.yaml", |text| {
            text.replace("    - name: secretive\n", "    - name: no/slash\n      backend: {services: [{url: 'http://x'}]}\n    - name: typo\n      backend:\n        service: []\n    - name: secretive\n")
        })
        .unwrap();
    let program = world.serve(&[]).unwrap();
    let output = program.output();
    for line in [
        "9 extensions are served, 4 are not",
        "serving   httpbin  (ConfigMap argocd/argocd-cm extension.config[0])",
        "INVALID   bad-timeout  (ProxyExtension argocd/bad-timeout)",
        "error: backend.connectionTimeout: \"soon\"",
        "CONFLICT  httpbin  (ProxyExtension argocd/httpbin)",
        "INVALID   no/slash  (ConfigMap argocd/argocd-cm extension.config[7])",
        "INVALID   typo  (ConfigMap argocd/argocd-cm extension.config[8])",
        "the field \"service\" is not known",
        "INVALID   file broken.yaml",
        "INVALID   AppProject argocd/typed (typed.json)",
        "spec.roles",
    ] {
        assert!(output.contains(line), "{line} is missing:\n{output}");
    }
    assert_eq!(status(&program, &world, "httpbin").await, 200);
    assert_eq!(status(&program, &world, "secretive").await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_leaves_its_last_version_in_effect() {
    let world = World::start().await.unwrap();
    world.write_extension("mine", &world.a.url(), "").unwrap();
    let program = world.serve(&[]).unwrap();
    assert_eq!(status(&program, &world, "mine").await, 200);

    // A file that is no YAML, an object of a wrong type, an entry list that is none.
    let good = fs::read_to_string(world.folder().join("extension-mine.yaml")).unwrap();
    world.write("extension-mine.yaml", "kind: [").unwrap();
    program.wait_for_log("file extension-mine.yaml").await.unwrap();
    assert_eq!(status(&program, &world, "mine").await, 200);
    world.write("extension-mine.yaml", &good.replace("backend:", "backend: 5\n  was:")).unwrap();
    program.wait_for_log("ProxyExtension argocd/mine").await.unwrap();
    assert_eq!(status(&program, &world, "mine").await, 200);
    world.edit("10-config.yaml", |text| text.replace("    extensions:\n", "    extensions: [\n")).unwrap();
    program.wait_for_log("ConfigMap argocd/argocd-cm extension.config").await.unwrap();
    assert_eq!(status(&program, &world, "httpbin").await, 200);

    // What is removed is gone, and what is corrected counts.
    world
        .edit("10-config.yaml", |text| {
            text.replace("    extensions: [\n", "    extensions:\n").replace("- name: httpbin", "- name: renamed")
        })
        .unwrap();
    becomes(&program, &world, "renamed", 200).await;
    assert_eq!(status(&program, &world, "httpbin").await, 404);
    world.write("extension-mine.yaml", "").unwrap();
    becomes(&program, &world, "mine", 404).await;
    world.write("extension-mine.yaml", &good).unwrap();
    becomes(&program, &world, "mine", 200).await;
    world.remove("extension-mine.yaml").unwrap();
    becomes(&program, &world, "mine", 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_config_map_is_followed_through_its_links() {
    let world = World::start().await.unwrap();
    let mount = tempfile::tempdir().unwrap();
    let publish = |version: &str, rename: Option<&str>| {
        let folder = mount.path().join(format!("..{version}"));
        fs::create_dir(&folder).unwrap();
        for entry in fs::read_dir(world.folder()).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let text =
                rename.map_or_else(|| text.clone(), |name| text.replace("- name: httpbin", &format!("- name: {name}")));
            fs::write(folder.join(path.file_name().unwrap()), text).unwrap();
        }
        symlink(format!("..{version}"), mount.path().join("..data_tmp")).unwrap();
        fs::rename(mount.path().join("..data_tmp"), mount.path().join("..data")).unwrap();
    };
    publish("1", None);
    for entry in fs::read_dir(world.folder()).unwrap() {
        let name = entry.unwrap().file_name();
        symlink(Path::new("..data").join(&name), mount.path().join(&name)).unwrap();
    }
    let program = serve_folder(mount.path(), &[], &[]).unwrap();
    assert_eq!(status(&program, &world, "httpbin").await, 200);
    publish("2", Some("second"));
    becomes(&program, &world, "second", 200).await;
    fs::remove_dir_all(mount.path().join("..1")).unwrap();
    publish("3", Some("third"));
    becomes(&program, &world, "third", 200).await;
    assert_eq!(status(&program, &world, "second").await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_seen_behind_links_and_when_the_folder_itself_is_replaced() {
    let world = World::start().await.unwrap();
    let (parent, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let outside = elsewhere.path().join("extra.yaml");
    let manifest = |name: &str| {
        format!(
            "apiVersion: extensions.argoproj.io/v1alpha1\nkind: ProxyExtension\nmetadata: {{name: {name}}}\n\
             spec: {{backend: {{services: [{{url: '{}'}}]}}}}\n",
            world.a.url()
        )
    };
    fs::write(&outside, manifest("one")).unwrap();
    symlink(&outside, world.folder().join("extra.yaml")).unwrap();
    let current = parent.path().join("current");
    symlink(world.folder(), &current).unwrap();
    let program = serve_folder(&current, &[], &[]).unwrap();
    assert_eq!(status(&program, &world, "one").await, 200);
    fs::write(&outside, manifest("two")).unwrap();
    becomes(&program, &world, "two", 200).await;

    let next = parent.path().join("next");
    fs::create_dir(&next).unwrap();
    for entry in fs::read_dir(world.folder()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, next.join(path.file_name().unwrap())).unwrap();
    }
    fs::write(next.join("extra.yaml"), manifest("three")).unwrap();
    symlink(&next, parent.path().join("tmp")).unwrap();
    fs::rename(parent.path().join("tmp"), &current).unwrap();
    becomes(&program, &world, "three", 200).await;
    // And from then on at once.
    write_at_once(&next.join("extra.yaml"), &manifest("four")).unwrap();
    let what = "four answers 200";
    let took = wait::until(what, || async { Ok(status(&program, &world, "four").await == 200) }).await.unwrap();
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_read_is_an_error_that_says_so() {
    let (status, _, error) = Program::run(&[
        "run",
        "--from-dir",
        "/no/such/folder",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ])
    .unwrap();
    assert!(!status.success());
    assert!(error.contains("/no/such/folder"), "{error}");
    let (status, _, error) = Program::run(&["run", "--from-dir", "/tmp", "--listen", "nonsense"]).unwrap();
    assert!(!status.success());
    assert!(error.contains("--listen nonsense"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_takes_little_memory() {
    const APPLICATIONS: usize = 2_000;
    const MOST: u64 = 70 << 20;
    let world = World::start().await.unwrap();
    let text: String = (0..APPLICATIONS).map(|i| format!("---\n{:#}\n", application(i))).collect();
    assert!(text.len() > 8 << 20, "{} bytes", text.len());
    world.write("many.yaml", &text).unwrap();
    let program = world.serve(&[]).unwrap();
    assert_eq!(status(&program, &world, "httpbin").await, 200);
    let peak = program.usage().peak().unwrap();
    println!("{} MB", peak >> 20);
    assert!(peak < MOST, "{} MB for a file of {} MB", peak >> 20, text.len() >> 20);
}
