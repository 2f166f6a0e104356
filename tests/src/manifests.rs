//! The manifests of `configs/kubernetes/base`, and what they grant.

use crate::api_server::Request;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Group, kind's plural and verb, as RBAC names them.
pub type Permission = (String, String, String);

/// The folder.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/kubernetes/base")
}

/// A manifest by its file's name.
///
/// # Errors
/// It is not there, or not YAML.
pub fn manifest(name: &str) -> Result<Value> {
    let path = folder().join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{}", path.display()))
}

/// What the ClusterRole grants.
///
/// # Errors
/// It is not there.
pub fn granted() -> Result<BTreeSet<Permission>> {
    let role = manifest("clusterrole.yaml")?;
    let mut granted = BTreeSet::new();
    for rule in role["rules"].as_array().context("rules")? {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                let verbs = words(&rule["verbs"]).into_iter();
                granted.extend(verbs.map(|verb| (group.clone(), resource.clone(), verb)));
            }
        }
    }
    Ok(granted)
}

/// What these requests need.
pub fn needed(requests: &[Request]) -> BTreeSet<Permission> {
    let permission = |r: &Request| (r.group.clone(), r.plural.clone(), r.verb.name().to_owned());
    requests.iter().map(permission).collect()
}

/// The texts of an array; none where there is no array.
pub fn words(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
