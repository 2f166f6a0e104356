//! The files that the rules look at.

use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Words that mark unfinished work. In two parts each, so that this file may hold them.
const BANNED: &[(&str, &str)] =
    &[("todo", "!("), ("unimplemented", "!("), ("dbg", "!("), ("FIX", "ME")];

/// A file of the repository with its text.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Path below the repository's root, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// All files below `folder` whose name ends in `.extension`, sorted by path.
///
/// # Errors
/// A folder or file cannot be read, or is not UTF-8.
pub fn files_below(root: &Path, folder: &str, extension: &str) -> Result<Vec<SourceFile>> {
    let mut paths = Vec::new();
    collect(&root.join(folder), extension, &mut paths)?;
    paths.sort();
    paths.into_iter().map(|path| read(root, &path)).collect()
}

fn collect(folder: &Path, extension: &str, paths: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, extension, paths)?;
        } else if path.extension().is_some_and(|found| found == extension) {
            paths.push(path);
        }
    }
    Ok(())
}

fn read(root: &Path, path: &Path) -> Result<SourceFile> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let path = path.strip_prefix(root)?.to_string_lossy().into_owned();
    Ok(SourceFile { path, text })
}

/// Paths of the files that only tests see: those of `#[cfg(test)] mod name;`.
///
/// # Errors
/// A file is not Rust.
pub fn test_only_paths(files: &[SourceFile]) -> Result<BTreeSet<String>> {
    let mut paths = BTreeSet::new();
    for file in files {
        let tree = syn::parse_file(&file.text).with_context(|| format!("parse {}", file.path))?;
        let modules = tree.items.iter().filter_map(|item| match item {
            syn::Item::Mod(module) if module.content.is_none() => Some(module),
            _ => None,
        });
        let for_tests = modules.filter(|module| module.attrs.iter().any(is_test_only));
        paths.extend(for_tests.map(|m| format!("{}/{}.rs", children_of(&file.path), m.ident)));
    }
    Ok(paths)
}

/// The folder that holds the modules of the file at `path`.
fn children_of(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        _ => path.trim_end_matches(".rs").to_owned(),
    }
}

/// Whether this is `#[cfg(test)]`.
pub(super) fn is_test_only(attribute: &syn::Attribute) -> bool {
    let is_test = |list: &syn::MetaList| list.tokens.to_string() == "test";
    attribute.path().is_ident("cfg") && attribute.meta.require_list().is_ok_and(is_test)
}

/// Lines with a word that marks unfinished work, as `path:line: word`.
pub fn banned_words(file: &SourceFile) -> Vec<String> {
    let words: Vec<String> = BANNED.iter().map(|(a, b)| format!("{a}{b}")).collect();
    let numbered = file.text.lines().zip(1..);
    numbered
        .flat_map(|(line, number)| words.iter().map(move |word| (line, number, word)))
        .filter(|(line, _, word)| line.contains(word.as_str()))
        .map(|(_, number, word)| format!("{}:{number}: {word}", file.path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_work_is_found_with_its_line() {
        let text = format!("fn a() {{\n    {}{})\n}}\n", "todo", "!(");
        let file = SourceFile { path: "a.rs".into(), text };
        assert_eq!(banned_words(&file), [format!("a.rs:2: {}{}", "todo", "!(")]);
    }
    #[test]
    fn modules_for_tests_are_known_by_their_parent() {
        let file = |path: &str, text: &str| SourceFile { path: path.into(), text: text.into() };
        let files = [
            file("c/src/a/mod.rs", "#[cfg(test)]\nmod cases;\nmod other;"),
            file("c/src/b.rs", "#[cfg(test)]\nmod cases;\n#[cfg(test)]\nmod tests {}"),
        ];
        let expected = ["c/src/a/cases.rs", "c/src/b/cases.rs"];
        assert!(test_only_paths(&files).unwrap().iter().eq(expected));
    }
}
