//! The outer fences of CONTRIBUTING.md, over the whole repository.

use std::fs;
use std::path::{Path, PathBuf};
use tidegate_tests::tidy::{
    IMPORT_RULES, SourceFile, banned_words, dependencies_without_reason, files_below,
    forbidden_imports, long_functions, long_lines, production_line_count,
};

const CRATES: &[&str] = &["dataplane", "control", "bench", "tests"];
const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(extension: &str) -> Vec<SourceFile> {
    let below = |folder: &&str| files_below(&root(), folder, extension).unwrap();
    CRATES.iter().flat_map(below).collect()
}

/// The limit of a file's production code: two files that everybody reads have their own.
fn file_lines_max(path: &str) -> usize {
    match path {
        "dataplane/src/worker.rs" => 200,
        "control/src/main.rs" => 100,
        _ => FILE_LINES_MAX,
    }
}

fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn the_repository_is_seen() {
    let files = sources("rs");
    for expected in ["dataplane/src/lib.rs", "control/src/main.rs", "tests/tests/tidy.rs"] {
        assert!(files.iter().any(|f| f.path == expected), "{expected} is missing");
    }
}

#[test]
fn files_are_short() {
    let describe = |f: &SourceFile| format!("{}: {} lines", f.path, production_line_count(f));
    let files = [sources("rs"), sources("c")].concat();
    let is_long = |f: &&SourceFile| production_line_count(f) > file_lines_max(&f.path);
    let found: Vec<_> = files.iter().filter(is_long).map(describe).collect();
    assert_none(&found, "too many lines of production code");
}

#[test]
fn lines_are_short() {
    let files = [sources("rs"), sources("c"), sources("h")].concat();
    let found: Vec<_> = files.iter().flat_map(|f| long_lines(f, LINE_COLUMNS_MAX)).collect();
    assert_none(&found, "too long lines");
}

#[test]
fn functions_are_short() {
    let long = |f: &SourceFile| long_functions(f, FUNCTION_LINES_MAX).unwrap();
    let found: Vec<_> = sources("rs").iter().flat_map(long).collect();
    assert_none(&found, "too long functions");
}

#[test]
fn imports_run_one_way() {
    let forbidden = |f: &SourceFile| forbidden_imports(f, IMPORT_RULES).unwrap();
    let found: Vec<_> = sources("rs").iter().flat_map(forbidden).collect();
    assert_none(&found, "imports against the arrows of docs/ARCHITECTURE.md");
}

#[test]
fn nothing_is_left_unfinished() {
    let files = [sources("rs"), sources("c"), sources("h")].concat();
    let found: Vec<_> = files.iter().flat_map(banned_words).collect();
    assert_none(&found, "unfinished work");
}

#[test]
fn each_dependency_has_its_reason() {
    let without = |name: &&str| unexplained(&format!("{name}/Cargo.toml"));
    let found: Vec<String> = CRATES.iter().flat_map(without).collect();
    assert_none(&found, "dependencies without a reason");
}

fn unexplained(path: &str) -> Vec<String> {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let found = dependencies_without_reason(&read(path), &read("Cargo.toml"));
    found.into_iter().map(|dependency| format!("{path}: {dependency}")).collect()
}

#[test]
fn lib_files_hold_no_logic() {
    let is_lib = |f: &&SourceFile| f.path.ends_with("/src/lib.rs");
    let functions = |f: &SourceFile| long_functions(f, 0).unwrap();
    let found: Vec<_> = sources("rs").iter().filter(is_lib).flat_map(functions).collect();
    assert_none(&found, "functions in lib.rs");
}
