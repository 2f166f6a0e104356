//! Imports run one way: tests, bench -> control -> dataplane, and the like inside each crate.

use super::SourceFile;
use super::source::is_test_only;
use anyhow::{Context as _, Result};
use syn::visit::{self, Visit};

/// What the files below a folder must not name.
#[derive(Debug, Clone, Copy)]
pub struct ImportRule {
    /// Path prefixes of the files.
    pub files: &'static [&'static str],
    /// Prefixes of paths that none of them may name, in code or in `use`.
    pub forbidden: &'static [&'static str],
}

/// The arrows of docs/ARCHITECTURE.md, each by what runs against it. `engine` also holds the words
/// (settings, errors) that the modules below share with it; only its machine is out of reach.
pub const IMPORT_RULES: &[ImportRule] = &[
    ImportRule {
        files: &["dataplane/"],
        forbidden: &["tidegate_control", "tidegate_bench", "tokio", "kube", "axum", "k8s_openapi"],
    },
    ImportRule { files: &["control/"], forbidden: &["tidegate_bench", "tidegate_tests"] },
    ImportRule { files: &["bench/"], forbidden: &["tidegate_tests"] },
    ImportRule {
        files: &["dataplane/src/pipeline/"],
        forbidden: &[
            "crate::xdp",
            "crate::rcu",
            "crate::engine",
            "crate::worker",
            "crossbeam",
            "io_uring",
            "libbpf_rs",
            "libc",
            "xsk_rs",
            "std::sync::Mutex",
            "std::sync::RwLock",
            "std::time::Instant",
            "std::time::SystemTime",
        ],
    },
    ImportRule {
        files: &[
            "dataplane/src/affinity.rs",
            "dataplane/src/snapshot/",
            "dataplane/src/flow_table/",
            "dataplane/src/packet/",
        ],
        forbidden: &[
            "crate::pipeline",
            "crate::worker",
            "crate::engine::Engine",
            "crate::xdp",
            "crate::rcu",
        ],
    },
    ImportRule {
        files: &["dataplane/src/xdp/"],
        forbidden: &["crate::pipeline", "crate::worker", "crate::engine::Engine"],
    },
    ImportRule {
        files: &["control/src/model/"],
        forbidden: &["crate::source", "crate::compile", "crate::netlink", "crate::daemon"],
    },
    ImportRule {
        files: &["control/src/source/"],
        forbidden: &["crate::compile", "crate::netlink", "crate::daemon", "crate::admin"],
    },
    ImportRule {
        files: &["control/src/compile/"],
        forbidden: &["crate::source", "crate::daemon", "crate::admin", "crate::cli"],
    },
];

/// Paths in `file` that the rules forbid, as `path: import`. Unit tests are free.
///
/// # Errors
/// The file is not Rust.
pub fn forbidden_imports(file: &SourceFile, rules: &[ImportRule]) -> Result<Vec<String>> {
    let tree = syn::parse_file(&file.text).with_context(|| format!("parse {}", file.path))?;
    let mut names = Names::default();
    names.visit_file(&tree);
    let applying = rules.iter().filter(|r| r.files.iter().any(|f| file.path.starts_with(f)));
    let forbidden: Vec<&str> = applying.flat_map(|rule| rule.forbidden).copied().collect();
    let is_bad = |name: &&String| forbidden.iter().any(|f| is_below(name, f));
    Ok(names.0.iter().filter(is_bad).map(|name| format!("{}: {name}", file.path)).collect())
}

fn is_below(name: &str, prefix: &str) -> bool {
    let rest = name.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// All paths that code names, with `core` and `alloc` written as `std`.
#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    fn push(&mut self, name: &str) {
        let (first, rest) = name.split_once("::").unwrap_or((name, ""));
        let first = if first == "core" || first == "alloc" { "std" } else { first };
        self.0.push(if rest.is_empty() { first.into() } else { format!("{first}::{rest}") });
    }

    fn push_tree(&mut self, prefix: &str, tree: &syn::UseTree) {
        let join = |ident: &syn::Ident| match prefix {
            "" => ident.to_string(),
            _ => format!("{prefix}::{ident}"),
        };
        match tree {
            syn::UseTree::Path(path) => self.push_tree(&join(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.push(&join(&name.ident)),
            syn::UseTree::Rename(rename) => self.push(&join(&rename.ident)),
            syn::UseTree::Glob(_) => self.push(prefix),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.push_tree(prefix, item));
            }
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_mod(&mut self, node: &'ast syn::ItemMod) {
        if !node.attrs.iter().any(is_test_only) {
            visit::visit_item_mod(self, node);
        }
    }

    fn visit_item_use(&mut self, node: &'ast syn::ItemUse) {
        if !node.attrs.iter().any(is_test_only) {
            self.push_tree("", &node.tree);
        }
    }

    fn visit_path(&mut self, node: &'ast syn::Path) {
        if node.segments.len() > 1 {
            let names: Vec<String> = node.segments.iter().map(|s| s.ident.to_string()).collect();
            self.push(&names.join("::"));
        }
        visit::visit_path(self, node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let file = SourceFile { path: path.into(), text: text.into() };
        forbidden_imports(&file, IMPORT_RULES).unwrap()
    }

    #[test]
    fn the_pipeline_has_no_clock_even_inside_a_group() {
        let text = "use std::{sync::Arc, time::{Duration, Instant}};";
        let expected = ["dataplane/src/pipeline/a.rs: std::time::Instant"];
        assert_eq!(found("dataplane/src/pipeline/a.rs", text), expected);
    }

    #[test]
    fn a_path_in_code_counts_as_an_import() {
        let text = "fn a() { crate::rcu::read(); core::time::Duration::ZERO; }";
        assert_eq!(found("dataplane/src/pipeline/a.rs", text).len(), 1);
        assert_eq!(found("dataplane/src/worker.rs", text), [""; 0]);
    }

    #[test]
    fn a_prefix_is_a_whole_name() {
        assert_eq!(found("control/src/model/a.rs", "use crate::sources::A;"), [""; 0]);
        assert_eq!(found("control/src/model/a.rs", "use crate::source::A;").len(), 1);
        assert_eq!(found("dataplane/src/a.rs", "use tokio::*;").len(), 1);
    }

    #[test]
    fn unit_tests_may_import_anything() {
        let text = "#[cfg(test)]\nmod tests { use std::time::Instant; }";
        assert_eq!(found("dataplane/src/pipeline/a.rs", text), [""; 0]);
    }
}
