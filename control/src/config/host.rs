//! What the configuration leaves to the host.

use std::env;
use std::fs;

/// The node's name: the override, else `NODE_NAME`, else the host name, lower case as Kubernetes
/// has it.
pub fn node_name(hostname_override: &str) -> String {
    let given = Some(hostname_override.trim().to_owned()).filter(|name| !name.is_empty());
    let from_environment = || env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    let from_kernel = || fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    given.or_else(from_environment).unwrap_or_else(from_kernel).trim().to_lowercase()
}
