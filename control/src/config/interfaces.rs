//! The interfaces to take packets from.

use super::cpu_list::Queues;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_dataplane::engine::{AttachMode, CopyMode};

/// One entry of `interfaces`. The first entry whose name matches decides.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InterfaceConfig {
    /// Exact name, glob (`veth*`), or `!glob` for interfaces never to touch.
    pub name: String,
    /// Receive queues to bind: `all`, `0-3` or `[0, 2]`.
    #[serde(default)]
    pub queues: Queues,
    /// Which XDP hook: `auto` (native, else skb), `native` or `skb` (slow).
    #[serde(default = "auto_attach", with = "AttachModeName")]
    #[schemars(with = "AttachModeName")]
    pub attach_mode: AttachMode,
    /// How packets reach user space: `auto` (zero-copy, else copy), `zero-copy` or `copy`.
    #[serde(default = "auto_copy", with = "CopyModeName")]
    #[schemars(with = "CopyModeName")]
    pub copy_mode: CopyMode,
    /// Refuse to run without zero-copy instead of falling back.
    #[serde(default)]
    pub require_zero_copy: bool,
    /// Who is behind it.
    #[serde(default)]
    pub role: Role,
}

/// Who is behind an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Clients and backends.
    #[default]
    Both,
    /// Clients only: no backend is reached through it.
    Client,
    /// Pods and nodes only: a glob attaches it only while a usable backend is behind it, or with
    /// `clusterIP: serve`. Cluster IPs are served here alone.
    Backend,
}

impl InterfaceConfig {
    /// The defaults for the interface of this name or glob.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            queues: Queues::All,
            attach_mode: AttachMode::Auto,
            copy_mode: CopyMode::Auto,
            require_zero_copy: false,
            role: Role::Both,
        }
    }

    /// Whether the entry names interfaces never to touch.
    pub fn is_exclusion(&self) -> bool {
        self.name.starts_with('!')
    }

    /// Whether the entry is one exact name.
    pub fn is_exact(&self) -> bool {
        !self.name.contains(['*', '?', '[', '!'])
    }

    /// Whether the interface `name` is meant, by inclusion or exclusion.
    pub fn matches(&self, name: &str) -> bool {
        let pattern = self.name.strip_prefix('!').unwrap_or(&self.name);
        glob::Pattern::new(pattern).is_ok_and(|p| p.matches(name))
    }

    /// The copy mode to ask the kernel for.
    pub fn effective_copy_mode(&self) -> CopyMode {
        if self.require_zero_copy { CopyMode::ZeroCopy } else { self.copy_mode }
    }
}

/// The entry that decides about the interface `name`; `None` where it is not to be touched.
pub fn interface_config<'a>(
    entries: &'a [InterfaceConfig],
    name: &str,
) -> Option<&'a InterfaceConfig> {
    let excluded = entries.iter().any(|e| e.is_exclusion() && e.matches(name));
    let entry = entries.iter().find(|e| !e.is_exclusion() && e.matches(name))?;
    (!excluded).then_some(entry)
}

fn auto_attach() -> AttachMode {
    AttachMode::Auto
}

fn auto_copy() -> CopyMode {
    CopyMode::Auto
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(remote = "AttachMode", rename_all = "lowercase")]
enum AttachModeName {
    Auto,
    Native,
    #[serde(rename = "skb")]
    Generic,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(remote = "CopyMode", rename_all = "kebab-case")]
enum CopyModeName {
    Auto,
    ZeroCopy,
    Copy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_match_decides_and_an_exclusion_always() {
        let entries = ["eth0", "!veth9", "veth*"].map(InterfaceConfig::named);
        let name = |n: &str| interface_config(&entries, n).map(|e| e.name.as_str());
        assert_eq!(name("eth0"), Some("eth0"));
        assert_eq!(name("veth1"), Some("veth*"));
        assert_eq!(name("veth9"), None);
        assert_eq!(name("eth1"), None);
    }
}
