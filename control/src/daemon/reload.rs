//! SIGHUP: the configuration is read again. What runs is always one whole file: it is taken if all
//! that differs can change while packets flow, and else nothing of it is.

use crate::config::{Config, ConfigError};
use crate::daemon::control::Control;
use crate::fault::chain;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

/// Options that may change while packets flow, as the file has them: what the compiler reads at
/// each change of the cluster, and listeners. What sizes tables or starts threads is not among
/// them.
const LIVE: &[&str] = &[
    "adminBindAddress",
    "featureGates.AllowServiceExternalIPs",
    "healthzBindAddress",
    "interfaces",
    "loadBalancer.algorithm",
    "loadBalancer.maglev",
    "metrics.nativeHistograms",
    "metrics.perBackend",
    "metrics.perService",
    "metricsBindAddress",
    "nodePortAddresses",
];

/// How the configuration that runs came to be.
#[derive(Debug)]
pub(crate) struct ReloadStatus {
    /// Why the file was refused when it was read last; the one before it runs on.
    pub(crate) error: Option<String>,
    /// When the one that runs was read.
    pub(crate) read: SystemTime,
}

/// Why a file that is read again is not taken.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("change {} while running: restart tidegate, or take {} back", .0.join(", "), them(.0))]
    Restart(Vec<String>),
    #[error("compare the configurations")]
    Compare(#[from] serde_json::Error),
}

impl Default for ReloadStatus {
    fn default() -> Self {
        Self { error: None, read: SystemTime::now() }
    }
}

impl Control {
    /// Reads the configuration again. Whether there is something to compile.
    pub(super) fn reload(&mut self, file: &Path) -> bool {
        match next(&self.config, file) {
            Ok((config, changed)) => {
                tracing::info!(changed = changed.join(", "), "configuration read again");
                self.config = config;
                self.reload = ReloadStatus::default();
                self.signals.is_stale = true;
                !changed.is_empty()
            }
            Err(error) => {
                let error = format!("failed to {}", chain(&error));
                tracing::error!("{error}; the configuration of before runs on");
                self.reload.error = Some(error);
                false
            }
        }
    }
}

/// The configuration of `file`, and what differs from the one that runs.
fn next(config: &Config, file: &Path) -> Result<(Config, Vec<String>), ReloadError> {
    let next = Config::from_file(file)?;
    let changed = differences(config, &next)?;
    let is_live = |name: &String| LIVE.contains(&name.as_str());
    let (live, fixed): (Vec<_>, Vec<_>) = changed.into_iter().partition(is_live);
    if fixed.is_empty() { Ok((next, live)) } else { Err(ReloadError::Restart(fixed)) }
}

/// The names of the options that differ: `group.option` where there are groups.
fn differences(a: &Config, b: &Config) -> Result<BTreeSet<String>, serde_json::Error> {
    let (a, b) = (serde_json::to_value(a)?, serde_json::to_value(b)?);
    let mut names = BTreeSet::new();
    for name in keys(&a, &b) {
        let (a, b) = (&a[&name], &b[&name]);
        let inner = keys(a, b).into_iter().filter(|inner| a[inner] != b[inner]);
        let inner: Vec<_> = inner.map(|inner| format!("{name}.{inner}")).collect();
        if inner.is_empty() && a != b {
            names.insert(name);
        } else {
            names.extend(inner);
        }
    }
    Ok(names)
}

/// The keys that either has, of those that are objects.
fn keys(a: &Value, b: &Value) -> BTreeSet<String> {
    let objects = [a, b].into_iter().filter_map(Value::as_object);
    objects.flat_map(|object| object.keys().cloned()).collect()
}

fn them(names: &[String]) -> &'static str {
    if names.len() == 1 { "it" } else { "them" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::InterfaceConfig;
    use std::fs;

    fn outcome(text: &str) -> (Vec<String>, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        let head = "apiVersion: tidegate.dev/v1alpha1\nkind: LoadBalancerConfiguration\n";
        fs::write(&file, format!("{head}{text}")).unwrap();
        match next(&Config::default(), &file) {
            Ok((_, changed)) => (changed, String::new()),
            Err(error) => (Vec::new(), chain(&error)),
        }
    }

    #[test]
    fn what_may_change_while_packets_flow_is_taken() {
        let text = "interfaces: [{name: eth1}]\nloadBalancer: {algorithm: random}\n";
        assert_eq!(outcome(text).0, ["interfaces", "loadBalancer.algorithm"]);
        assert_eq!(outcome(""), (vec![], String::new()));
    }

    #[test]
    fn what_needs_a_restart_is_named_and_nothing_is_taken() {
        let text = "interfaces: [{name: eth1}]\nconntrack: {maxFlows: 1024}\n\
                    adminSocket: /run/other.sock\n";
        let words = outcome(text).1;
        assert!(words.starts_with("change adminSocket, conntrack.maxFlows while"), "{words}");
        assert!(outcome("interfaces: 3").1.contains("interfaces"));
    }

    /// A name in the list that no option has would silently ask for a restart.
    #[test]
    fn every_live_option_exists() {
        let config = serde_json::to_value(Config::default()).unwrap();
        for name in LIVE {
            let path = format!("/{}", name.replace('.', "/"));
            assert!(config.pointer(&path).is_some(), "{name}");
        }
        let other = Config { interfaces: vec![InterfaceConfig::named("x")], ..Config::default() };
        let differ = differences(&Config::default(), &other).unwrap();
        assert_eq!(differ.into_iter().collect::<Vec<_>>(), ["interfaces"]);
    }
}
