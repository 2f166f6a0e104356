//! The manifests for a cluster: that they parse, fit together, and grant what tidegate asks for and
//! nothing else.

use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use tidegate_control::config::{Config, SourceKind};
use tidegate_tests::api_server::{ApiServer, Door, Effect, Fault};
use tidegate_tests::manifests::{folder, granted, manifest, needed, words};
use tidegate_tests::objects::{node, service};
use tidegate_tests::watching::{NODE, Watching};

#[test]
fn every_file_is_listed_and_parses() -> Result<()> {
    let kustomization = manifest("kustomization.yaml")?;
    let listed = words(&kustomization["resources"]).into_iter();
    let generated = words(&kustomization["configMapGenerator"][0]["files"]);
    let known: BTreeSet<String> =
        listed.chain(generated).chain(["kustomization.yaml".to_owned()]).collect();
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder())? {
        found.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    assert_eq!(found, known);
    for name in &found {
        assert!(manifest(name)?["kind"].is_string(), "{name}");
    }
    Ok(())
}

#[test]
fn the_config_is_valid_and_mounted_where_it_is_read() -> Result<()> {
    let path = folder().join("config.yaml");
    let config = Config::from_file(&path)?;
    assert_eq!(config.source.kind, SourceKind::Kubernetes);
    let pod = &manifest("daemonset.yaml")?["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(words(&container["args"]), ["run", "--config=/etc/tidegate/config.yaml"]);
    let mounts: BTreeSet<_> = container["volumeMounts"]
        .as_array()
        .context("mounts")?
        .iter()
        .filter_map(|mount| mount["mountPath"].as_str())
        .collect();
    let state = config.state_directory.to_str().context("a path")?;
    assert_eq!(mounts, BTreeSet::from(["/etc/tidegate", "/run/tidegate", state]));
    assert!(config.admin_socket.starts_with("/run/tidegate"));
    let probe = &container["readinessProbe"]["httpGet"];
    assert_eq!((&probe["port"], &probe["path"]), (&10271.into(), &"/readyz".into()));
    assert_eq!(container["env"][0]["name"], "NODE_NAME");
    let capabilities = words(&container["securityContext"]["capabilities"]["add"]);
    assert_eq!(capabilities, ["NET_ADMIN", "NET_RAW", "BPF", "PERFMON", "IPC_LOCK"]);
    Ok(())
}

#[test]
fn names_refer_to_each_other() -> Result<()> {
    let (account, role) = (manifest("serviceaccount.yaml")?, manifest("clusterrole.yaml")?);
    let binding = manifest("clusterrolebinding.yaml")?;
    let (set, kustomization) = (manifest("daemonset.yaml")?, manifest("kustomization.yaml")?);
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["name"], account["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["namespace"], account["metadata"]["namespace"]);
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], account["metadata"]["name"]);
    let map = &kustomization["configMapGenerator"][0]["name"];
    assert_eq!(pod["volumes"][0]["configMap"]["name"], *map);
    assert_eq!(kustomization["namespace"], manifest("namespace.yaml")?["metadata"]["name"]);
    Ok(())
}

/// Of the kinds that are watched, exactly what a watch asks for, by streaming lists and by pages;
/// of Events, to write them.
#[tokio::test]
async fn the_role_grants_what_is_asked_for_and_nothing_else() -> Result<()> {
    let mut asked = BTreeSet::new();
    for has_streaming in [true, false] {
        let server = ApiServer::start(Door::Open)?;
        server.apply(service("web", 30080))?;
        server.apply(node(NODE, &["192.0.2.1"]))?;
        if !has_streaming {
            server.fail(Fault::always(Effect::NoStreaming));
        }
        let mut watching = Watching::open(&server)?;
        watching.wait_until("the first state", |w| w.wholes == 1).await?;
        server.apply(service("new", 30081))?;
        watching.wait_until("a change", |w| w.services().len() == 2).await?;
        asked.extend(needed(&server.requests()));
    }
    for verb in ["create", "patch"] {
        asked.insert(("events.k8s.io".to_owned(), "events".to_owned(), verb.to_owned()));
    }
    assert_eq!(granted()?, asked);
    Ok(())
}
